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

/* Failsafe ports: a byte for each port, as it stands in a packet, with a bit for each class and direction; behind them
 * a byte for each protocol with the bits that concern it, the last one for protocols that are not known; at the end a byte
 * with all bits, for ports that are not known. */
#define FAILSAFE_INBOUND 0 /* the bits of classes begin here; those of answers behind them */
#define FAILSAFE_ANSWER 3
#define FAILSAFE_PROTOCOLS 65536
#define FAILSAFE_UNKNOWN 65793
#define FAILSAFE_BYTES 65794

/* Arrays whose address is in the program. Each is one value, so that a look-up is a sum and not a call. */
#define VALUE_FAILSAFES 0
#define VALUE_V4_TOP 1
#define VALUE_V4_CODES 2
#define VALUE_V4_SLOTS 3
#define VALUE_V6_TOP 4
#define VALUE_V6_PAGES 5
#define VALUE_V6_LINES 6
#define VALUE_V6_MORE 7
#define VALUE_V6_HOSTS 8
#define VALUE_V6_REST 9

/* Numbers that are drawn or worked out for each list, and stand in the program. */
#define NUMBER_V4_CODES 32 /* how many places there are; the next ones alike */
#define NUMBER_V4_SLOTS 33
#define NUMBER_V4_FACTOR 34 /* what keys are multiplied with; the next ones alike */
#define NUMBER_V4_SLOT_FACTOR 35
#define NUMBER_V6_PAGES 36
#define NUMBER_V6_LINES_SHIFT 37 /* what of 64 bits is left when so many are shifted out is a place */
#define NUMBER_V6_MORE 38 /* for each of the levels */
#define NUMBER_V6_FACTOR 39
#define NUMBER_V6_MORE_FACTOR 40
#define NUMBER_V6_HOSTS 41
#define NUMBER_V6_REST 42
#define NUMBER_V4_TOP 43 /* whether there is anything so short */
#define NUMBER_V6_HOME_FACTOR 44 /* of /32s: the lower halves of the two factors, shifted up by 32 bits */
#define NUMBER_V6_SECOND_FACTOR 45

/* IPv4: a bit for each /16 that is listed as a whole, by its bytes as they stand in the packet. A place of sixteen bytes for some /24s, with a code of sixteen bits for
 * each network in them: a tag that tells the /24 from others of this place, the address's last byte up to the network's
 * length, a one, zeros; all of it inverted. What finds no room there: the /28s, each with bits of a tag and a bit for each of
 * its addresses, four of them in sixteen bytes. */
#define V4_TOP_WORDS 1024
#define V4_TOP_BITS 16
#define V4_BLOCK_BITS 24
#define V4_CODES_EACH 8
#define V4_CODE_BITS 9 /* below the tag */
#define V4_FREE 1 /* the lower bits of a code of a tag that is none of its place's: no network; in the last one: */
#define V4_ELSEWHERE 3 /* nor this, and some have to be looked for elsewhere. Others may have it by chance */
#define V4_KEY_BITS 28
#define V4_SLOTS_EACH 4
#define V4_TAG_BITS 15
#define V4_MORE 0x8000 /* in the first tag: not all keys found a place here, the others are in the trie */

/* IPv6: below /32 a page of bits for each /16; lines of 64 bytes with all networks from /32 to /64 of one /32, or, where
 * they are too many, another one, and lines of the levels below it; whole addresses; what is between /64 and /128 is in a
 * trie. */
#define V6_TOP 65536
#define V6_NO_PAGE 0
#define V6_WHOLE_PAGE 1
#define V6_PAGE_WORDS 1024
#define V6_PAGE_BITS 32 /* of an address tell a bit of a page */
#define V6_LINE_WORDS 8
#define V6_LINE_NETS 7 /* words of networks; the last one has bits for the whole addresses of its /32s */
#define V6_PLACE_BITS 9 /* of a number are told by its place, and so not written: there are no fewer than 512 lines */
#define V6_LEVELS 5
#define V6_LEVEL_0 32
#define V6_LEVEL_1 40
#define V6_LEVEL_2 47
#define V6_LEVEL_3 54
#define V6_LEVEL_4 61
#define V6_MORE 0x8000000000000000ULL /* in the last word of a line: as V4_MORE */
#define V6_SECOND 0x4000000000000000ULL /* in other words: of a /32 that has another line first */
#define V6_FREE 0x2000000000000000ULL /* no network: unlike what anything is compared with */
#define V6_SHIFT_BITS 6 /* of a word, the lowest: how far down a network's own bits begin */
#define V6_HOSTS_EACH 4 /* addresses in a line */

#endif
