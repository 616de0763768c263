# SPDX-License-Identifier: Apache-2.0
"""IPv6 sources in flat tables: pages up to /28, six steps of six bits up to /64, whole addresses, a trie for the rest.

A filter for each step says at the price of one bit, mostly in a near cache, that a step has nothing for a source; so
a listed source costs one far miss, and the number of different lengths in a list does not matter. Keys are never taken
out of their slots, only their bits: a slot is written value first, and used for one key until all is built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix, Words, split
from dataplanes.xdp.slots import Factors, capacity, merged, ranks
from dataplanes.xdp.trie import Trie

__all__ = ["V6Sizes", "V6Tables", "step_of"]

_USED, _MORE = LAYOUT["V6_SLOT_USED"], LAYOUT["V6_SLOT_MORE"]
_SLOTS = LAYOUT["V6_SLOTS"]
_FIRST, _STEP, _STEPS = LAYOUT["V6_FIRST_BITS"], LAYOUT["V6_STEP_BITS"], LAYOUT["V6_STEPS"]
_ALL, _TOP, _PAGE = LAYOUT["V6_ALL"], LAYOUT["V6_TOP"], LAYOUT["V6_PAGE_WORDS"]
_ADDRESSES, _REST, _FILTERS = LAYOUT["FILTER_ADDRESSES"], LAYOUT["FILTER_REST"], LAYOUT["FILTERS"]
_WORD = (1 << 64) - 1
_MIX = 0x9E3779B97F4A7C15
# Bits of a filter for each key in it, at least: one key in eight that is not there passes, or fewer.
_FILTER_BITS = 8
_SMALLEST_FILTER = 1 << 12
# A shorter network than this is taken out by building anew.
_SHORTEST_TO_REMOVE = 21


def step_of(length: int) -> int:
    """Which of the filters a length belongs to; -1 for one that has none (up to /28)."""
    if length <= _FIRST:
        return -1
    if length <= 64:
        return (length - _FIRST - 1) // _STEP
    return _ADDRESSES if length == 128 else _REST


@dataclass(frozen=True, slots=True)
class V6Sizes:
    """How large tables must be for a list: lines, filters with their places in one map, pages."""

    lines: int
    hosts: int
    pages: int
    shifts: tuple[int, ...]
    starts: tuple[int, ...]
    words: int

    @classmethod
    def of(cls, prefixes: Iterable[Prefix]) -> V6Sizes:
        """What a list needs, with room to grow."""
        counts = [0] * _FILTERS
        tops = set()
        for value, length in prefixes:
            if (step := step_of(length)) >= 0:
                counts[step] += 1
            elif length > 16:
                tops.add(value >> 112)
        bits = [max(_SMALLEST_FILTER, 1 << (count * _FILTER_BITS).bit_length()) for count in counts]
        starts = [sum(bits[:place]) // 64 for place in range(_FILTERS)]
        return cls(
            lines=capacity(sum(counts[:_STEPS]), _SLOTS),
            hosts=capacity(counts[_ADDRESSES], _SLOTS),
            pages=len(tops) + 16,
            # A filter without anything in it is not asked: there, no number of bits is left after the shift.
            shifts=tuple(65 - each.bit_length() for each in bits),
            starts=tuple(starts),
            words=sum(bits) // 64,
        )

    def maps(self) -> dict[str, int]:
        """The sizes by map."""
        pages = self.pages * _PAGE
        return {"v6_lines": self.lines, "v6_hosts": self.hosts, "v6_pages": pages, "v6_filters": self.words}


class V6Tables:
    """The tables of one filter: ``arrays`` are its maps' words by name; ``rest`` has what found no place in them."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], sizes: V6Sizes, factors: Factors, rest: Trie) -> None:
        self._top: Words = arrays["v6_top"]
        self._pages: Words = arrays["v6_pages"]
        self._filters: Words = arrays["v6_filters"]
        self._lines: Words = arrays["v6_lines"].reshape(-1, 2 * _SLOTS)
        self._hosts: Words = arrays["v6_hosts"].reshape(-1, 2 * _SLOTS)
        start = LAYOUT["SHAPE_FILTER_SHIFT"]
        self._shifts: Words = arrays["shape"][start : start + _FILTERS]
        self._sizes = sizes
        self._factors = factors
        self._rest = rest
        self._used = [0, 0]
        self._next_page = 1

    @property
    def load(self) -> float:
        """How full the fuller of the two tables with slots is."""
        slots = self._lines.size // 2, self._hosts.size // 2
        return max(used / size for used, size in zip(self._used, slots, strict=True))

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """Fill empty tables."""
        known = list(prefixes)
        high, low, lengths = split(known, 64)
        self._fill_lines(high, lengths)
        self._fill_hosts(high[lengths == 128], low[lengths == 128])
        for prefix in (
            known[place] for place in np.flatnonzero((lengths <= _FIRST) | (lengths > 64) & (lengths < 128))
        ):
            self.add(prefix)

    def add(self, prefix: Prefix) -> bool:
        """List a network; False when it finds no room: build anew instead."""
        value, length = prefix
        if length <= _FIRST:
            return self._add_short(value >> 64, length)
        if length <= 64:
            key, bits = _slot(value >> 64, length)
            self._put(key, self._bits(key) | bits)
            self._pass(key, step_of(length))
        elif length == 128 and value >> 64 and self._put_host(value):
            self._pass(_address_key(value >> 64, value & _WORD), _ADDRESSES)
        else:
            self._rest.add(prefix)
            self._pass(value >> 64 | 1, _REST)
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out of the list, of which ``listed`` knows what remains; False: build anew instead."""
        value, length = prefix
        if length < _SHORTEST_TO_REMOVE:
            return False
        if length <= _FIRST:
            self._set_page(value >> 64, length, lambda bit: _short_covers(value >> 64, bit, listed))
        elif length <= 64:
            key, _ = _slot(value >> 64, length)
            self._put(key, _covered(key, listed))
        elif self._rest.has(prefix):
            self._rest.remove(prefix)
        else:
            self._remove_host(value)
        return True

    def contains(self, high: Words, low: Words) -> NDArray[np.bool_]:
        """Which addresses are found, by the same steps as the filter's."""
        found = self._in_pages(high)
        for step in range(_STEPS):
            below = 64 - _FIRST - step * _STEP
            keys = high >> np.uint64(below) << np.uint64(3) | np.uint64(step)
            bits = high >> np.uint64(below - _STEP) & np.uint64(63)
            self._look_in_lines(found, np.flatnonzero(~found & self._passes(keys, step)), keys, bits)
        keys = _address_keys(high, low)
        for place in np.flatnonzero(~found & self._passes(keys, _ADDRESSES)):
            found[place] = self._find_host(int(high[place]) << 64 | int(low[place])) is not None
        for place in np.flatnonzero(~found & self._passes(high | np.uint64(1), _REST)):
            found[place] = self._in_rest(int(high[place]) << 64 | int(low[place]))
        return found

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these networks are not found, by their first and their last address."""
        last = (Prefix(value | (1 << 128 - length) - 1, length) for value, length in prefixes)
        found = np.ones(len(prefixes), np.bool_)
        for ends in (prefixes, last):
            high, low, _ = split(ends, 64)
            found &= self.contains(high, low)
        return [prefix for prefix, there in zip(prefixes, found.tolist(), strict=True) if not there]

    # --- pages ---

    def _add_short(self, high: int, length: int) -> bool:
        if length <= 16:
            first = high >> 48
            self._top[first : first + (1 << (16 - length))] = _ALL
            return True
        return self._set_page(high, length, lambda _: True)

    def _set_page(self, high: int, length: int, wanted: Callable[[int], bool]) -> bool:
        """Set or clear the bits of a network between /17 and /28; a new page is filled first and then named."""
        top = high >> 48
        page = int(self._top[top])
        if page == _ALL:
            return True
        if not page:
            if self._next_page > self._sizes.pages:
                return False
            page, self._next_page = self._next_page, self._next_page + 1
        first = high >> 36 & 4095
        for bit in range(first, first + (1 << (_FIRST - length))):
            place, mask = (page - 1) * _PAGE + (bit >> 6), np.uint64(1 << (bit & 63))
            if wanted(bit):
                self._pages[place] |= mask
            else:
                self._pages[place] &= ~mask
        self._top[top] = page
        return True

    def _in_pages(self, high: Words) -> NDArray[np.bool_]:
        pages = self._top[(high >> np.uint64(48)).astype(np.int64)]
        found: NDArray[np.bool_] = pages == _ALL
        paged = np.flatnonzero((pages > 0) & ~found)
        bits = high[paged] >> np.uint64(36) & np.uint64(4095)
        words = self._pages[(pages[paged].astype(np.int64) - 1) * _PAGE + (bits >> np.uint64(6)).astype(np.int64)]
        found[paged] = words >> (bits & np.uint64(63)) & np.uint64(1) == 1
        return found

    # --- filters ---

    def _pass(self, key: int, which: int) -> None:
        """Let a key through a filter; the filter is asked from the first key on."""
        bit = (key * self._factors.first & _WORD) >> self._sizes.shifts[which]
        self._filters[self._sizes.starts[which] + (bit >> 6)] |= np.uint64(1 << (bit & 63))
        self._shifts[which] = self._sizes.shifts[which]

    def _pass_all(self, keys: Words, which: int) -> None:
        if len(keys):
            bits = keys * np.uint64(self._factors.first) >> np.uint64(self._sizes.shifts[which])
            places = (bits >> np.uint64(6)).astype(np.int64) + self._sizes.starts[which]
            np.bitwise_or.at(self._filters, places, np.uint64(1) << (bits & np.uint64(63)))
            self._shifts[which] = self._sizes.shifts[which]

    def _passes(self, keys: Words, which: int) -> NDArray[np.bool_]:
        if int(self._shifts[which]) > 63:
            return np.zeros(len(keys), np.bool_)
        bits = keys * np.uint64(self._factors.first) >> np.uint64(self._sizes.shifts[which])
        words = self._filters[(bits >> np.uint64(6)).astype(np.int64) + self._sizes.starts[which]]
        passes: NDArray[np.bool_] = words >> (bits & np.uint64(63)) & np.uint64(1) == 1
        return passes

    # --- steps ---

    def _fill_lines(self, high: Words, lengths: NDArray[np.uint8]) -> None:
        keys, bits = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for length in range(_FIRST + 1, 65):
            of_length = high[lengths == length]
            step = step_of(length)
            below = 64 - _FIRST - step * _STEP
            size = 1 << (_FIRST + (step + 1) * _STEP - length)
            keys.append(of_length >> np.uint64(below) << np.uint64(3) | np.uint64(step))
            bits.append(np.uint64((1 << size) - 1) << (of_length >> np.uint64(below - _STEP) & np.uint64(63)))
        slots, joined = merged(np.concatenate(keys), np.concatenate(bits))
        marked = slots | np.uint64(_USED)
        places = self._factors.places(marked, 0, len(self._lines) - 1)
        order, rank = ranks(places)
        fits = rank < _SLOTS
        chosen = order[fits]
        self._lines[places[chosen], rank[fits] * 2 + 1] = joined[chosen]
        self._lines[places[chosen], rank[fits] * 2] = marked[chosen]
        self._used[0] = len(chosen)
        for place in order[~fits]:
            self._put(int(slots[place]), int(joined[place]))
        for step in range(_STEPS):
            self._pass_all(slots[slots & np.uint64(7) == step], step)

    def _find(self, key: int) -> tuple[int, int] | None:
        for attempt in range(2):
            line = self._factors.place(key | _USED, attempt, len(self._lines) - 1)
            for slot in range(0, 2 * _SLOTS, 2):
                if int(self._lines[line, slot]) & ~_MORE == key | _USED:
                    return line, slot
        return None

    def _bits(self, key: int) -> int:
        if found := self._find(key):
            return int(self._lines[found[0], found[1] + 1])
        return sum(1 << bit for bit in range(64) if self._rest.has(_prefix(key, bit))) if self._rest else 0

    def _put(self, key: int, bits: int) -> None:
        if found := self._find(key):
            self._lines[found[0], found[1] + 1] = np.uint64(bits)
        elif bits and (free := self._free(key)):
            line, slot = free
            mark = int(self._lines[line, 0]) & _MORE if slot == 0 else 0
            self._lines[line, slot + 1] = np.uint64(bits)
            self._lines[line, slot] = np.uint64(key | _USED | mark)
            self._used[0] += 1
            self._put_in_rest(key, 0)
        else:
            self._put_in_rest(key, bits)

    def _put_in_rest(self, key: int, bits: int) -> None:
        for bit in range(64) if self._rest or bits else ():
            each = _prefix(key, bit)
            if bits >> bit & 1:
                self._rest.add(each)
            elif self._rest.has(each):
                self._rest.remove(each)

    def _free(self, key: int) -> tuple[int, int] | None:
        """A free slot for a key; lines that are full are marked, so that whoever looks there goes on."""
        places = [self._factors.place(key | _USED, attempt, len(self._lines) - 1) for attempt in range(2)]
        for attempt, line in enumerate(places):
            for slot in range(0, 2 * _SLOTS, 2):
                if not int(self._lines[line, slot]) & _USED:
                    for full in places[:attempt]:
                        self._lines[full, 0] |= np.uint64(_MORE)
                    return line, slot
        for full in places:
            self._lines[full, 0] |= np.uint64(_MORE)
        return None

    def _look_in_lines(self, found: NDArray[np.bool_], asked: NDArray[np.int64], keys: Words, bits: Words) -> None:
        for attempt in range(2):
            marked = keys[asked] | np.uint64(_USED)
            lines = self._lines[self._factors.places(marked, attempt, len(self._lines) - 1)]
            same = lines[:, ::2] & np.uint64(~_MORE & _WORD) == marked[:, None]
            hit = (same & (lines[:, 1::2] >> bits[asked][:, None] & np.uint64(1) == 1)).any(axis=1)
            found[asked[hit]] = True
            asked = asked[~same.any(axis=1) & (lines[:, 0] & np.uint64(_MORE) != 0)]
        for place in asked:
            found[place] |= self._rest.has(_prefix(int(keys[place]), int(bits[place])))

    # --- whole addresses ---

    def _fill_hosts(self, high: Words, low: Words) -> None:
        own = high != 0
        for value in low[~own].tolist():
            self.add(Prefix(value, 128))
        high, low = high[own], low[own]
        keys = _address_keys(high, low)
        places = self._factors.places(keys, 0, len(self._hosts) - 1)
        order, rank = ranks(places)
        fits = rank < _SLOTS
        chosen = order[fits]
        self._hosts[places[chosen], rank[fits] * 2 + 1] = low[chosen]
        self._hosts[places[chosen], rank[fits] * 2] = high[chosen]
        self._used[1] = len(chosen)
        self._pass_all(keys[chosen], _ADDRESSES)
        for place in order[~fits]:
            self.add(Prefix(int(high[place]) << 64 | int(low[place]), 128))

    def _host_places(self, value: int) -> list[tuple[int, int]]:
        key = _address_key(value >> 64, value & _WORD)
        lines = [self._factors.place(key, attempt, len(self._hosts) - 1) for attempt in range(2)]
        return [(line, slot) for line in lines for slot in range(0, 2 * _SLOTS, 2)]

    def _find_host(self, value: int) -> tuple[int, int] | None:
        high, low = np.uint64(value >> 64), np.uint64(value & _WORD)
        for line, slot in self._host_places(value):
            if self._hosts[line, slot] == high and self._hosts[line, slot + 1] == low:
                return line, slot
        return None

    def _put_host(self, value: int) -> bool:
        if self._find_host(value):
            return True
        for line, slot in self._host_places(value):
            if not self._hosts[line, slot] and not self._hosts[line, slot + 1]:
                self._hosts[line, slot + 1] = np.uint64(value & _WORD)
                self._hosts[line, slot] = np.uint64(value >> 64)
                self._used[1] += 1
                return True
        return False

    def _remove_host(self, value: int) -> None:
        """The lower half stays and keeps the slot: it is nobody else's until all is built anew."""
        if found := self._find_host(value):
            self._hosts[found] = np.uint64(0)

    def _in_rest(self, value: int) -> bool:
        return any(self._rest.has(Prefix(value >> (128 - n) << (128 - n), n)) for n in range(_FIRST + 1, 129))


