/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a source is listed, at the price of one or two cache misses however long the list is. Tables are written from
 * user space while packets are looked up: a slot is written whole, or its key last, and never used for another key. */
#ifndef POLICYLAB_LISTS_H
#define POLICYLAB_LISTS_H

#include "parse.h"

struct line {
	u64 words[LINE_WORDS];
};

struct shape {
	u64 words[SHAPE_WORDS];
};

struct key_v4 {
	u32 length;
	__be32 address;
};

struct key_v6 {
	u32 length;
	__be32 address[4];
};

BPF_F_TABLE("array", u32, struct shape, shape, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v4_state, V4_STATE_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct line, v4_lines, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_top, V6_TOP, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_pages, V6_PAGE_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_filters, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct line, v6_lines, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct line, v6_hosts, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("lpm_trie", struct key_v4, u64, v4_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct key_v6, u64, v6_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);

/* Which line of a table a key is in: high bits of a product with a factor that nobody outside knows. */
INLINE u32 place_of(u64 key, u64 factor, u64 mask)
{
	return (key * factor >> 32) & mask;
}

INLINE struct key_v4 v4_key(const struct packet *packet)
{
	struct key_v4 key = {.length = 32, .address = bpf_htonl(packet->source_low)};

	return key;
}

INLINE struct key_v6 v6_key(const struct packet *packet)
{
	struct key_v6 key = {.length = 128};

	key.address[0] = bpf_htonl(packet->source_high >> 32);
	key.address[1] = bpf_htonl(packet->source_high);
	key.address[2] = bpf_htonl(packet->source_low >> 32);
	key.address[3] = bpf_htonl(packet->source_low);
	return key;
}

/* Of two look-ups at the end of two ways the compiler makes one, called by a pointer; BPF has no such call. What follows
 * them must differ. */
#define KEEP_APART(number) asm volatile("" : : "i"(number))

INLINE int in_v4_trie(const struct packet *packet)
{
	struct key_v4 key = v4_key(packet);
	u64 *found = v4_trie.lookup(&key);

	KEEP_APART(4);
	return found != 0;
}

INLINE int in_v6_trie(const struct packet *packet)
{
	struct key_v6 key = v6_key(packet);
	u64 *found = v6_trie.lookup(&key);

	KEEP_APART(6);
	return found != 0;
}

/* All eight slots without a branch: what the branches would cost when guessed wrong is more. */
INLINE u64 bit_in_v4_line(const struct line *line, u64 key, u32 bit)
{
	u64 hit = 0;

#pragma unroll
	for (int slot = 0; slot < LINE_WORDS; slot++) {
		u64 word = line->words[slot];
		u64 differs = (word & ~V4_SLOT_MORE) >> 32 ^ key;

		hit |= (differs - 1) >> 63 & word >> bit;
	}
	return hit & 1;
}

/* The line is read beside the state and not after it, and what they say is put together without a branch: the two far
 * reads overlap, and so do those of the packets that follow. Most keys are in the slot of their own that further bits of
 * the hash name; only if it is not there are all slots looked at. */
INLINE int in_v4_tables(const struct packet *packet, const struct shape *shape)
{
	u32 address = packet->source_low, bit = address & 31, place = address >> 13;
	u64 key = V4_SLOT_USED >> 32 | address >> 5;
	u64 mask = shape->words[SHAPE_V4_MASK], own;
	u64 *state = v4_state.lookup(&place);
	struct line *line;
	u32 blocks;

	place = place_of(key, shape->words[SHAPE_V4_FACTOR], mask);
	line = v4_lines.lookup(&place);
	if (!state || !line)
		return 0;
	blocks = *state >> (address >> 8 & 31) * 2 & 3;
	own = line->words[key * shape->words[SHAPE_V4_FACTOR] >> V4_OWN_SHIFT & 7] & ~V4_SLOT_MORE;
	if (blocks >> 1 | (blocks & ((own >> 32 ^ key) - 1) >> 63 & own >> bit))
		return 1;
	if (!blocks)
		return 0;
	if (bit_in_v4_line(line, key, bit))
		return 1;
	if (!(line->words[0] & V4_SLOT_MORE))
		return 0;
	place = place_of(key, shape->words[SHAPE_V4_FACTOR + 1], mask);
	line = v4_lines.lookup(&place);
	if (!line)
		return 0;
	if (bit_in_v4_line(line, key, bit))
		return 1;
	return line->words[0] & V4_SLOT_MORE ? in_v4_trie(packet) : 0;
}

INLINE int filtered_out(const struct shape *shape, u64 key, u32 filter)
{
	u64 shift = shape->words[SHAPE_FILTER_SHIFT + filter], bit, *word;
	u32 place;

	if (shift > 63)
		return 1;
	bit = key * shape->words[SHAPE_V6_FACTOR] >> shift;
	place = (bit >> 6) + shape->words[SHAPE_FILTER_START + filter];
	word = v6_filters.lookup(&place);
	return !word || !(*word >> (bit & 63) & 1);
}

INLINE int in_v6_lines(const struct shape *shape, u64 key, u32 bit)
{
	u64 mask = shape->words[SHAPE_V6_MASK];

	key |= V6_SLOT_USED;
#pragma unroll
	for (int attempt = 0; attempt < 2; attempt++) {
		u32 place = place_of(key, shape->words[SHAPE_V6_FACTOR + attempt], mask);
		struct line *line = v6_lines.lookup(&place);

		if (!line)
			return 0;
#pragma unroll
		for (int slot = 0; slot < V6_SLOTS; slot++)
			if ((line->words[slot * 2] & ~V6_SLOT_MORE) == key)
				return line->words[slot * 2 + 1] >> bit & 1;
		if (!(line->words[0] & V6_SLOT_MORE))
			return 0;
	}
	return -1;
}

INLINE int in_v6_hosts(const struct shape *shape, u64 high, u64 low, u64 key)
{
	u64 mask = shape->words[SHAPE_V6_HOST_MASK];

#pragma unroll
	for (int attempt = 0; attempt < 2; attempt++) {
		u32 place = place_of(key, shape->words[SHAPE_V6_FACTOR + attempt], mask);
		struct line *line = v6_hosts.lookup(&place);

		if (!line)
			return 0;
#pragma unroll
		for (int slot = 0; slot < V6_SLOTS; slot++)
			if (line->words[slot * 2] == high && line->words[slot * 2 + 1] == low)
				return 1;
	}
	return 0;
}

/* What stands for a whole address in places and filters. */
INLINE u64 address_key(u64 high, u64 low)
{
	return (high ^ low * 0x9e3779b97f4a7c15ULL) | 1;
}

INLINE int in_v6_tables(const struct packet *packet, const struct shape *shape)
{
	u64 high = packet->source_high, low = packet->source_low, key;
	u32 place = high >> 48;
	u64 *page = v6_top.lookup(&place);
	int found;

	if (page && *page == V6_ALL)
		return 1;
	if (page && *page) {
		u64 *word;

		place = (*page - 1) * V6_PAGE_WORDS + (high >> 42 & 63);
		word = v6_pages.lookup(&place);
		if (word && *word >> (high >> 36 & 63) & 1)
			return 1;
	}
#pragma unroll
	for (int step = 0; step < V6_STEPS; step++) {
		const u32 below = 64 - V6_FIRST_BITS - step * V6_STEP_BITS; /* bits of the upper half behind the key */

		key = (high >> below) << 3 | step;
		if (filtered_out(shape, key, step))
			continue;
		found = in_v6_lines(shape, key, high >> (below - V6_STEP_BITS) & 63);
		if (found > 0)
			return 1;
		if (found < 0 && in_v6_trie(packet))
			return 1;
	}
	key = address_key(high, low);
	if (!filtered_out(shape, key, FILTER_ADDRESSES) && in_v6_hosts(shape, high, low, key))
		return 1;
	return !filtered_out(shape, high | 1, FILTER_REST) && in_v6_trie(packet);
}

#endif
