// SPDX-License-Identifier: Apache-2.0
//
// The load of "policylab bench sidecar": one program for both ends, so that what is compared differs in nothing else.
//
//   sidecar_load server ADDRESS PORT PROTOCOL SIZE
//       answers each message with one of the same size; prints "ready" once it listens; ends when stdin is closed
//   sidecar_load client ADDRESS PORT PROTOCOL SIZE CONNECTIONS
//       connects and exchanges one message on each connection; for each line "SECONDS RATE" on stdin it exchanges messages that long, waits for the last answers and
//       prints one line of JSON: answers a second, how many there were in all, microseconds of latency; "p999" is that of all lines with a RATE
//
// PROTOCOL is tcp (SIZE bytes each way), http1 or http2 (a POST and its answer with a body of SIZE bytes) or stream (SIZE bytes
// a write, one way; the server only counts). With RATE 0 each connection sends its next request when it has the answer
// to the last one. With RATE > 0 requests are due at fixed times, that many a second over all connections, and a
// latency counts from when the request was due, not from when it was sent: a stall is in the figures of all requests
// that had to wait for it (no coordinated omission). Both ends are single-threaded and check every byte that they get against
// the pattern that was sent. They do not block, except on a connection that is the only one: there they sleep in recv(), as who has
// one connection would, and not in epoll_wait(), whose cost is no part of what is compared.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum protocol { TCP, HTTP1, HTTP2, STREAM };
enum { WARM = 20000000, PATIENCE = 100000000 }; // nanoseconds
// So many messages on an only connection, and a server looks for no others any more until that one ends. A client asks once on each of
// its connections before it asks again on any. (A limit of time for recv() would do, too, and cost a timer each time.)
enum { ALONE = 100 };
enum { HEADER_MAX = 4096, CHUNK = 256 * 1024, EVENTS = 512, PATTERN = 251 /* a prime: shifted bytes do not match */ };

struct http2;

struct connection {
    int fd;
    int writable;        // EPOLLOUT is asked for
    size_t unsent;       // bytes of the current message, or messages, not written yet
    size_t sent;         // where in the current message writing stands
    size_t header_length; // of the message that comes in, as far as it has been read
    size_t body_left;    // of the message that comes in
    size_t body_seen;
    int in_body;
    int waiting;         // a request is under way
    int blocking;        // it is the only one: recv() and send() sleep
    int answers;         // that were given on it
    uint64_t due;        // when the request under way was due
    uint64_t next_due;   // when the next one is
    char header[HEADER_MAX];
    struct http2 *http2; // where that is spoken
};

// Latencies by powers of two, each divided into 64: under 1.6 % off.
enum { STEPS = 64, BUCKETS = 40 * STEPS };

static enum protocol protocol;
static size_t size, message_size;
static char *message, *body;
static char chunk[CHUNK];
static int poller, going_on;
static uint64_t histogram[BUCKETS], overall[BUCKETS], answered, overall_answered, exchanged;

static void die(const char *what) {
    fprintf(stderr, "sidecar_load: %s: %s\n", what, errno ? strerror(errno) : "not what was expected");
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

#include "sidecar_http2.h"

static void count_latency(uint64_t nanoseconds) {
    unsigned shift = nanoseconds < STEPS ? 0 : 63 - __builtin_clzll(nanoseconds) - 6 + 1;
    uint64_t step = nanoseconds >> shift; // 0 to 63 at shift 0, else 32 to 63
    size_t bucket = shift * STEPS + step;
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

static double percentile(const uint64_t *counts, uint64_t all, double part) {
    uint64_t wanted = (uint64_t)(all * part), seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        if ((seen += counts[bucket]) > wanted)
            return (double)((bucket % STEPS) << bucket / STEPS) / 1000;
    return 0;
}

static void prepare_message(const char *first_line) {
    char header[256] = "";
    if (protocol == HTTP1)
        snprintf(header, sizeof(header), "%s\r\nContent-Length: %zu\r\n\r\n", first_line, size);
    size_t length = strlen(header);
    message_size = length + size;
    message = malloc(message_size + PATTERN);
    body = malloc(size + CHUNK + PATTERN);
    if (!message || !body)
        die("memory");
    memcpy(message, header, length);
    for (size_t i = 0; i < size + CHUNK + PATTERN; i++)
        body[i] = (char)(i % PATTERN);
    memcpy(message + length, body, size);
}

static void watch(struct connection *c, int writable, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event))
        die("epoll_ctl");
    c->writable = writable;
}

