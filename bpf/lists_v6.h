/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a source of IPv6 is listed: one far read, for whole addresses two. */
#ifndef POLICYLAB_LISTS_V6_H
#define POLICYLAB_LISTS_V6_H

#include "lists.h"

struct v6_line {
	u64 words[V6_LINE_WORDS];
};

struct v6_hosts {
	u64 halves[2 * V6_HOSTS_EACH]; /* upper and lower in turn */
};

BPF_F_TABLE("array", u32, u16, v6_top, V6_TOP, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_pages, V6_PAGE_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_line, v6_lines, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_line, v6_more, V6_LEVELS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct v6_hosts, v6_hosts, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, v6_rest, 1, BPF_F_MMAPABLE);

/* The bits of a level become a hash, which is a key of its own; those below stay as they are. */
INLINE u64 v6_mixed(u64 high, u64 factor, u32 level)
{
	return (high >> (64 - level)) * (factor << (64 - level)) | high << level >> level;
}

/* The same of a /32, which is taken as it stands in the packet, for that is sooner to be had; what stands behind it is lost
 * when it is multiplied. */
INLINE u64 v6_home(u64 sent, u64 factor)
{
	return sent * factor | bpf_ntohl(sent >> 32);
}

INLINE const struct v6_line *v6_home_line(u64 mixed)
{
	const struct v6_line *lines = VALUE(V6_LINES);

	/* A power of two: shifting takes less time than a product, and all that follows waits for it. */
	lines += mixed >> NUMBER(V6_LINES_SHIFT);
	asm("" : "+r"(lines)); /* or it would be worked out once more for the last word */
	return lines;
}

/*
 * A word is the lower 55 bits of such a number, of which the place tells the upper ones, and below them how many bits of the
 * word, its lowest six among them, are not the network's. The difference still has that number, for our own has zeros
 * there; shifted by it, it is nothing if the network contains us, and negative when one is taken from it.
 */
INLINE s64 net_in_v6_line(const struct v6_line *line, u64 mixed, u64 second)
{
	u64 own = mixed << V6_PLACE_BITS >> (V6_PLACE_BITS - V6_SHIFT_BITS) | second, found[] = {0, 0, 0};

#pragma unroll
	for (int slot = 0; slot < V6_LINE_NETS; slot++) {
		u64 differs = own ^ line->words[slot];

		/* Six bits count, as in every shift of BPF; of C one would have to write that, and pay for it. */
		asm("%0 >>= %0" : "+r"(differs));
		found[slot % 3] |= differs - 1;
	}
	/* Side by side, where the compiler would make a chain of it. */
	asm("" : "+r"(found[0]), "+r"(found[1]), "+r"(found[2]));
	return found[0] | found[1] | found[2];
}

INLINE u64 address_key(u64 high, u64 low)
{
	return high ^ low * 0x9e3779b97f4a7c15ULL;
}

/* Three bits of a word say that a key may be there. */
INLINE int has_bits(u64 word, u64 hash)
{
	return word >> (hash >> 26 & 63) & word >> (hash >> 32 & 63) & word >> (hash >> 38 & 63) & 1;
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
		if (!(line->halves[2 * V6_HOSTS_EACH - 2] | line->halves[2 * V6_HOSTS_EACH - 1]))
			return 0; /* there was room for all */
	}
	return 0;
}

/* A bit of a page that belongs to the upper 16 bits. */
INLINE u64 bit_in_v6_pages(u64 high)
{
	u16 *top = VALUE(V6_TOP);
	u64 *pages = VALUE(V6_PAGES), page = top[high >> 48];

	if (page >= NUMBER(V6_PAGES))
		return 0;
	pages += page * V6_PAGE_WORDS;
	return pages[high >> 38 & V6_PAGE_WORDS - 1] >> (high >> 32 & 63) & 1;
}

/* What is not in the line of a /32 that has no room for all: another one of its, and the levels below it; -1 if not even
 * they had room. */
INLINE int in_v6_levels(u64 sent)
{
	const u32 levels[V6_LEVELS] = {V6_LEVEL_0, V6_LEVEL_1, V6_LEVEL_2, V6_LEVEL_3, V6_LEVEL_4};
	u64 more = 0, mixed = v6_home(sent, NUMBER(V6_SECOND_FACTOR));
	const struct v6_line *line = v6_home_line(mixed);
	s64 found = net_in_v6_line(line, mixed, V6_SECOND);

	if (found < 0)
		return 1;
	if (!(line->words[V6_LINE_NETS] & V6_MORE))
		return 0;
#pragma unroll
	for (int level = 0; level < V6_LEVELS; level++) {
		if (level)
			mixed = v6_mixed(bpf_ntohll(sent), NUMBER(V6_MORE_FACTOR), levels[level]);
		line = VALUE(V6_MORE);
		line += level * NUMBER(V6_MORE);
		line += place_of(mixed >> 32, 32, NUMBER(V6_MORE));
		found |= net_in_v6_line(line, mixed, 0);
		more |= line->words[V6_LINE_NETS];
	}
	return found < 0 ? 1 : more & V6_MORE ? -1 : 0;
}

INLINE int in_v6_tables(const struct packet *packet)
{
	u64 sent = packet->source_high, mixed = v6_home(sent, NUMBER(V6_HOME_FACTOR)), key, hash;
	const struct v6_line *line = v6_home_line(mixed);
	s64 found = net_in_v6_line(line, mixed, 0);
	u64 *rest, last;
	int beyond;

	if (NUMBER(V6_PAGES)) /* the verifier takes it out where there is none */
		found |= bit_in_v6_pages(bpf_ntohll(sent)) << 63;
	if (found < 0)
		return 1;
	last = line->words[V6_LINE_NETS];
	key = address_key(sent, packet->source_low);
	if (has_bits(last | V6_MORE, key * NUMBER(V6_FACTOR)) && in_v6_hosts(sent, packet->source_low, key))
		return 1;
	beyond = last & V6_MORE ? in_v6_levels(sent) : 0;
	if (beyond > 0)
		return 1;
	hash = bpf_ntohll(sent) * NUMBER(V6_FACTOR);
	rest = VALUE(V6_REST);
	if (!beyond && !has_bits(rest[place_of(hash >> 32, 32, NUMBER(V6_REST))], hash))
		return 0;
	return in_v6_trie(packet);
}

#endif
