/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a source of IPv4 is listed: one far read. */
#ifndef POLICYLAB_LISTS_V4_H
#define POLICYLAB_LISTS_V4_H

#include "lists.h"

struct v4_codes {
	u64 halves[2]; /* four each */
};

struct v4_slots {
	u64 tags, bits; /* four each */
};

BPF_F_TABLE("array", u32, u64, v4_top, V4_TOP_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v4_codes, v4_codes, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v4_slots, v4_slots, 1, BPF_F_MMAPABLE);

/* A number of so many bits becomes another one, a key of its own: the factor is odd. Its place tells the upper bits, the tag
 * the lower ones. What the number has above its bits is lost on the way. */
INLINE u64 v4_hash(u64 number, u64 factor, u32 bits)
{
	return number * (factor << (64 - bits)) >> (64 - bits);
}

#define EACH 0x0001000100010001ULL
#define ALL_TAGS (EACH * ((1 << V4_TAG_BITS) - 1))
#define MARKS (EACH << V4_TAG_BITS)

/*
 * The marks of those of four codes that are another network's. What an address and a code have not in common counts above
 * the code's lowest one: in what is inverted, above the ones at the end. Nothing is left of that where the network contains the
 * address; the lowest bit never counts, so that no sum reaches the next code.
 */
INLINE u64 others_in_v4_codes(u64 codes, u64 own)
{
	u64 differs = (codes ^ own) & ~(codes ^ (codes + EACH));

	return (differs >> 1) + EACH * 0x7fff;
}

INLINE u64 in_v4_codes(const struct v4_codes *place, u64 hash, u64 last_byte)
{
	u64 own = ~(hash << V4_CODE_BITS | last_byte << 1) & 0xffff;

	own *= EACH;
	return ~(others_in_v4_codes(place->halves[0], own) & others_in_v4_codes(place->halves[1], own)) & MARKS;
}

/* All four at once: where a tag is the same the subtraction leaves the mark, and the address's bit is shifted there. */
INLINE u64 bit_in_v4_slots(const struct v4_slots *slots, u64 hash, u32 address)
{
	u64 differs = (slots->tags ^ (hash & (1 << V4_TAG_BITS) - 1) * EACH) & ALL_TAGS;

	return MARKS - differs & slots->bits << (address & 15) & MARKS;
}

INLINE int in_v4_tables(const struct packet *packet)
{
	u32 sent = packet->source_low, address;
	u64 *top = VALUE(V4_TOP), word = sent >> 6, in_top = 0;
	u64 hash = v4_hash(sent, NUMBER(V4_FACTOR), V4_BLOCK_BITS);
	struct v4_codes *codes = VALUE(V4_CODES);
	struct v4_slots *slots = VALUE(V4_SLOTS);

	codes += place_of(hash, V4_BLOCK_BITS, NUMBER(V4_CODES));
	asm volatile("%0 &= 0x3ff" : "+r"(word));
	if (NUMBER(V4_TOP)) /* the verifier takes it out where there is none */
		in_top = top[word] >> (sent & 63) & 1;
	if (in_v4_codes(codes, hash, sent >> V4_BLOCK_BITS) | in_top)
		return 1;
	if ((codes->halves[1] >> 48 ^ ~V4_ELSEWHERE) & (1 << V4_CODE_BITS) - 1)
		return 0;
	address = bpf_ntohl(sent);
	hash = v4_hash(address >> 4, NUMBER(V4_SLOT_FACTOR), V4_KEY_BITS);
	slots += place_of(hash, V4_KEY_BITS, NUMBER(V4_SLOTS));
	if (bit_in_v4_slots(slots, hash, address))
		return 1;
	return slots->tags & V4_MORE ? in_v4_trie(packet) : 0;
}

#endif