// Writes what is due; 0 when the connection is gone.
static int write_out(struct connection *c) {
    if (c->http2) {
        int more;
        if (!h2_flush(c->http2, c->fd, &more))
            return 0;
        if (c->writable != more)
            watch(c, more, EPOLL_CTL_MOD);
        return 1;
    }
    while (c->unsent) {
        size_t length = message_size - c->sent < c->unsent ? message_size - c->sent : c->unsent;
        ssize_t done = send(c->fd, message + c->sent, length, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            break;
        if (done < 0)
            return 0;
        c->unsent -= done;
        c->sent = (c->sent + done) % message_size;
    }
    if (c->writable != (c->unsent > 0))
        watch(c, c->unsent > 0, EPOLL_CTL_MOD);
    return 1;
}

// Takes header bytes up to the empty line; how many it took.
static size_t take_header(struct connection *c, const char *data, size_t length) {
    size_t took = 0;
    while (took < length && !c->in_body) {
        if (c->header_length == HEADER_MAX - 1)
            errno = 0, die("header too long");
        c->header[c->header_length++] = data[took++];
        if (c->header_length < 4 || memcmp(c->header + c->header_length - 4, "\r\n\r\n", 4))
            continue;
        c->header[c->header_length] = 0;
        if (!strncmp(c->header, "HTTP/", 5) && strncmp(c->header + 8, " 200", 4))
            errno = 0, fputs(c->header, stderr), die("answer");
        const char *line = strcasestr(c->header, "\ncontent-length:");
        if (!line)
            errno = 0, fputs(c->header, stderr), die("header without content-length");
        c->body_left = strtoul(line + 16, NULL, 10);
        c->in_body = 1;
    }
    return took;
}

// Takes what came in; how many messages it completed.
static size_t take(struct connection *c, const char *data, size_t length) {
    size_t complete = 0;
    for (;;) {
        if (!c->in_body && protocol == HTTP1) {
            size_t took = take_header(c, data, length);
            data += took, length -= took;
            if (!c->in_body)
                return complete;
        } else if (!c->in_body) {
            if (!length)
                return complete;
            c->body_left = size, c->in_body = 1;
        }
        size_t part = length < c->body_left ? length : c->body_left;
        if (memcmp(data, body + c->body_seen % PATTERN, part))
            errno = 0, die("bytes that came");
        data += part, length -= part;
        c->body_left -= part, c->body_seen += part;
        if (c->body_left)
            return complete;
        c->in_body = 0, c->body_seen = 0, c->header_length = 0;
        complete++;
    }
}

// Reads what is there; how many messages came, or -1 when the connection is gone. After a short read there may be more,
// and then there is another event: epoll is level-triggered here. Who may sleep stops at the end of a message.
static long read_in(struct connection *c) {
    long complete = 0;
    for (;;) {
        ssize_t length = recv(c->fd, chunk, CHUNK, 0);
        if (length < 0 && errno == EAGAIN)
            return complete;
        if (length <= 0)
            return -1;
        complete += c->http2 ? h2_take(c->http2, chunk, length) : take(c, chunk, length);
        if (length < CHUNK || (c->blocking && complete))
            return complete;
    }
}

// Whether a connection that is the only one may sleep in recv().
static int may_block(size_t connections) {
    return connections == 1 && (protocol == TCP || protocol == HTTP1);
}

static void set_blocking(struct connection *c, int blocking) {
    if (c->blocking != blocking && fcntl(c->fd, F_SETFL, blocking ? 0 : O_NONBLOCK))
        die("O_NONBLOCK");
    c->blocking = blocking;
}

static int new_socket(const char *address, const char *port, struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(address, port, &hints, found))
        errno = 0, die("address");
    int fd = socket((*found)->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
        die("socket");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
        die("TCP_NODELAY");
    return fd;
}

static struct connection *new_connection(int fd, int is_client) {
    struct connection *c = calloc(1, sizeof(*c));
    if (!c)
        die("memory");
    c->fd = fd;
    if (protocol == HTTP2)
        c->http2 = h2_new(is_client);
    watch(c, 0, EPOLL_CTL_ADD);
    return c;
}

static void free_connection(struct connection *c) {
    if (c->http2)
        free(c->http2->out);
    free(c->http2);
    free(c);
}

// Answers what has come, and more of it if nobody else is connected; 0 when the connection is gone.
static int answer(struct connection *c, size_t connections) {
    for (;;) {
        long complete = read_in(c);
        if (complete > 0)
            c->answers += complete;
        if (complete > 0 && !c->http2 && protocol != STREAM)
            c->unsent += complete * message_size;
        if (complete < 0 || !write_out(c))
            return 0;
        if (c->answers < ALONE || c->unsent || !may_block(connections))
            return 1;
        set_blocking(c, 1);
    }
}

static void serve(const char *address, const char *port) {
    struct addrinfo *where;
    struct epoll_event events[EVENTS];
    struct connection listener = {.fd = new_socket(address, port, &where)}, input = {.fd = STDIN_FILENO};
    size_t connections = 0;
    if (bind(listener.fd, where->ai_addr, where->ai_addrlen) || listen(listener.fd, 1024))
        die("listen");
    watch(&listener, 0, EPOLL_CTL_ADD);
    watch(&input, 0, EPOLL_CTL_ADD);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &input)
                return;
            if (c == &listener) {
                int fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd >= 0)
                    new_connection(fd, 0), connections++;
                continue;
            }
            if (!answer(c, connections)) {
                close(c->fd);
                free_connection(c);
                connections--;
            }
        }
    }
}