def _slot(high: int, length: int) -> tuple[int, int]:
    """The key of a network between /29 and /64, and the bits that it sets there."""
    step = step_of(length)
    below = 64 - _FIRST - step * _STEP
    size = 1 << (_FIRST + (step + 1) * _STEP - length)
    return high >> below << 3 | step, ((1 << size) - 1) << (high >> (below - _STEP) & 63)


def _prefix(key: int, bit: int) -> Prefix:
    """The network that one bit of a slot stands for."""
    step = key & 7
    length = _FIRST + (step + 1) * _STEP
    return Prefix((key >> 3 << _STEP | bit) << (128 - length), length)


def _covered(key: int, listed: Listed) -> int:
    """The bits of a slot that networks of its step cover."""
    step = key & 7
    last = _FIRST + (step + 1) * _STEP
    bits = 0
    for length in range(last - _STEP + 1, last + 1):
        size = 1 << (last - length)
        for first in range(0, 64, size):
            if listed(Prefix(_prefix(key, first).value, length)):
                bits |= ((1 << size) - 1) << first
    return bits


def _short_covers(high: int, bit: int, listed: Listed) -> bool:
    """Whether a network between /17 and /28 covers a bit of a page."""
    value = (high >> 48 << 12 | bit) << 100
    return any(listed(Prefix(value >> (128 - n) << (128 - n), n)) for n in range(17, _FIRST + 1))


def _address_key(high: int, low: int) -> int:
    return (high ^ low * _MIX & _WORD) | 1


def _address_keys(high: Words, low: Words) -> Words:
    return (high ^ low * np.uint64(_MIX)) | np.uint64(1)
