/* SPDX-License-Identifier: Apache-2.0 */
/* What the XDP filter and the plugin that fills its maps must agree on. The plugin reads the numbers from here. */
#ifndef POLICYLAB_LAYOUT_H
#define POLICYLAB_LAYOUT_H

/* Why a packet passed or was dropped: places in the map "causes". */
#define CAUSE_PASSED_UNLISTED 0
#define CAUSE_PASSED_FAILSAFE 1
#define CAUSE_PASSED_OTHER_PORT 2
#define CAUSE_PASSED_UNSURE 3
#define CAUSE_PASSED_VLAN 4
#define CAUSE_PASSED_NOT_IP 5
#define CAUSE_PASSED_MALFORMED 6
#define CAUSE_DROPPED_IPV4 7
#define CAUSE_DROPPED_IPV6 8
#define CAUSE_DROPPED_PORT 9
#define CAUSES 10

/* How the sources of a family are looked up. */
#define KIND_TRIE 1
#define KIND_FLAT 2

/* The most that a trie holds. Its nodes are made when they are needed, so room for many costs nothing. */
#define TRIE_ENTRIES 16777216

/* Protocols whose ports are looked at, by class; every other protocol has none. */
#define CLASS_TCP 0
#define CLASS_UDP 1
#define CLASS_SCTP 2
#define CLASS_NONE 3
#define PORT_WORDS 1024 /* 64 ports in a word */
#define FAILSAFE_INBOUND 0
#define FAILSAFE_ANSWER 1

/* A line of 64 bytes is what one cache miss brings. */
#define LINE_WORDS 8

/* IPv4: two bits for each /24 (some of it, all of it), then one slot of 32 bits for each /27 that is not all or none. */
#define V4_STATE_WORDS 524288 /* 32 blocks of /24 in a word */
#define V4_SOME 1
#define V4_ALL 2
#define V4_SLOT_USED 0x8000000000000000ULL
#define V4_SLOT_MORE 0x4000000000000000ULL /* in a line's first slot: the line is full, there is another one */

#define V4_OWN_SHIFT 29 /* where in the product of key and factor the three bits are that name a key's own slot */

/* IPv6: up to /28 a page of 4096 bits below each /16; then six steps of six bits, a slot of 64 bits each; then whole
 * addresses; what is between /64 and /128 is in a trie. */
#define V6_TOP 65536
#define V6_ALL 65535 /* in the place of a page's number, which counts from 1 */
#define V6_PAGE_WORDS 64
#define V6_STEPS 6
#define V6_FIRST_BITS 28
#define V6_STEP_BITS 6
#define V6_SLOT_USED 0x8000000000000000ULL
#define V6_SLOT_MORE 0x4000000000000000ULL
#define V6_SLOTS 4 /* of 16 bytes in a line */

/* Filters say at the price of one bit that a slot is not there: one for each step, one for addresses, one for the trie. */
#define FILTER_ADDRESSES 6
#define FILTER_REST 7
#define FILTERS 8

/* Places in the map "shape", each of 64 bits. */
#define SHAPE_V4_MASK 0
#define SHAPE_V4_FACTOR 1 /* two of them */
#define SHAPE_V6_MASK 3
#define SHAPE_V6_FACTOR 4 /* two of them */
#define SHAPE_V6_HOST_MASK 6
#define SHAPE_FAILSAFES 7 /* a bit for each class of protocols that has failsafe ports */
#define SHAPE_FILTER_SHIFT 8 /* eight of them; 64: there is nothing of the kind */
#define SHAPE_FILTER_START 16 /* eight of them, in words */
#define SHAPE_WORDS 24

#endif
