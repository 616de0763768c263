/* SPDX-License-Identifier: Apache-2.0 */
/* From a frame to what a policy asks for: who sent it, which protocol, which ports. Every read is checked first. */
#ifndef POLICYLAB_PARSE_H
#define POLICYLAB_PARSE_H

#include "layout.h"

#define INLINE static inline __attribute__((always_inline))

#define TAGS 2 /* of VLANs; the kernel takes any number, a frame with more is left to it */
#define EXTENSIONS 8 /* of IPv6; a packet with more is left to the kernel */

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_TAG 0x8100
#define ETHERTYPE_SERVICE_TAG 0x88a8

#define PROTOCOL_UNKNOWN 256
#define SOURCE_AT 8 /* in a header of IPv6 */

/* Addresses and ports are as they stand in the packet. */
struct packet {
	u64 source_high; /* of IPv6 */
	u64 source_low; /* of IPv6, or all of IPv4 */
	u64 version; /* 4 or 6 */
	u64 protocol; /* a number, or PROTOCOL_UNKNOWN */
	u64 ports_known;
	u64 source_port, destination_port; /* FAILSAFE_UNKNOWN where they are not known */
};

struct tag {
	__be16 control, inner;
};

/* Take the headers off in turn. Returns a cause to pass for, or -1 with the packet filled in. */

INLINE u32 class_of(u32 protocol)
{
	return protocol == 6 ? CLASS_TCP : protocol == 17 ? CLASS_UDP : protocol == 132 ? CLASS_SCTP : CLASS_NONE;
}

/*
 * A length of 16 bits, bounded for the verifier: older ones (6.1 among them) forget at a swap of bytes that no more are
 * left, and the compiler, which does not, would drop a mask written in C.
 */
INLINE u64 length_of(__be16 value)
{
	u64 length = bpf_ntohs(value);

	asm volatile("%0 &= 0xffff" : "+r"(length));
	return length;
}

/* Eight bytes at a place that need not be a multiple of eight, which the compiler would make two reads of. */
INLINE u64 eight_bytes(const void *from, const int offset)
{
	u64 value;

	asm("%0 = *(u64 *)(%1 + %2)" : "=r"(value) : "r"(from), "i"(offset));
	return value;
}

/* The ports stand in the first four bytes behind all headers, in every protocol that has them. */
INLINE void read_ports(struct packet *packet, void *at, void *end, u32 room)
{
	__be16 *ports = at;

	if (class_of(packet->protocol) == CLASS_NONE || room < 4 || (void *)(ports + 2) > end)
		return;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	packet->ports_known = 1;
}

INLINE int parse_ipv4(struct packet *packet, void *at, void *end)
{
	struct iphdr *header = at;
	u32 length, total;

	if ((void *)(header + 1) > end || header->version != 4)
		return CAUSE_PASSED_MALFORMED;
	length = header->ihl * 4;
	total = length_of(header->tot_len);
	if (length < sizeof(*header) || total < length || at + total > end)
		return CAUSE_PASSED_MALFORMED;
	packet->version = 4;
	packet->source_low = header->saddr;
	packet->protocol = header->protocol;
	if (!(header->frag_off & bpf_htons(0x1fff)))
		read_ports(packet, at + length, end, total - length);
	return -1;
}

