// SPDX-License-Identifier: GPL-2.0-only
// Takes the TCP stack out from between two sockets of one machine, as far as no byte can be lost, moved or doubled.
//
// "join" notes each connection's two sockets when it is established, "send" sees what is written to them and hands it
// to the other one, or leaves it to TCP. A redirected message is read before anything that TCP has delivered, however
// long ago; so it may be redirected only when everything that TCP was ever given has been read. What the kernel keeps to
// itself is read at the offsets that its BTF tells (macros MEMBER_...): of the own socket by typed loads, which the
// verifier checks, of the other one by probe reads, for there is no reference to it.
#define BPF_LICENSE GPL
#include <uapi/linux/bpf.h>
#include "sockmap.h"

#define INLINE static inline __attribute__((always_inline))
#define OWN(type, base, member) (*(type *)((void *)(base) + (member)))
#define FLAGS_IN_POINTER 7ULL   // low bits of some pointers (net/sock.h: SK_USER_DATA_PTRMASK)
#define TCP_SEND_SHUTDOWN 2     // SEND_SHUTDOWN (net/sock.h)
#define FILE_NONBLOCK 04000     // O_NONBLOCK
#define PAGE_BYTES 4096         // larger pages only leave more to spare
#define SPARE_PAGES 1024        // for what all CPUs may be asking for at the same time
#define GROUP_LEVELS 8          // of cgroups that are looked at, from the reader's own upwards

// A connection by what its ends chose at random: it stays the same through any NAT, and in any namespace.
struct end {
	u32 initiator, acceptor; // their first sequence numbers
	u32 accepted;            // which of the two this is
};

// A socket as the other one finds it. The address may be of one that is gone: its cookie tells.
struct note {
	u64 sock, cookie;
};

struct flow {
	struct end own, peer;
	u64 sock, cookie;       // of the peer, once known
	u64 group;              // the peer's cgroup for memory
	u32 has_group;          // whether that is known: a socket gets its own when it is accepted
	u64 since_empty;        // bytes redirected since the peer's queue was last seen empty
	u32 by_tcp;             // how the last message went
	u32 redirected;         // whether any was redirected
	u32 written;            // own write_seq at the last redirect
};

struct counts {
	u64 of[COUNTS];
};

struct options {
	u32 setting;
	u32 queue_bytes;
};

struct sockets_table {
	struct end key;
	u32 leaf;
	int (*sock_hash_update)(void *, void *, u64);
	int (*msg_redirect_hash)(void *, void *, u64);
	u32 max_entries;
	int flags;
};

__attribute__((section("maps/sockhash"))) struct sockets_table sockets = {.max_entries = 65536};
BPF_TABLE("hash", struct end, struct note, notes, 65536);
BPF_TABLE("hash", u64, u32, members, 4096); // network namespaces whose sockets join, by cookie
BPF_TABLE("percpu_array", u32, struct counts, counts, 1);
BPF_TABLE("array", u32, struct options, options, 1);
BPF_SK_STORAGE(flows, struct flow);

INLINE void count(u32 what, u64 number)
{
	u32 place = 0;
	struct counts *all = counts.lookup(&place);

	if (all)
		all->of[what] += number;
}

INLINE u32 setting(void)
{
	u32 place = 0;
	struct options *given = options.lookup(&place);

	return given ? given->setting : SWITCH_OFF;
}

