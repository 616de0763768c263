// SPDX-License-Identifier: Apache-2.0
// Drops in the driver what untracked policy denies further up, and leaves to the stack what it cannot tell for sure.
// It never decides otherwise than the rules beneath it: a packet that may be a failsafe port's, another VLAN's, or
// is not whole, passes.
#define BPF_LICENSE Apache-2.0
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include "layout.h"
#include "parse.h"
#include "lists_v4.h"
#include "lists_v6.h"

BPF_PERCPU_ARRAY(causes, u64, CAUSES);

BPF_F_TABLE("array", u32, u8, failsafes, FAILSAFE_BYTES, BPF_F_MMAPABLE);

// Denials of some destination ports or protocols only. Each such condition has a bit; a source's bits are in tries, and
// those that a packet fulfils in these tables: a word for each port of a class, a word for each protocol.
BPF_F_TABLE("array", u32, u64, port_conditions, CLASS_NONE * 65536, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, protocol_conditions, 256, BPF_F_MMAPABLE);
BPF_F_TABLE("lpm_trie", struct key_v4, u64, v4_conditions, TRIE_ENTRIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct key_v6, u64, v6_conditions, TRIE_ENTRIES, BPF_F_NO_PREALLOC);

// A denied packet is dropped, unless it is one that no policy may stop, or may be one.
INLINE u32 deny(const struct packet *packet, u32 cause)
{
	u8 *failsafes_of = VALUE(FAILSAFES), *concerning = failsafes_of + FAILSAFE_PROTOCOLS, inbound, answer;
	const u8 classes = (1 << CLASS_NONE) - 1;

	concerning += packet->protocol;
	inbound = failsafes_of[packet->destination_port] & classes << FAILSAFE_INBOUND;
	answer = failsafes_of[packet->source_port] & classes << FAILSAFE_ANSWER;
	if (!((inbound | answer) & *concerning))
		return cause;
	return packet->ports_known ? CAUSE_PASSED_FAILSAFE : CAUSE_PASSED_UNSURE;
}

// The conditions that a packet fulfils for certain.
INLINE u64 fulfilled(const struct packet *packet)
{
	u32 class = class_of(packet->protocol), place = packet->protocol;
	u64 *by_protocol = protocol_conditions.lookup(&place), *by_port;
	u64 bits = by_protocol ? *by_protocol : 0;

	if (class == CLASS_NONE || !packet->ports_known)
		return bits;
	place = class << 16 | packet->destination_port;
	by_port = port_conditions.lookup(&place);
	return by_port ? bits | *by_port : bits;
}

INLINE u64 conditions_of(const struct packet *packet)
{
	struct key_v4 v4 = v4_key(packet);
	struct key_v6 v6 = v6_key(packet);
	u64 *bits;

	if (packet->version == 4) {
		bits = v4_conditions.lookup(&v4);
		KEEP_APART(4);
	} else {
		bits = v6_conditions.lookup(&v6);
		KEEP_APART(6);
	}
	return bits ? *bits : 0;
}

INLINE u32 judge(const struct packet *packet, int v4_kind, int v6_kind, int conditions)
{
	u64 asked;

	if (packet->version == 4) {
		if (v4_kind == KIND_TRIE ? in_v4_trie(packet) : in_v4_tables(packet))
			return deny(packet, CAUSE_DROPPED_IPV4);
	} else {
		if (v6_kind == KIND_TRIE ? in_v6_trie(packet) : in_v6_tables(packet))
			return deny(packet, CAUSE_DROPPED_IPV6);
	}
	asked = conditions ? conditions_of(packet) : 0;
	if (!asked)
		return CAUSE_PASSED_UNLISTED;
	if (asked & fulfilled(packet))
		return deny(packet, CAUSE_DROPPED_PORT);
	return packet->ports_known ? CAUSE_PASSED_OTHER_PORT : CAUSE_PASSED_UNSURE;
}

// What becomes of a frame and why, which is counted too.
INLINE u32 cause_of(void *data, void *end, int v4_kind, int v6_kind, int conditions)
{
	struct packet packet = {.source_port = FAILSAFE_UNKNOWN, .destination_port = FAILSAFE_UNKNOWN};
	int passed = -1;
	u32 cause;
	u64 *count;

	if (!parse_plain(&packet, data, end))
		passed = parse(&packet, data, end);
	cause = passed < 0 ? judge(&packet, v4_kind, v6_kind, conditions) : passed;
	count = causes.lookup(&cause);
	if (count)
		*count += 1;
	return cause;
}

INLINE int filter(struct xdp_md *context, int v4_kind, int v6_kind, int conditions)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	return cause_of(data, end, v4_kind, v6_kind, conditions) >= CAUSE_DROPPED_IPV4 ? XDP_DROP : XDP_PASS;
}

// One program for each way of looking up; what it does not use is not in it.
#define FILTER(v4, v6, conditions)                             \
	int filter_##v4##v6##conditions(struct xdp_md *context) \
	{                                                      \
		return filter(context, v4, v6, conditions);    \
	}

FILTER(1, 1, 0) FILTER(1, 1, 1) FILTER(1, 2, 0) FILTER(1, 2, 1)
FILTER(2, 1, 0) FILTER(2, 1, 1) FILTER(2, 2, 0) FILTER(2, 2, 1)