static void request(struct connection *c, uint64_t due) {
    c->due = due;
    c->waiting = 1;
    if (c->http2)
        h2_request(c->http2);
    else
        c->unsent = message_size;
    if (!write_out(c))
        die("send");
}

// Writes whole messages until there is no room, or for a while.
static void stream(struct connection *c, int counting) {
    for (size_t messages = 0; messages < 64;) {
        ssize_t done = send(c->fd, message + c->sent, message_size - c->sent, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0)
            die("send");
        c->sent = (c->sent + done) % message_size;
        if (!c->sent)
            messages++, exchanged++, answered += counting;
    }
}

// An answer has come; tells when.
static uint64_t came(struct connection *c, uint64_t interval, int counting) {
    uint64_t time = now();

    c->waiting = 0;
    exchanged++;
    answered += counting;
    if (counting)
        count_latency(time - c->due);
    if (going_on && !interval)
        request(c, time);
    return time;
}

// One round of the loop: what came, and what is due now; "interval" is 0 in a closed loop. Tells what time it is.
static uint64_t turn(struct connection **all, size_t count, uint64_t interval, int counting) {
    struct epoll_event events[EVENTS];
    uint64_t soonest = UINT64_MAX, time = interval ? now() : 0;
    if (all[0]->blocking) {
        long complete = read_in(all[0]);
        if (complete < 0)
            die("the connection has ended");
        return complete ? came(all[0], interval, counting) : now();
    }
    for (size_t i = 0; interval && i < count; i++) {
        struct connection *c = all[i];
        if (going_on && !c->waiting && c->next_due <= time) {
            request(c, c->next_due);
            c->next_due += interval;
        }
        if (!c->waiting && c->next_due < soonest)
            soonest = c->next_due;
    }
    int64_t wait = soonest != UINT64_MAX ? (int64_t)(soonest - now()) : PATIENCE;
    struct timespec timeout = {.tv_nsec = wait < 0 ? 0 : wait > PATIENCE ? PATIENCE : wait};
    // Who runs this has a limit of its own for answers that never come.
    int ready = epoll_pwait2(poller, events, EVENTS, interval ? &timeout : NULL, NULL);
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        long complete = read_in(c);
        if (complete < 0)
            die("a connection has ended");
        if (complete) {
            came(c, interval, counting);
        } else if (protocol == STREAM) {
            stream(c, counting);
        } else if ((c->http2 || c->unsent) && !write_out(c)) {
            die("send");
        }
    }
    return now();
}

