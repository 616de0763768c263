/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of HTTP/2 (RFC 9113, prior knowledge) as the load generator needs, for both ends: one request at a time on a
 * client's connection, any number on a server's, flow control obeyed. Header blocks are not decoded but for the status,
 * which comes first; with a table of no entries (HEADER_TABLE_SIZE 0) nothing in them depends on earlier ones.
 */

enum frame { DATA, HEADERS, PRIORITY, RST_STREAM, H2_SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };
enum { FRAME_HEADER = 9, FRAME_MAX = 16384, STREAMS = 4096, WINDOW_MAX = 0x7fffffff, WINDOW_FIRST = 65535 };

static const char H2_PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct stream {
    uint32_t id;
    size_t seen; // bytes of its body that have come
    size_t left; // bytes of ours that are to be sent
    int64_t window;
};

struct http2 {
    int is_client;
    size_t preface_left;
    uint32_t next;             // stream of the next request
    int64_t window, initial;   // what may be sent on the connection; what a new stream may
    size_t consumed;           // bytes that the other end was not given back yet
    size_t held;               // bytes of the frame that comes in
    unsigned char frame[FRAME_HEADER + FRAME_MAX];
    char *out;
    size_t out_length, out_sent, out_room;
    size_t sending;            // how many streams have something to send
    struct stream streams[STREAMS];
};

static struct stream *h2_stream(struct http2 *h, uint32_t id) {
    struct stream *found = &h->streams[id / 2 % STREAMS];
    if (found->id != id) {
        if (found->id)
            errno = 0, die("too many streams at once");
        *found = (struct stream){.id = id, .window = h->initial};
    }
    return found;
}

static void h2_put(struct http2 *h, const void *data, size_t length) {
    if (h->out_length + length > h->out_room) {
        h->out_room = 2 * (h->out_length + length);
        h->out = realloc(h->out, h->out_room);
        if (!h->out)
            die("memory");
    }
    memcpy(h->out + h->out_length, data, length);
    h->out_length += length;
}

static void h2_frame(struct http2 *h, enum frame type, int flags, uint32_t id, const void *payload, size_t length) {
    unsigned char header[FRAME_HEADER] = {length >> 16, length >> 8, length, type, flags, id >> 24, id >> 16, id >> 8, id};
    h2_put(h, header, sizeof(header));
    h2_put(h, payload, length);
}

static void h2_give_back(struct http2 *h, uint32_t bytes) {
    uint32_t told = htonl(bytes);
    h2_frame(h, WINDOW_UPDATE, 0, 0, &told, sizeof(told));
}

static struct http2 *h2_new(int is_client) {
    // HEADER_TABLE_SIZE 0, INITIAL_WINDOW_SIZE as large as can be
    static const unsigned char settings[] = {0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff};
    struct http2 *h = calloc(1, sizeof(*h));
    if (!h)
        die("memory");
    h->is_client = is_client, h->next = 1;
    h->window = h->initial = WINDOW_FIRST;
    h->preface_left = is_client ? 0 : sizeof(H2_PREFACE) - 1;
    if (is_client)
        h2_put(h, H2_PREFACE, sizeof(H2_PREFACE) - 1);
    h2_frame(h, H2_SETTINGS, 0, 0, settings, sizeof(settings));
    h2_give_back(h, WINDOW_MAX - WINDOW_FIRST);
    return h;
}

static void h2_say(struct http2 *h, struct stream *s, const void *block, size_t length) {
    h2_frame(h, HEADERS, END_HEADERS | (size ? 0 : END_STREAM), s->id, block, length);
    s->left = size;
    h->sending += size > 0;
}

static void h2_request(struct http2 *h) {
    // :method POST, :scheme http, :path /, :authority load
    static const unsigned char block[] = {0x83, 0x86, 0x84, 0x01, 4, 'l', 'o', 'a', 'd'};
    h2_say(h, h2_stream(h, h->next), block, sizeof(block));
    h->next += 2;
}

static void h2_answer(struct http2 *h, struct stream *s) {
    static const unsigned char block[] = {0x88}; // :status 200
    h2_say(h, s, block, sizeof(block));
}

// Turns bodies into frames as far as windows allow.
static void h2_fill(struct http2 *h) {
    for (size_t i = 0; h->sending && h->window > 0 && i < STREAMS; i++) {
        struct stream *s = &h->streams[i];
        while (s->left && s->window > 0 && h->window > 0) {
            int64_t length = s->left < FRAME_MAX ? s->left : FRAME_MAX;
            length = length < s->window ? length : s->window;
            length = length < h->window ? length : h->window;
            h2_frame(h, DATA, length == (int64_t)s->left ? END_STREAM : 0, s->id, body + (size - s->left) % PATTERN, length);
            s->left -= length, s->window -= length, h->window -= length;
            if (s->left)
                continue;
            h->sending--;
            if (!h->is_client)
                s->id = 0;
        }
    }
}