INLINE int is_extension(u32 protocol)
{
	return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

/* Extension headers as ipv6_find_hdr() of the kernel takes them: what lies behind a later fragment cannot be told. */
INLINE int parse_ipv6(struct packet *packet, void *at, void *end)
{
	struct ipv6hdr *header = at;
	void *next = header + 1;
	u32 room, protocol, later = 0;

	if (next > end || header->version != 6)
		return CAUSE_PASSED_MALFORMED;
	room = length_of(header->payload_len);
	if (next + room > end)
		return CAUSE_PASSED_MALFORMED;
	packet->version = 6;
	packet->source_high = eight_bytes(header, SOURCE_AT);
	packet->source_low = eight_bytes(header, SOURCE_AT + 8);
	packet->protocol = PROTOCOL_UNKNOWN;
	protocol = header->nexthdr;
#pragma unroll
	for (int number = 0; number < EXTENSIONS; number++) {
		u8 *extension = next;
		u32 length;

		if (!is_extension(protocol))
			break;
		if (room < 8 || (void *)(extension + 8) > end)
			return -1;
		length = protocol == 51 ? (extension[1] + 2) * 4 : protocol == 44 ? 8 : (extension[1] + 1) * 8;
		if (room < length)
			return -1;
		later = protocol == 44 && ((extension[2] << 8 | extension[3]) & 0xfff8);
		protocol = extension[0];
		room -= length;
		next += length;
		if (later)
			break;
	}
	if (is_extension(protocol))
		return -1;
	packet->protocol = protocol;
	if (!later)
		read_ports(packet, next, end, room);
	return -1;
}

/*
 * What nearly all packets are: no tag, no option, no extension header, whole, with ports. These tell whether a packet is
 * that; every other one is taken apart by parse(), which would say the same of this one. A length that is too short is a
 * very large one when the least is taken from it.
 */
INLINE int parse_plain_ipv4(struct packet *packet, const struct iphdr *header, void *end)
{
	const __be16 *ports = (void *)(header + 1), *behind = ports + 2;
	u64 more = (u64)bpf_ntohs(header->tot_len) - sizeof(*header) - 4;

	if (header->frag_off & bpf_htons(0x1fff) || more > (u64)end - (u64)behind ||
	    class_of(header->protocol) == CLASS_NONE)
		return 0;
	packet->version = 4;
	packet->source_low = header->saddr;
	packet->protocol = header->protocol;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	packet->ports_known = 1;
	return 1;
}

INLINE int parse_plain_ipv6(struct packet *packet, const struct ipv6hdr *header, void *end)
{
	const __be16 *ports = (void *)(header + 1), *behind = ports + 2;
	u64 more = (u64)bpf_ntohs(header->payload_len) - 4;

	if (more > (u64)end - (u64)behind || class_of(header->nexthdr) == CLASS_NONE)
		return 0;
	packet->version = 6;
	packet->source_high = eight_bytes(header, SOURCE_AT);
	packet->source_low = eight_bytes(header, SOURCE_AT + 8);
	packet->protocol = header->nexthdr;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	packet->ports_known = 1;
	return 1;
}

/* The version that a frame may be a plain packet of, by its type and what the header begins with: version, and length of a
 * header of IPv4. A frame that is shorter than the shortest of IPv6 with ports is not taken for one. */
INLINE int plain_version(void *at, void *end)
{
	__be32 start;

	if (at + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 4 > end)
		return 0;
	start = *(__be32 *)(at + 12);
	if ((start & bpf_htonl(0xffffff00)) == bpf_htonl(ETHERTYPE_IPV4 << 16 | 0x4500))
		return 4;
	return (start & bpf_htonl(0xfffff000)) == bpf_htonl((u32)ETHERTYPE_IPV6 << 16 | 0x6000) ? 6 : 0;
}

/* A tag without a VLAN (identifier 0) only states a priority: the kernel takes it off. Any other VLAN's frames belong to
 * another interface, and so to another policy. */
INLINE int parse(struct packet *packet, void *at, void *end)
{
	struct ethhdr *frame = at;
	void *next = frame + 1;
	u32 type;

	if (next > end)
		return CAUSE_PASSED_MALFORMED;
	type = bpf_ntohs(frame->h_proto);
#pragma unroll
	for (int number = 0; number < TAGS; number++) {
		struct tag *tag = next;

		if (type != ETHERTYPE_TAG && type != ETHERTYPE_SERVICE_TAG)
			break;
		if ((void *)(tag + 1) > end)
			return CAUSE_PASSED_MALFORMED;
		if (tag->control & bpf_htons(0x0fff))
			return CAUSE_PASSED_VLAN;
		type = bpf_ntohs(tag->inner);
		next = tag + 1;
	}
	if (type == ETHERTYPE_IPV4)
		return parse_ipv4(packet, next, end);
	if (type == ETHERTYPE_IPV6)
		return parse_ipv6(packet, next, end);
	return type == ETHERTYPE_TAG || type == ETHERTYPE_SERVICE_TAG ? CAUSE_PASSED_VLAN : CAUSE_PASSED_NOT_IP;
}

#endif
