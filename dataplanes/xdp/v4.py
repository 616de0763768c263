# SPDX-License-Identifier: Apache-2.0
"""IPv4 sources in flat tables: two bits for each /24, and a slot of 32 bits for each /27 that is not all or none.

A source costs one cache miss when its /24 is all listed or not at all, else two. Whole slots of eight bytes are
written at once, so that tables change while packets are looked up in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix, Words, split
from dataplanes.xdp.slots import Factors, capacity, merged, ranks
from dataplanes.xdp.trie import Trie

__all__ = ["V4Tables", "v4_sizes"]

_USED, _MORE = LAYOUT["V4_SLOT_USED"], LAYOUT["V4_SLOT_MORE"]
_USED_KEY = _USED >> 32
_SLOTS = LAYOUT["LINE_WORDS"]
_OWN = LAYOUT["V4_OWN_SHIFT"]
_SOME, _ALL = LAYOUT["V4_SOME"], LAYOUT["V4_ALL"]
_BLOCKS = 1 << 24
_FULL = (1 << 32) - 1
# A shorter network than this is taken out by building anew: it covers too many blocks to look at each.
_SHORTEST_TO_REMOVE = 14


def v4_sizes(prefixes: Iterable[Prefix]) -> dict[str, int]:
    """How large the maps must be for a list, with room to grow."""
    slots = sum(1 << max(0, 27 - length) for _, length in prefixes if length > 24)
    return {"v4_lines": capacity(slots, _SLOTS)}


class V4Tables:
    """The tables of one filter: ``arrays`` are its maps' words by name; ``rest`` has what found no place in a line."""

    def __init__(self, arrays: Mapping[str, Words], factors: Factors, rest: Trie) -> None:
        self._state = arrays["v4_state"]
        self._lines = arrays["v4_lines"].reshape(-1, _SLOTS)
        self._mask = len(self._lines) - 1
        self._factors = factors
        self._rest = rest
        self._used = 0

    @property
    def load(self) -> float:
        """How full the lines are."""
        return self._used / self._lines.size

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """Fill empty tables."""
        upper, lower, lengths = split(prefixes, 16)
        values = upper << np.uint64(16) | lower
        long = lengths > 24
        blocks = np.zeros(_BLOCKS, np.uint8)
        self._fill_slots(values[long], lengths[long])
        blocks[values[long] >> np.uint64(8)] = _SOME
        for value, length in zip(values[~long].tolist(), lengths[~long].tolist(), strict=True):
            first = value >> 8
            blocks[first : first + (1 << (24 - length))] |= _ALL
        packed = blocks[0::4] | blocks[1::4] << 2 | blocks[2::4] << 4 | blocks[3::4] << 6
        self._state[:] = packed.view(np.uint64)

    def add(self, prefix: Prefix) -> bool:
        """List a network; its sources are found from the moment on at which this returns, others never."""
        value, length = prefix
        if length <= 24:
            self._mark(value >> 8, 1 << (24 - length), _ALL)
            return True
        for key, bits in _slots(prefix):
            self._put(key, self._bits(key) | bits)
        self._mark(value >> 8, 1, _SOME)
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out of the list, of which ``listed`` knows what remains; False: build anew instead."""
        value, length = prefix
        if length < _SHORTEST_TO_REMOVE:
            return False
        if length > 24:
            for key, _ in _slots(prefix):
                self._put(key, _covered(key, listed))
            return True
        for block in range(value >> 8, (value >> 8) + (1 << (24 - length))):
            if not any(listed(Prefix((block << 8) >> (32 - n) << (32 - n), n)) for n in range(1, 25)):
                self._unmark(block)
        return True

    def contains(self, addresses: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which addresses are found, by the same steps as the filter's; of the rest table the first bit only."""
        wide = addresses.astype(np.uint64)
        blocks = wide >> np.uint64(8)
        state = self._state[blocks >> np.uint64(5)] >> (blocks & np.uint64(31)) * np.uint64(2) & np.uint64(3)
        found: NDArray[np.bool_] = state >= _ALL
        asked = np.flatnonzero(state == _SOME)
        keys, bits = wide[asked] >> np.uint64(5) | np.uint64(_USED_KEY), wide[asked] & np.uint64(31)
        for attempt in range(2):
            lines = self._lines[self._factors.places(keys, attempt, self._mask)]
            same = (lines & np.uint64(~_MORE & (1 << 64) - 1)) >> np.uint64(32) == keys[:, None]
            hit = (same & ((lines >> bits[:, None] & np.uint64(1)) == 1)).any(axis=1)
            found[asked[hit]] = True
            on = ~hit & (lines[:, 0] & np.uint64(_MORE) != 0)
            asked, keys, bits = asked[on], keys[on], bits[on]
        found[asked] = [self._rest.has(Prefix(int(addresses[place]), 32)) for place in asked]
        return found

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these networks are not found, by their first and their last address."""
        first = np.fromiter((value for value, _ in prefixes), np.uint32, len(prefixes))
        last = np.fromiter((value | (1 << 32 - length) - 1 for value, length in prefixes), np.uint32, len(prefixes))
        found = self.contains(first) & self.contains(last)
        return [prefix for prefix, there in zip(prefixes, found.tolist(), strict=True) if not there]

    def _fill_slots(self, values: Words, lengths: NDArray[np.uint8]) -> None:
        keys, bits = [], []
        for length in range(25, 33):
            of_length = values[lengths == length]
            for block in range(1 << max(0, 27 - length)):
                keys.append((of_length >> np.uint64(5)) + np.uint64(block))
                whole = np.uint64((1 << min(32, 1 << (32 - length))) - 1)
                bits.append(whole << (of_length & np.uint64(31)) if length > 27 else np.full_like(of_length, whole))
        slots, joined = merged(np.concatenate(keys), np.concatenate(bits))
        marked = slots | np.uint64(_USED_KEY)
        places = self._factors.places(marked, 0, self._mask) * _SLOTS + self._factors.owns(marked, _OWN, _SLOTS)
        order, rank = ranks(places)
        chosen = order[rank == 0]
        self._lines.reshape(-1)[places[chosen]] = marked[chosen] << np.uint64(32) | joined[chosen]
        self._used = len(chosen)
        for place in order[rank > 0]:
            self._put(int(slots[place]), int(joined[place]))

    def _bits(self, key: int) -> int:
        found = self._find(key)
        return int(self._lines[found]) & _FULL if found else self._bits_in_rest(key)

    def _bits_in_rest(self, key: int) -> int:
        return sum(1 << bit for bit in range(32) if self._rest.has(Prefix(key << 5 | bit, 32))) if self._rest else 0

    def _find(self, key: int) -> tuple[int, int] | None:
        """Where a key is now."""
        marked = key | _USED_KEY
        for attempt in range(2):
            line = self._factors.place(marked, attempt, self._mask)
            for slot in range(_SLOTS):
                if (int(self._lines[line, slot]) & ~_MORE) >> 32 == marked:
                    return line, slot
        return None

    def _put(self, key: int, bits: int) -> None:
        """Give a key these bits, wherever it is or finds a place; without bits its slot becomes free."""
        word = (key | _USED_KEY) << 32 | bits if bits else 0
        if found := self._find(key):
            self._used -= 0 if bits else 1
            self._write(found, word)
        elif bits and (free := self._free(key)):
            self._used += 1
            self._write(free, word)
            if self._rest:
                self._put_in_rest(key, 0)
        else:
            self._put_in_rest(key, bits)

    def _free(self, key: int) -> tuple[int, int] | None:
        """A free slot for a key; lines that are full are marked, so that whoever looks there goes on."""
        places = [self._factors.place(key | _USED_KEY, attempt, self._mask) for attempt in range(2)]
        own = self._factors.own(key | _USED_KEY, _OWN, _SLOTS)
        for attempt, line in enumerate(places):
            for slot in (own, *range(_SLOTS)):
                if not int(self._lines[line, slot]) & _USED:
                    for full in places[:attempt]:
                        self._lines[full, 0] |= np.uint64(_MORE)
                    return line, slot
        for full in places:
            self._lines[full, 0] |= np.uint64(_MORE)
        return None

    def _write(self, at: tuple[int, int], word: int) -> None:
        """One aligned store of eight bytes; the mark in a line's first slot stays."""
        line, slot = at
        mark = int(self._lines[line, 0]) & _MORE if slot == 0 else 0
        self._lines[line, slot] = np.uint64(word | mark)

    def _put_in_rest(self, key: int, bits: int) -> None:
        for bit in range(32):
            address = Prefix(key << 5 | bit, 32)
            if bits >> bit & 1:
                self._rest.add(address)
            elif self._rest.has(address):
                self._rest.remove(address)

    def _mark(self, first: int, count: int, state: int) -> None:
        """Set a bit of so many blocks in a row, a word of 32 blocks at a time."""
        for word in range(first >> 5, (first + count - 1 >> 5) + 1):
            low, high = max(first, word << 5) & 31, min(first + count - 1, word << 5 | 31) & 31
            bits = sum(state << 2 * block for block in range(low, high + 1))
            self._state[word] |= np.uint64(bits)

    def _unmark(self, block: int) -> None:
        self._state[block >> 5] &= np.uint64(~(_ALL << (block & 31) * 2) & (1 << 64) - 1)


def _slots(prefix: Prefix) -> Iterator[tuple[int, int]]:
    """The keys (/27) of a network longer than /24, each with the bits that it sets there."""
    value, length = prefix
    whole = (1 << min(32, 1 << (32 - length))) - 1
    for block in range(1 << max(0, 27 - length)):
        yield (value >> 5) + block, whole << (value & 31) if length > 27 else whole


def _covered(key: int, listed: Listed) -> int:
    """The bits of a /27 that networks longer than /24 cover."""
    bits = 0
    for length in range(25, 28):
        if listed(Prefix((key << 5) >> (32 - length) << (32 - length), length)):
            return _FULL
    for length in range(28, 33):
        size = 1 << (32 - length)
        for first in range(0, 32, size):
            if listed(Prefix(key << 5 | first, length)):
                bits |= ((1 << size) - 1) << first
    return bits
