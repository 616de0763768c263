/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a source is listed, at the price of two or three reads side by side however long the list is. Tables are written
 * from user space while packets are looked up: what a reader sees of a write is a network more or less, never another one. */
#ifndef POLICYLAB_LISTS_H
#define POLICYLAB_LISTS_H

#include "parse.h"

/* What the loader puts in: the address of an array's one value, or a number. */
#define VALUE(name) ((void *)bpf_pseudo_fd(2, VALUE_##name))
#define NUMBER(name) ((u64)bpf_pseudo_fd(2, NUMBER_##name))

struct v4_slots {
	u64 tags, bits; /* four each */
};

struct v6_line {
	u64 words[V6_LINE_WORDS];
};

struct v6_hosts {
	u64 halves[2 * V6_HOSTS_EACH]; /* upper and lower in turn */
};

struct key_v4 {
	u32 length;
	__be32 address;
};

struct key_v6 {
	u32 length;
	__be32 address[4];
};

BPF_F_TABLE("array", u32, u64, v4_blocks, V4_BLOCK_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v4_slots, v4_slots, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v4_slots, v4_more, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u16, v6_top, V6_TOP, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_pages, V6_PAGE_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_line, v6_lines, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_line, v6_more, V6_LEVELS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_addresses, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_hosts, v6_hosts, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_rest, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("lpm_trie", struct key_v4, u64, v4_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct key_v6, u64, v6_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);

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

/* Where in a table of so many places a hash of so many bits belongs; the hashes of one place are neighbours. The verifier
 * follows this, unless the compiler makes one shift of it and of what comes next. */
INLINE u64 place_of(u64 hash, u32 bits, u64 places)
{
	u64 place = hash * places >> bits;

	asm volatile("" : "+r"(place));
	return place;
}

/* --- IPv4 --- */

/* A key's hash is a key of its own: the factor is odd. Its place tells the upper bits, the tag the lower ones. */
INLINE u64 v4_hash(u32 address, u64 factor)
{
	return (address >> 4) * factor & (1 << V4_KEY_BITS) - 1;
}

#define EACH_TAG 0x0001000100010001ULL
#define TAGS (EACH_TAG * ((1 << V4_TAG_BITS) - 1))
#define MARKS (EACH_TAG << V4_TAG_BITS)

/* All four at once: where a tag is the same the subtraction leaves the mark, and the address's bit is shifted there. */
INLINE u64 bit_in_v4_slots(const struct v4_slots *slots, u64 hash, u32 address)
{
	u64 differs = (slots->tags ^ (hash & (1 << V4_TAG_BITS) - 1) * EACH_TAG) & TAGS;

	return MARKS - differs & slots->bits << (address & 15) & MARKS;
}

/* Both tables are read before either is looked at, and what they say is put together without a branch: the far reads
 * overlap, and so do those of the packets that follow. */
INLINE int in_v4_tables(const struct packet *packet)
{
	u32 address = packet->source_low;
	u64 *blocks = VALUE(V4_BLOCKS), block = address >> 14;
	struct v4_slots *slots = VALUE(V4_SLOTS), *more = VALUE(V4_MORE);
	u64 hash = v4_hash(address, NUMBER(V4_FACTOR));

	asm volatile("%0 &= 0x3ffff" : "+r"(block));
	slots += place_of(hash, V4_KEY_BITS, NUMBER(V4_SLOTS));
	if (bit_in_v4_slots(slots, hash, address) | (blocks[block] >> (address >> 8 & 63) & 1))
		return 1;
	if (!(slots->tags & V4_MORE))
		return 0;
	hash = v4_hash(address, NUMBER(V4_MORE_FACTOR));
	more += place_of(hash, V4_KEY_BITS, NUMBER(V4_MORE));
	if (bit_in_v4_slots(more, hash, address))
		return 1;
	return more->tags & V4_MORE ? in_v4_trie(packet) : 0;
}

/* --- IPv6 --- */

/* The bits of a level become a hash, which is a key of its own; those below stay as they are. */
INLINE u64 v6_mixed(u64 high, u64 factor, u32 level)
{
	u64 own = (high >> (64 - level)) * factor << (64 - level);

	return own | (high << level >> level);
}

/* A word is the lower 57 bits of such a number, of which the place tells the upper ones, and how many of them, and of
 * itself, are not the network's. It is one if nothing is left of the difference: less one, it is negative. */
INLINE u64 net_in_v6_line(const struct v6_line *line, u64 mixed)
{
	u64 own = mixed << 7 >> 1 | 1, found = 0;

#pragma unroll
	for (int slot = 0; slot < V6_LINE_WORDS; slot++) {
		u64 word = slot ? line->words[slot] : line->words[slot] & ~V6_MORE, differs = own ^ word;

		/* Six bits count, as in every shift of BPF; of C one would have to write that, and pay for it. */
		asm("%0 >>= %1" : "+r"(differs) : "r"(word));
		found |= differs - 1;
	}
	return found >> 63;
}

INLINE u64 address_key(u64 high, u64 low)
{
	return high ^ low * 0x9e3779b97f4a7c15ULL;
}

/* Two bits of one word say that a key may be there. The word is read here, however late it is asked for. */
INLINE u64 passes(const u64 *filter, u64 hash, u64 words)
{
	u64 word = filter[place_of(hash >> 32, 32, words)];

	asm volatile("" : "+r"(word));
	return word >> (hash >> 32 & 63) & word >> (hash >> 38 & 63) & 1;
}

INLINE int in_v6_hosts(u64 high, u64 low, u64 key)
{
	u64 factors[] = {NUMBER(V6_FACTOR), NUMBER(V6_MORE_FACTOR)}, found = 0;

#pragma unroll
	for (int attempt = 0; attempt < 2; attempt++) {
		struct v6_hosts *line = VALUE(V6_HOSTS);

		line += place_of(key * factors[attempt] >> 32, 32, NUMBER(V6_HOSTS));
#pragma unroll
		for (int slot = 0; slot < 2 * V6_HOSTS_EACH; slot += 2) {
			u64 differs = (line->halves[slot] ^ high) | (line->halves[slot + 1] ^ low);

			found |= ~(differs | -differs);
		}
		if (found >> 63)
			return 1;
	}
	return 0;
}

/* The levels below a /32 that has too many networks; -1 if not even they had room for all. */
INLINE int in_v6_levels(u64 high)
{
	const u32 levels[V6_LEVELS] = {V6_LEVEL_0, V6_LEVEL_1, V6_LEVEL_2, V6_LEVEL_3, V6_LEVEL_4};
	u64 found = 0, more = 0;

#pragma unroll
	for (int level = 0; level < V6_LEVELS; level++) {
		u64 mixed = v6_mixed(high, NUMBER(V6_MORE_FACTOR), levels[level]);
		struct v6_line *line = VALUE(V6_MORE);

		line += level * NUMBER(V6_MORE);
		line += place_of(mixed >> 32, 32, NUMBER(V6_MORE));
		found |= net_in_v6_line(line, mixed);
		more |= line->words[0];
	}
	return found ? 1 : more & V6_MORE ? -1 : 0;
}

INLINE int in_v6_tables(const struct packet *packet)
{
	u64 high = packet->source_high, low = packet->source_low, key = address_key(high, low);
	u64 hash = key * NUMBER(V6_FACTOR), mixed = v6_mixed(high, NUMBER(V6_FACTOR), V6_LEVEL_0);
	u16 *top = VALUE(V6_TOP);
	u64 *pages = VALUE(V6_PAGES), page = top[high >> 48], bits, may_be_host;
	struct v6_line *line = VALUE(V6_LINES);
	int found;

	if (page >= NUMBER(V6_PAGES))
		return 0;
	pages += page * V6_PAGE_WORDS;
	bits = pages[high >> 38 & V6_PAGE_WORDS - 1] >> (high >> 32 & 63);
	line += place_of(mixed >> 32, 32, NUMBER(V6_LINES));
	may_be_host = passes(VALUE(V6_ADDRESSES), hash, NUMBER(V6_ADDRESSES));
	/* First what a near read says: if the processor has guessed wrong it is known early, and the far read is under way. */
	if (may_be_host && in_v6_hosts(high, low, key))
		return 1;
	if (net_in_v6_line(line, mixed) | (bits & 1))
		return 1;
	found = line->words[0] & V6_MORE ? in_v6_levels(high) : 0;
	if (found > 0)
		return 1;
	if (!found && !passes(VALUE(V6_REST), high * NUMBER(V6_FACTOR), NUMBER(V6_REST)))
		return 0;
	return in_v6_trie(packet);
}

#endif
