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

// Whether neither of a packet's ports is one that no policy may stop, in whatever protocol and direction.
INLINE int is_no_failsafe(const struct packet *packet)
{
	const u8 *failsafes_of = VALUE(FAILSAFES);
	u64 answer = failsafes_of[packet->source_port], inbound = failsafes_of[packet->destination_port];

	return !(answer | inbound);
}

// A denied packet is dropped, unless it is one that no policy may stop, or may be one.
INLINE u32 deny(const struct packet *packet, u32 cause)
{
	const u8 *failsafes_of = VALUE(FAILSAFES), *concerning = failsafes_of + FAILSAFE_PROTOCOLS;
	const u8 classes = (1 << CLASS_NONE) - 1;
	u8 inbound, answer;

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

INLINE int in_v4_list(const struct packet *packet, int kind)
{
	return kind == KIND_TRIE ? in_v4_trie(packet) : in_v4_tables(packet);
}

INLINE int in_v6_list(const struct packet *packet, int kind)
{
	return kind == KIND_TRIE ? in_v6_trie(packet) : in_v6_tables(packet);
}

// What becomes of a packet whose source is denied under conditions only, if at all.
INLINE u32 judge_unlisted(const struct packet *packet, int conditions)
{
	u64 asked = conditions ? conditions_of(packet) : 0;

	if (!asked)
		return CAUSE_PASSED_UNLISTED;
	if (asked & fulfilled(packet))
		return deny(packet, CAUSE_DROPPED_PORT);
	return packet->ports_known ? CAUSE_PASSED_OTHER_PORT : CAUSE_PASSED_UNSURE;
}

// Counts a packet; tells whether what became of it is that it is dropped.
INLINE int counted(u32 cause)
{
	u32 place = cause;
	u64 *count = causes.lookup(&place);

	if (count)
		*count += 1;
	return cause >= CAUSE_DROPPED_IPV4;
}

// Whether a frame is dropped. A plain packet, whose ports are nobody's failsafe ports, goes straight on, by version: what
// comes together with other ways has to be kept, and asked for again.
INLINE int dropped(void *data, void *end, int v4_kind, int v6_kind, int conditions)
{
	struct packet packet = {.source_port = FAILSAFE_UNKNOWN, .destination_port = FAILSAFE_UNKNOWN};
	int version = plain_version(data, end), passed, listed;
	void *header = data + sizeof(struct ethhdr);

	if (version == 6 && parse_plain_ipv6(&packet, header, end) && is_no_failsafe(&packet)) {
		if (in_v6_list(&packet, v6_kind))
			return counted(CAUSE_DROPPED_IPV6);
		return counted(judge_unlisted(&packet, conditions));
	}
	if (version == 4 && parse_plain_ipv4(&packet, header, end) && is_no_failsafe(&packet)) {
		if (in_v4_list(&packet, v4_kind))
			return counted(CAUSE_DROPPED_IPV4);
		return counted(judge_unlisted(&packet, conditions));
	}
	passed = parse(&packet, data, end);
	if (passed >= 0)
		return counted(passed);
	listed = packet.version == 4 ? in_v4_list(&packet, v4_kind) : in_v6_list(&packet, v6_kind);
	if (listed)
		return counted(deny(&packet, packet.version == 4 ? CAUSE_DROPPED_IPV4 : CAUSE_DROPPED_IPV6));
	return counted(judge_unlisted(&packet, conditions));
}

INLINE int filter(struct xdp_md *context, int v4_kind, int v6_kind, int conditions)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	return dropped(data, end, v4_kind, v6_kind, conditions) ? XDP_DROP : XDP_PASS;
}

// One program for each way of looking up; what it does not use is not in it.
#define FILTER(v4, v6, conditions)                             \
	int filter_##v4##v6##conditions(struct xdp_md *context) \
	{                                                      \
		return filter(context, v4, v6, conditions);    \
	}

FILTER(1, 1, 0) FILTER(1, 1, 1) FILTER(1, 2, 0) FILTER(1, 2, 1)
FILTER(2, 1, 0) FILTER(2, 1, 1) FILTER(2, 2, 0) FILTER(2, 2, 1)
