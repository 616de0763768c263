# SPDX-License-Identifier: Apache-2.0
"""IPv4 sources in flat tables: a bit for each /16 that is listed as a whole, and codes for the rest.

The codes that found no room are slots from /28 on, and in the trie below that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix, Words, split
from dataplanes.xdp.slots import Factors, as_sent, merged
from dataplanes.xdp.trie import Trie
from dataplanes.xdp.v4_codes import BLOCK_BITS, Codes, code_of, places_for
from dataplanes.xdp.v4_slots import KEY_BITS, Slots, slot_places_for

__all__ = ["V4Tables", "v4_constants", "v4_sizes"]

_TOP_BITS: Final = LAYOUT["V4_TOP_BITS"]
# So many of the codes find no room in their place, and as many as are more in one /24 than half a place.
_ELSEWHERE: Final = 0.05
_CROWD: Final = LAYOUT["V4_CODES_EACH"] // 2
# A shorter network than this is taken out by building anew: it covers too many others to look at each.
_SHORTEST_TO_REMOVE: Final = 8


def v4_sizes(prefixes: Iterable[Prefix]) -> dict[str, int]:
    """How large the maps must be for a list, with room to grow."""
    crowd: dict[int, int] = {}
    whole, top = 0, 1
    for value, length in prefixes:
        if length > BLOCK_BITS:
            crowd[value >> 8] = crowd.get(value >> 8, 0) + 1
        elif length > _TOP_BITS:
            whole += 1 << BLOCK_BITS - length
        else:
            top = LAYOUT["V4_TOP_WORDS"]
    codes = whole + sum(crowd.values())
    over = sum(count - _CROWD for count in crowd.values() if count > _CROWD)
    slots = slot_places_for(over + int(codes * _ELSEWHERE))
    return {"v4_top": top, "v4_codes": places_for(codes), "v4_slots": slots}


def v4_constants(sizes: Mapping[str, int], factors: Factors) -> dict[int, int]:
    """What stands in the filter for such tables."""
    return {
        LAYOUT["NUMBER_V4_TOP"]: int(sizes["v4_top"] > 1),
        LAYOUT["NUMBER_V4_CODES"]: sizes["v4_codes"],
        LAYOUT["NUMBER_V4_SLOTS"]: sizes["v4_slots"],
        LAYOUT["NUMBER_V4_FACTOR"]: factors.first,
        LAYOUT["NUMBER_V4_SLOT_FACTOR"]: factors.second,
    }


class V4Tables:
    """The tables of one filter: ``arrays`` are its maps' words by name; ``rest`` has what found no room in them."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors, rest: Trie) -> None:
        self._top: Words = arrays["v4_top"]
        self._codes = Codes(arrays["v4_codes"], factors.first)
        self._slots = Slots(arrays["v4_slots"], factors.second)
        self._rest = rest

    @property
    def load(self) -> float:
        """How full the fuller one of the tables is."""
        return max(self._codes.load, self._slots.load)

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """Fill empty tables."""
        upper, lower, lengths = split(prefixes, 16)
        values = upper << np.uint64(16) | lower
        blocks, codes = _codes(values, lengths)
        left = self._codes.fill(blocks, codes)
        nets = [_net(*each) for each in zip(blocks[left].tolist(), codes[left].tolist(), strict=True)]
        short = lengths <= _TOP_BITS
        nets += [Prefix(*each) for each in zip(values[short].tolist(), lengths[short].tolist(), strict=True)]
        keys, bits = _slots(net for net in nets if net.length >= KEY_BITS)
        for key, its_bits in zip(*(each.tolist() for each in self._slots.fill(keys, bits)), strict=True):
            self._put_in_rest(key, its_bits)
        for net in nets:
            if net.length <= _TOP_BITS:
                self._mark(net)
            elif net.length < KEY_BITS:
                self._put(net)

    def add(self, prefix: Prefix) -> bool:
        """List a network, whose sources are found from then on; False when there is no room: build anew instead."""
        if prefix.length <= _TOP_BITS:
            return self._mark(prefix)
        for block, code in _codes_of(prefix):
            if not self._codes.add(block, code):
                if (last := self._codes.last(block)) is not None:
                    self._put(_net(*last))
                self._codes.mark(block)
                self._put(_net(block, code))
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out of the list, of which ``listed`` knows what remains; False: build anew instead."""
        value, length = prefix
        if length < _SHORTEST_TO_REMOVE:
            return False
        if length <= _TOP_BITS:
            for number in range(value >> 16, (value >> 16) + (1 << _TOP_BITS - length)):
                if not _is_covered(number << 16, range(1, _TOP_BITS + 1), listed):
                    sent = as_sent(number, 2)
                    self._top[sent >> 6] &= ~np.uint64(1 << (sent & 63))
            return True
        for block, code in _codes_of(prefix):
            if length > BLOCK_BITS or not _is_covered(block << 8, range(_TOP_BITS + 1, BLOCK_BITS + 1), listed):
                self._codes.remove(block, code)
                self._take(_net(block, code), listed)
        return True

    def contains(self, addresses: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which addresses are found, by the same steps as the filter's."""
        wide = addresses.astype(np.uint64)
        sent = as_sent(wide >> 16, 2)
        found, on = self._codes.look(wide)
        if len(self._top) > 1:
            found |= self._top[sent >> 6] >> (sent & 63) & 1 == 1
        asked = np.flatnonzero(on & ~found)
        hit, on = self._slots.look(wide[asked])
        found[asked[hit]] = True
        for place in asked[on & ~hit]:
            found[place] = _is_covered(int(addresses[place]), range(BLOCK_BITS, 33), self._rest.has)
        return found

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these networks are not found, by their first and their last address."""
        first = np.fromiter((value for value, _ in prefixes), np.uint32, len(prefixes))
        last = np.fromiter((value | (1 << 32 - length) - 1 for value, length in prefixes), np.uint32, len(prefixes))
        found = self.contains(first) & self.contains(last)
        return [prefix for prefix, there in zip(prefixes, found.tolist(), strict=True) if not there]

    def _put(self, net: Prefix) -> None:
        """List a network from /24 on that has no room among the codes."""
        value, length = net
        if length >= KEY_BITS:
            key = value >> 4
            self._give(key, self._bits(key) | _bits_of(net))
            return
        self._rest.add(net)
        for key in range(value >> 4, (value >> 4) + (1 << KEY_BITS - length)):
            self._slots.mark(key)

    def _take(self, net: Prefix, listed: Listed) -> None:
        """Take a network from /24 on out of where what has no room is."""
        if net.length < KEY_BITS:
            if self._rest.has(net):
                self._rest.remove(net)
        elif had := self._bits(key := net.value >> 4):
            self._give(key, had & _listed_of(key, listed))

    def _bits(self, key: int) -> int:
        """The bits of a key, wherever they are."""
        if (at := self._slots.find(key)) is not None:
            return self._slots.bits(at)
        return sum(1 << bit for bit in range(16) if self._rest.has(Prefix(key << 4 | bit, 32))) if self._rest else 0

    def _give(self, key: int, bits: int) -> None:
        """Give a key these bits, wherever it is or finds a slot."""
        if (at := self._slots.find(key)) is not None:
            self._slots.write(at, bits)
        elif bits and self._slots.take(key, bits):
            self._put_in_rest(key, 0)
        else:
            self._put_in_rest(key, bits)

    def _put_in_rest(self, key: int, bits: int) -> None:
        for bit in range(16) if self._rest or bits else ():
            address = Prefix(key << 4 | bit, 32)
            if bits >> bit & 1:
                self._rest.add(address)
            elif self._rest.has(address):
                self._rest.remove(address)

    def _mark(self, net: Prefix) -> bool:
        """Set the bit of each /16; False where no list had anything so short when it was built."""
        if len(self._top) == 1:
            return False
        first = net.value >> 16
        for number in range(first, first + (1 << _TOP_BITS - net.length)):
            sent = as_sent(number, 2)
            self._top[sent >> 6] |= np.uint64(1 << (sent & 63))
        return True


def _codes(values: Words, lengths: NDArray[np.uint8]) -> tuple[Words, Words]:
    """The codes of networks from /17 on, each once, and the /24s that they are of."""
    whole = [np.empty(0, np.uint64)]
    for length in range(_TOP_BITS + 1, 33):
        own = values[lengths == length]
        if length < BLOCK_BITS:
            own = (own[:, None] | np.arange(1 << BLOCK_BITS - length, dtype=np.uint64) << np.uint64(8)).ravel()
        whole.append((own >> 8) << np.uint64(16) | code_of(own, max(length, BLOCK_BITS)))
    each = np.unique(np.concatenate(whole))
    return each >> np.uint64(16), each & np.uint64(0xFFFF)


def _codes_of(prefix: Prefix) -> Iterator[tuple[int, int]]:
    """The /24s and codes that stand for a network from /17 on."""
    value, length = prefix
    for block in range(value >> 8, (value >> 8) + (1 << max(0, BLOCK_BITS - length))):
        yield block, code_of(value, max(length, BLOCK_BITS))


def _net(block: int, code: int) -> Prefix:
    """The network for which a code stands in a /24."""
    length = 33 - (code & -code).bit_length()
    return Prefix(block << 8 | code >> 1 & -(1 << 32 - length) & 255, length)


def _slots(nets: Iterable[Prefix]) -> tuple[Words, Words]:
    """The keys (/28) of networks that are no shorter, each once, with their bits."""
    known = [(net.value >> 4, _bits_of(net)) for net in nets]
    return merged(np.array([key for key, _ in known], np.uint64), np.array([bits for _, bits in known], np.uint64))


def _bits_of(net: Prefix) -> int:
    """The bits that a network from /28 on sets in its key's slot."""
    return (1 << (1 << 32 - net.length)) - 1 << (net.value & 15)


def _listed_of(key: int, listed: Listed) -> int:
    """The bits of a /28 that networks from /28 on cover."""
    return sum(1 << bit for bit in range(16) if _is_covered(key << 4 | bit, range(KEY_BITS, 33), listed))


def _is_covered(address: int, lengths: Iterable[int], listed: Listed) -> bool:
    """Whether a network of one of these lengths that contains the address is listed."""
    return any(listed(Prefix(address >> 32 - n << 32 - n, n)) for n in lengths)