INLINE u64 word(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

INLINE u32 half(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

INLINE int leave(struct bpf_sock_ops *context)
{
	struct bpf_sock *sk = context->sk;
	struct flow *flow;

	if (!sk || context->args[1] != BPF_TCP_CLOSE)
		return 1;
	flow = flows.sk_storage_get(sk, 0, 0);
	if (flow)
		notes.delete(&flow->own);
	return 1;
}

INLINE int enter(struct bpf_sock_ops *context, u32 accepted)
{
	u64 namespace = bpf_get_netns_cookie(context);
	struct bpf_sock *sk = context->sk;
	struct tcp_sock *tcp;
	struct flow fresh = {}, *flow;
	struct note note = {};
	u32 mine, theirs;
	int refused;

	if (!sk || setting() == SWITCH_OFF || !members.lookup(&namespace))
		return 1;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 1;
	if (OWN(u64, tcp, MEMBER_UPPER_PROTOCOL)) {
		count(COUNT_SOCKETS_REFUSED, 1); // MPTCP; newer kernels do not take it either
		return 1;
	}
	mine = OWN(u32, tcp, MEMBER_WRITE_SEQ);
	theirs = OWN(u32, tcp, MEMBER_RCV_NXT);
	fresh.own.initiator = fresh.peer.initiator = accepted ? theirs : mine;
	fresh.own.acceptor = fresh.peer.acceptor = accepted ? mine : theirs;
	fresh.own.accepted = accepted;
	fresh.peer.accepted = !accepted;
	flow = flows.sk_storage_get(sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	note.sock = (u64)tcp;
	note.cookie = bpf_get_socket_cookie(context);
	refused = !flow || notes.insert(&fresh.own, &note);
	if (!refused) {
		// The note has to go with the socket: without being told of its end, it must not join.
		refused = bpf_sock_ops_cb_flags_set(context, context->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		if (!refused)
			refused = sockets.sock_hash_update(context, &fresh.own, BPF_NOEXIST);
		if (refused)
			notes.delete(&fresh.own);
	}
	count(refused ? COUNT_SOCKETS_REFUSED : COUNT_SOCKETS_JOINED, 1);
	return 1;
}

// sock_ops: a connection is established, or ends.
int join(struct bpf_sock_ops *context)
{
	switch (context->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		return enter(context, 0);
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		return enter(context, 1);
	case BPF_SOCK_OPS_STATE_CB:
		return leave(context);
	}
	return 1;
}

// An open connection of plain TCP; MPTCP and TLS in the kernel are protocols on top of it.
INLINE int is_open(struct tcp_sock *tcp)
{
	u8 state = OWN(u8, tcp, MEMBER_STATE);

	return (state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT) && !OWN(u32, tcp, MEMBER_ERROR) &&
	       !(OWN(u8, tcp, MEMBER_SHUTDOWN) & TCP_SEND_SHUTDOWN) && !OWN(u64, tcp, MEMBER_UPPER_PROTOCOL);
}

INLINE int find_peer(struct flow *flow)
{
	struct note *note;

	if (flow->sock)
		return 1;
	note = notes.lookup(&flow->peer);
	if (!note)
		return 0;
	flow->cookie = note->cookie;
	flow->sock = note->sock;
	return 1;
}

INLINE int is_waited_for(u64 socket)
{
	return word(socket + MEMBER_WAITERS) != socket + MEMBER_WAITERS;
}

// Whether somebody may be in the middle of a recv() that began with bytes of TCP: such a call would not look at
// redirected ones. Who never sleeps in recv() holds the socket's lock from the first byte on, and a redirect waits.
INLINE int has_reader(u64 peer)
{
	u64 socket = word(peer + MEMBER_SOCKET), file = socket ? word(socket + MEMBER_FILE) : 0;

	if (!file)
		return 1;
	if (half(file + MEMBER_FILE_FLAGS) & FILE_NONBLOCK)
		return 0;
	// It owns the lock, or waits, or both in between. Asked once each, one who goes from one to the other is missed.
	return is_waited_for(socket) || half(peer + MEMBER_LOCK_OWNED) || is_waited_for(socket);
}

#ifdef MEMBER_GROUP
// Whether the reader's cgroup, or one above it, is near a limit: version 1 counts what is TCP's apart, version 2 does not.
INLINE int is_near_limit(struct flow *flow, u32 size)
{
	u64 group, counter, pages = size / PAGE_BYTES + SPARE_PAGES;

	if (!flow->has_group) {
		flow->has_group = word(flow->sock + MEMBER_SOCKET) != 0; // asked first: it is accepted with its cgroup
		flow->group = word(flow->sock + MEMBER_GROUP) & ~FLAGS_IN_POINTER;
	}
	group = flow->group;
	if (!group)
		return 0;
	counter = group + MEMBER_GROUP_MEMORY;
#ifdef MEMBER_GROUP_TCP
	if (half(group + MEMBER_GROUP_COUNTS_TCP) & 0xff)
		counter = group + MEMBER_GROUP_TCP;
#endif
#pragma unroll
	for (int level = 0; level < GROUP_LEVELS; level++) {
		if (word(counter + MEMBER_COUNTED) + pages > word(counter + MEMBER_LIMIT))
			return 1;
		counter = word(counter + MEMBER_COUNTER_ABOVE);
		if (!counter)
			break;
	}
	return 0;
}
#endif

// Whether the reader may be refused memory for a message: its writer would be told so by an error, where TCP waits.
INLINE int is_short_of_memory(struct tcp_sock *tcp, struct flow *flow, u32 size)
{
	u64 pressure = OWN(u64, OWN(void *, tcp, MEMBER_PROTOCOL), MEMBER_PRESSURE);

	if (pressure && word(pressure))
		return 1;
#ifdef MEMBER_GROUP
	return is_near_limit(flow, size);
#else
	return 0;
#endif
}

// What has to be so for a message to be redirected; where it is not, why.
INLINE int obstacle(struct flow *flow, struct tcp_sock *tcp, u32 size, u64 *queued)
{
	u32 place = 0, written = OWN(u32, tcp, MEMBER_WRITE_SEQ), read;
	struct options *given = options.lookup(&place);
	u64 peer, psock;
	int empty;

	if (!given || given->setting != SWITCH_REDIRECT)
		return COUNT_PASSED_SWITCH;
#ifdef NAIVE // what correctness costs is measured against this; it loses bytes, and nothing else uses it
	return -1;
#endif
	if (!is_open(tcp))
		return COUNT_PASSED_STATE;
	if (!find_peer(flow))
		return COUNT_PASSED_PEER;
	peer = flow->sock;
	psock = word(peer + MEMBER_USER_DATA) & ~FLAGS_IN_POINTER;
	if (word(peer + MEMBER_COOKIE) != flow->cookie || !psock)
		return COUNT_PASSED_PEER;
	empty = word(psock + MEMBER_QUEUE) == psock + MEMBER_QUEUE;
	read = half(peer + MEMBER_COPIED_SEQ);
	if (flow->redirected && (s32)(read - flow->written) > 0 && !empty)
		count(COUNT_ORDER_VIOLATED, 1);
	if (read != written)
		return COUNT_PASSED_UNREAD;
	if (flow->by_tcp && has_reader(peer))
		return COUNT_PASSED_READER;
	if (empty)
		flow->since_empty = 0;
#ifdef MEMBER_QUEUED
	*queued = empty ? 0 : half(psock + MEMBER_QUEUED);
#else
	*queued = flow->since_empty;
#endif
	if (!empty && *queued + size > given->queue_bytes)
		return COUNT_PASSED_QUEUE;
	return is_short_of_memory(tcp, flow, size) ? COUNT_PASSED_PRESSURE : -1;
}

INLINE int by_tcp(struct flow *flow, u32 why, u32 size)
{
	count(why, 1);
	count(COUNT_PASSED_BYTES, size);
	if (flow->redirected && !flow->by_tcp)
		count(COUNT_DOWNGRADES, 1);
	flow->by_tcp = 1;
	return SK_PASS;
}

// sk_msg: something is sent on a socket of the map.
int send(struct sk_msg_md *message)
{
	struct bpf_sock *sk = message->sk;
	u32 size = message->size, place = 0;
	struct counts *all;
	struct tcp_sock *tcp;
	struct flow *flow;
	u64 queued = 0;
	int why, verdict;

	if (!sk)
		return SK_PASS;
	flow = flows.sk_storage_get(sk, 0, 0);
	if (!flow)
		return SK_PASS;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return SK_PASS;
	why = obstacle(flow, tcp, size, &queued);
	if (why >= 0)
		return by_tcp(flow, why, size);
	verdict = sockets.msg_redirect_hash(message, &flow->peer, BPF_F_INGRESS);
	if (verdict != SK_PASS)
		return by_tcp(flow, COUNT_PASSED_REFUSED, size);
	flow->written = OWN(u32, tcp, MEMBER_WRITE_SEQ);
	flow->since_empty += size;
	flow->redirected = 1;
	all = counts.lookup(&place);
	if (!all)
		return SK_PASS;
	all->of[COUNT_UPGRADES] += flow->by_tcp;
	flow->by_tcp = 0;
	all->of[COUNT_REDIRECTED_MESSAGES]++;
	all->of[COUNT_REDIRECTED_BYTES] += size;
	if (all->of[COUNT_QUEUE_DEEPEST] < queued + size)
		all->of[COUNT_QUEUE_DEEPEST] = queued + size;
	return SK_PASS;
}
