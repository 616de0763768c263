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

/* The upper bits of an address as they stand in the packet, and in their order of worth. */
struct v6_upper {
	u64 sent, high;
};

/* The bits of a level become a hash, which is a key of its own; those below stay as they are. A /32 is taken as it stands in
 * the packet, which is sooner to be had; what stands behind it is lost when it is multiplied. */
INLINE u64 v6_mixed(const struct v6_upper *upper, u64 factor, u32 level)
{
	u64 own = level == V6_LEVEL_0 ? upper->sent : upper->high >> (64 - level);

	return own * (factor << (64 - level)) | upper->high << level >> level;
}

/*
 * A word is the lower 57 bits of such a number, of which the place tells the upper ones, and how many of them, and of
 * itself, are not the network's. It is one if nothing is left of the difference: less one, it is negative. An empty word
 * shifts nothing away, so of second lines a difference counts that is negative before.
 */
INLINE u64 net_in_v6_line(const struct v6_line *line, u64 mixed, u64 second)
{
	u64 own = mixed << 7 >> 1 | 1 | second, found[] = {0, 0, 0};

#pragma unroll
	for (int slot = 0; slot < V6_LINE_NETS; slot++) {
		u64 word = slot ? line->words[slot] : line->words[slot] & ~V6_MORE, differs = own ^ word;

		/* Six bits count, as in every shift of BPF; of C one would have to write that, and pay for it. */
		asm("%0 >>= %1" : "+r"(differs) : "r"(word));
		found[slot % 3] |= second ? differs - 1 & ~differs : differs - 1;
	}
	/* Side by side, where the compiler would make a chain of it. */
	asm("" : "+r"(found[0]), "+r"(found[1]), "+r"(found[2]));
	return (found[0] | found[1] | found[2]) >> 63;
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
INLINE int in_v6_levels(const struct v6_upper *upper)
{
	const u32 levels[V6_LEVELS] = {V6_LEVEL_0, V6_LEVEL_1, V6_LEVEL_2, V6_LEVEL_3, V6_LEVEL_4};
	u64 found = 0, more = 0, mixed = v6_mixed(upper, NUMBER(V6_MORE_FACTOR), V6_LEVEL_0);
	struct v6_line *line = VALUE(V6_LINES);

	line += place_of(mixed >> 32, 32, NUMBER(V6_LINES));
	if (net_in_v6_line(line, mixed, V6_SECOND))
		return 1;
	if (!(line->words[0] & V6_MORE))
		return 0;
#pragma unroll
	for (int level = 0; level < V6_LEVELS; level++) {
		mixed = v6_mixed(upper, NUMBER(V6_MORE_FACTOR), levels[level]);
		line = VALUE(V6_MORE);
		line += level * NUMBER(V6_MORE);
		line += place_of(mixed >> 32, 32, NUMBER(V6_MORE));
		found |= net_in_v6_line(line, mixed, 0);
		more |= line->words[0];
	}
	return found ? 1 : more & V6_MORE ? -1 : 0;
}

INLINE int in_v6_tables(const struct packet *packet)
{
	struct v6_upper upper = {packet->source_high, bpf_ntohll(packet->source_high)};
	u64 mixed = v6_mixed(&upper, NUMBER(V6_FACTOR), V6_LEVEL_0), key, hash, in_page = 0;
	struct v6_line *line = VALUE(V6_LINES);
	u64 *rest = VALUE(V6_REST);
	int found;

	line += place_of(mixed >> 32, 32, NUMBER(V6_LINES));
	if (NUMBER(V6_PAGES)) /* the verifier takes it out where there is none */
		in_page = bit_in_v6_pages(upper.high);
	if (net_in_v6_line(line, mixed, 0) | in_page)
		return 1;
	key = address_key(upper.sent, packet->source_low);
	if (has_bits(line->words[V6_LINE_NETS], key * NUMBER(V6_FACTOR)) && in_v6_hosts(upper.sent, packet->source_low, key))
		return 1;
	found = line->words[0] & V6_MORE ? in_v6_levels(&upper) : 0;
	if (found > 0)
		return 1;
	hash = upper.high * NUMBER(V6_FACTOR);
	if (!found && !has_bits(rest[place_of(hash >> 32, 32, NUMBER(V6_REST))], hash))
		return 0;
	return in_v6_trie(packet);
}

#endif
