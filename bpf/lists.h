/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a source is listed, at the price of a far read or two however long the list is. Tables are written
 * from user space while packets are looked up: what a reader sees of a write is a network more or less, never another one. */
#ifndef POLICYLAB_LISTS_H
#define POLICYLAB_LISTS_H

#include "parse.h"

/* What the loader puts in: the address of an array's one value, or a number. */
#define VALUE(name) ((void *)bpf_pseudo_fd(2, VALUE_##name))
#define NUMBER(name) ((u64)bpf_pseudo_fd(2, NUMBER_##name))

struct key_v4 {
	u32 length;
	__be32 address;
};

struct key_v6 {
	u32 length;
	__be32 address[4];
};

BPF_F_TABLE("lpm_trie", struct key_v4, u64, v4_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct key_v6, u64, v6_trie, TRIE_ENTRIES, BPF_F_NO_PREALLOC);

INLINE struct key_v4 v4_key(const struct packet *packet)
{
	struct key_v4 key = {.length = 32, .address = packet->source_low};

	return key;
}

INLINE struct key_v6 v6_key(const struct packet *packet)
{
	struct key_v6 key = {.length = 128};

	__builtin_memcpy(&key.address[0], &packet->source_high, 8);
	__builtin_memcpy(&key.address[2], &packet->source_low, 8);
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
	/* In this order: older verifiers (6.1 among them) know the bounds of a product only if its second number is known. */
	asm volatile("%0 *= %1" : "+r"(hash) : "r"(places));
	hash >>= bits;
	asm volatile("" : "+r"(hash));
	return hash;
}

#endif