// Writes what is due; 0 when the connection is gone.
static int h2_flush(struct http2 *h, int fd, int *more) {
    h2_fill(h);
    while (h->out_sent < h->out_length) {
        ssize_t done = send(fd, h->out + h->out_sent, h->out_length - h->out_sent, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN)
            return 0;
        if (done < 0)
            break;
        h->out_sent += done;
    }
    if (h->out_sent == h->out_length)
        h->out_sent = h->out_length = 0;
    *more = h->out_length > 0;
    return 1;
}

static void h2_settings(struct http2 *h, const unsigned char *payload, size_t length) {
    for (size_t i = 0; i + 6 <= length; i += 6) {
        uint32_t value = (uint32_t)payload[i + 2] << 24 | payload[i + 3] << 16 | payload[i + 4] << 8 | payload[i + 5];
        if ((payload[i] << 8 | payload[i + 1]) != 4)
            continue;
        for (size_t place = 0; place < STREAMS; place++)
            h->streams[place].window += (int64_t)value - h->initial;
        h->initial = value;
    }
    h2_frame(h, H2_SETTINGS, ACK, 0, "", 0);
}

static void h2_check_status(const unsigned char *block, size_t length) {
    size_t place = 0;
    while (place < length && (block[place] & 0xe0) == 0x20) // a change of the table's size
        place++;
    if (place == length || block[place] != 0x88)
        errno = 0, die("answer: its status is not 200");
}

static void h2_check_body(struct http2 *h, struct stream *s, const unsigned char *data, size_t length) {
    if (s->seen + length > size || memcmp(data, body + s->seen % PATTERN, length))
        errno = 0, die("bytes that came");
    s->seen += length, h->consumed += length;
    if (h->consumed > WINDOW_MAX / 2) {
        h2_give_back(h, h->consumed);
        h->consumed = 0;
    }
}

// Takes one whole frame; how many messages it completed.
static size_t h2_take_frame(struct http2 *h, unsigned char type, unsigned char flags, uint32_t id, size_t length) {
    const unsigned char *payload = h->frame + FRAME_HEADER;
    if (type == RST_STREAM || type == GOAWAY)
        errno = 0, die("the other end gives up");
    if (type == H2_SETTINGS && !(flags & ACK))
        h2_settings(h, payload, length);
    if (type == PING && !(flags & ACK))
        h2_frame(h, PING, ACK, 0, payload, length);
    if (type == WINDOW_UPDATE) {
        int64_t more = (payload[0] & 0x7f) << 24 | payload[1] << 16 | payload[2] << 8 | payload[3];
        struct stream *s = &h->streams[id / 2 % STREAMS];
        if (!id)
            h->window += more;
        else if (s->id == id)
            s->window += more;
    }
    if (type != DATA && type != HEADERS)
        return 0;
    size_t padding = flags & PADDED ? payload[0] : 0, skip = flags & PADDED ? 1 : 0;
    struct stream *s = h2_stream(h, id);
    if (type == HEADERS && h->is_client)
        h2_check_status(payload + skip + (flags & WITH_PRIORITY ? 5 : 0), length - skip - padding);
    if (type == DATA)
        h2_check_body(h, s, payload + skip, length - skip - padding);
    if (!(flags & END_STREAM))
        return 0;
    if (s->seen != size)
        errno = 0, die("a body that ends early");
    s->seen = 0;
    if (h->is_client)
        s->id = 0;
    else
        h2_answer(h, s);
    return 1;
}

// Takes what came in; how many messages it completed.
static size_t h2_take(struct http2 *h, const char *data, size_t length) {
    size_t complete = 0;
    while (length) {
        if (h->preface_left) {
            size_t skipped = length < h->preface_left ? length : h->preface_left;
            h->preface_left -= skipped, data += skipped, length -= skipped;
            continue;
        }
        unsigned char *f = h->frame;
        size_t whole = FRAME_HEADER;
        if (h->held >= FRAME_HEADER)
            whole += (size_t)f[0] << 16 | f[1] << 8 | f[2];
        if (whole > sizeof(h->frame))
            errno = 0, die("a frame that is too long");
        size_t part = whole - h->held < length ? whole - h->held : length;
        memcpy(f + h->held, data, part);
        h->held += part, data += part, length -= part;
        whole = FRAME_HEADER + (h->held < FRAME_HEADER ? 0 : (size_t)f[0] << 16 | f[1] << 8 | f[2]);
        if (h->held < FRAME_HEADER || h->held < whole)
            continue;
        uint32_t id = (uint32_t)(f[5] & 0x7f) << 24 | f[6] << 16 | f[7] << 8 | f[8];
        complete += h2_take_frame(h, f[3], f[4], id, whole - FRAME_HEADER);
        h->held = 0;
    }
    return complete;
}