static struct connection *connected(const char *address, const char *port) {
    struct addrinfo *where;
    int fd = new_socket(address, port, &where);
    if (connect(fd, where->ai_addr, where->ai_addrlen))
        die("connect");
    freeaddrinfo(where);
    if (fcntl(fd, F_SETFL, O_NONBLOCK))
        die("O_NONBLOCK");
    struct connection *c = new_connection(fd, 1);
    if (protocol == STREAM)
        watch(c, 1, EPOLL_CTL_MOD);
    return c;
}

static int is_waiting(struct connection **all, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (all[i]->waiting)
            return 1;
    return 0;
}

// Messages for so long; the first part of the time does not count.
static void exchange(struct connection **all, size_t count, double seconds, double rate) {
    uint64_t start = now(), warm = start + WARM, interval = rate > 0 ? (uint64_t)(1e9 * count / rate) : 0;
    memset(histogram, 0, sizeof(histogram));
    answered = exchanged = 0;
    set_blocking(all[0], !interval && may_block(count));
    for (size_t i = 0; i < count; i++) {
        all[i]->next_due = start + interval * i / count;
        if (!interval && protocol != STREAM)
            request(all[i], start);
    }
    going_on = 1;
    while (turn(all, count, interval, 0) < warm)
        ;
    start = now();
    while (turn(all, count, interval, 1) < start + (uint64_t)(seconds * 1e9))
        ;
    double spent = (double)(now() - start) / 1e9;
    uint64_t counted = answered;
    for (going_on = 0; is_waiting(all, count);)
        turn(all, count, interval, interval > 0); // what was due within the time has its latency, however late
    for (size_t bucket = 0; interval && bucket < BUCKETS; bucket++)
        overall[bucket] += histogram[bucket];
    overall_answered += interval ? answered : 0;
    printf("{\"rate\": %.3f, \"exchanged\": %llu, \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f}\n", counted / spent, (unsigned long long)exchanged,
           percentile(histogram, answered, 0.5), percentile(histogram, answered, 0.99),
           percentile(overall, overall_answered, 0.999));
    fflush(stdout);
}

static void ask(const char *address, const char *port, size_t count) {
    struct connection **all = calloc(count, sizeof(*all));
    char line[128];
    double seconds, rate;
    if (!all)
        die("memory");
    for (size_t i = 0; i < count; i++) {
        all[i] = connected(address, port);
        // At once: a proxy takes a connection on which nothing comes for one of another protocol.
        if (protocol != STREAM)
            request(all[i], now());
    }
    while (is_waiting(all, count))
        turn(all, count, 0, 0);
    while (fgets(line, sizeof(line), stdin))
        if (sscanf(line, "%lf %lf", &seconds, &rate) == 2)
            exchange(all, count, seconds, rate);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"tcp", "http1", "http2", "stream"};
    int server = argc == 6 && !strcmp(argv[1], "server");
    if (!server && !(argc == 7 && !strcmp(argv[1], "client")))
        errno = EINVAL, die("usage: see the head of its source");
    for (protocol = TCP; strcmp(names[protocol], argv[4]); protocol++)
        if (protocol == STREAM)
            errno = EINVAL, die(argv[4]);
    size = strtoul(argv[5], NULL, 10);
    prepare_message(server ? "HTTP/1.1 200 OK" : "POST / HTTP/1.1\r\nHost: load");
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (server)
        serve(argv[2], argv[3]);
    else
        ask(argv[2], argv[3], strtoul(argv[6], NULL, 10));
    return 0;
}
