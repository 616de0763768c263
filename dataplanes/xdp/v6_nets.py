# SPDX-License-Identifier: Apache-2.0
"""IPv6 networks from /32 to /64: all those of one /32 in one line of 64 bytes, a word each, whatever their lengths.

Where they are too many, a network goes on to a second line of its /32, and from there to a line of the nearest level
above it, the place of which is named by more of its bits; a reader looks at one line of each level then. A word is
written in one piece and means the same whenever it is read, so that it may be used again for another network at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Prefix, Words
from dataplanes.xdp.slots import Factors, Number, as_sent, place_of, ranks

__all__ = ["NetLines", "lines_for", "more_for"]

_WORDS, _NETS = LAYOUT["V6_LINE_WORDS"], LAYOUT["V6_LINE_NETS"]
_PLACE_BITS, _SHIFT_BITS = LAYOUT["V6_PLACE_BITS"], LAYOUT["V6_SHIFT_BITS"]
_FREE, _SECOND, _MORE = LAYOUT["V6_FREE"], LAYOUT["V6_SECOND"], LAYOUT["V6_MORE"]
_LEVELS = tuple(LAYOUT[f"V6_LEVEL_{level}"] for level in range(LAYOUT["V6_LEVELS"]))
_HOME = _LEVELS[0]
_WORD = (1 << 64) - 1
# At this load one network in fifty is in a second line; at half of it next to none.
_LOAD = 0.6
# So many whole addresses set half of the bits of a line's word.
_HOSTS = 12
# Of fewer lines, the numbers of one have more lower bits than a word has.
_FEWEST = 1 << _PLACE_BITS
_FEWER = 128
"""How many times fewer lines each level has than there are at first."""


def lines_for(nets: int, hosts: int) -> int:
    """How many lines so many networks need, with room to grow, and so many whole addresses for their bits.

    A power of two, so that the filter finds a line by a shift.
    """
    return 1 << (max(_FEWEST, int(nets / _NETS / _LOAD), hosts // _HOSTS) - 1).bit_length()


def more_for(prefixes: Iterable[Prefix], lines: int) -> int:
    """How many lines each level needs: more than a share of the first ones where networks crowd in some /32s."""
    crowd: dict[int, int] = {}
    for value, length in prefixes:
        if _HOME <= length <= 64:
            crowd[value >> 96] = crowd.get(value >> 96, 0) + 1
    over = sum(count - _NETS for count in crowd.values() if count > _NETS)
    return max(_FEWEST, lines // _FEWER, int(over / _NETS / _LOAD))


@dataclass(frozen=True, slots=True)
class _Way:
    """One of the lines where a network may be: the number of its part, and how its place and its words are made."""

    part: int
    lines: Words
    factor: int
    bits: int
    flag: int

    def find(self, high: int, length: int) -> tuple[int, int]:
        """The place of a network, and its word there."""
        mixed = _mixed(high, self.factor, self.bits) & _WORD
        word = _word(mixed, 64 - length + _SHIFT_BITS) | self.flag
        return place_of(mixed >> 32, 32, len(self.lines)), word


class NetLines:
    """The lines of one filter, which are empty at first; networks are given by upper halves and lengths."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors) -> None:
        self._home: Words = arrays["v6_lines"].reshape(-1, _WORDS)
        self._more: Words = arrays["v6_more"].reshape(len(_LEVELS), -1, _WORDS)
        self._home[:, :_NETS] = _FREE
        self._more[:, :, :_NETS] = _FREE
        self._factors = factors
        self._used = [0] * (1 + len(_LEVELS))

    @property
    def load(self) -> float:
        """How full the fullest part is."""
        sizes = (self._home.size, *(level.size for level in self._more))
        return max(used * _WORDS / _NETS / int(size) for used, size in zip(self._used, sizes, strict=True))

    def filters(self, high: Number) -> tuple[Words, Number]:
        """The words that have bits for whole addresses, and which one is that of addresses with such upper halves."""
        places = place_of(_mixed(high, self._factors.first, _HOME) >> 32, 32, len(self._home))
        return self._home[:, _NETS], places

    def fill(self, high: Words, lengths: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Put many networks into empty lines; tells which ones found no place."""
        shifts = 64 - lengths.astype(np.uint64) + _SHIFT_BITS
        levels = np.searchsorted(_LEVELS[1:], lengths)
        left = np.arange(len(high))
        for second in (False, True):
            left = self._fill(self._home_way(second), high, shifts, left)
        missing = [np.empty(0, np.int64)]
        for level in range(len(_LEVELS)):
            own = left[levels[left] == level]
            missing.append(self._fill(self._level_way(level), high, shifts, own))
        return np.concatenate(missing)

    def add(self, high: int, length: int) -> bool:
        """List a network; False when it finds no place: lines that are full are marked, so whoever looks goes on."""
        for way in self._ways(length):
            place, word = way.find(high, length)
            if self._slot(way, place, word) is not None:
                return True
            if (slot := self._slot(way, place, _FREE)) is not None:
                way.lines[place, slot] = np.uint64(word)
                self._used[way.part] += 1
                return True
            way.lines[place, _NETS] |= np.uint64(_MORE)
        return False

    def remove(self, high: int, length: int) -> bool:
        """Take a network out; False when it is not there."""
        for way in self._ways(length):
            place, word = way.find(high, length)
            if (slot := self._slot(way, place, word)) is not None:
                way.lines[place, slot] = np.uint64(_FREE)
                self._used[way.part] -= 1
                return True
        return False

    def look(self, high: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which addresses, given by their upper halves, are found, and of which ones not all lines had room."""
        found = np.zeros(len(high), np.bool_)
        asked = np.arange(len(high))
        for second in (False, True):
            hit, full = self._look(self._home_way(second), high[asked])
            found[asked[hit]] = True
            asked = asked[full & ~hit]
        beyond = np.zeros(len(high), np.bool_)
        for level in range(len(_LEVELS)):
            hit, full = self._look(self._level_way(level), high[asked])
            found[asked[hit]] = True
            beyond[asked[full]] = True
        return found, beyond

    def _fill(self, way: _Way, high: Words, shifts: Words, which: NDArray[np.int64]) -> NDArray[np.int64]:
        mixed = _mixed(high[which], way.factor, way.bits)
        places = place_of(mixed >> 32, 32, len(way.lines))
        taken = np.count_nonzero(way.lines[places, :_NETS] != _FREE, axis=1)
        order, rank = ranks(places)
        slots = rank + taken[order]
        fits = slots < _NETS
        chosen, left = order[fits], order[~fits]
        way.lines[places[chosen], slots[fits]] = _word(mixed[chosen], shifts[which[chosen]]) | np.uint64(way.flag)
        way.lines[places[left], _NETS] |= np.uint64(_MORE)
        self._used[way.part] += len(chosen)
        missing: NDArray[np.int64] = which[left]
        return missing

    @staticmethod
    def _look(way: _Way, high: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        mixed = _mixed(high, way.factor, way.bits)
        lines = way.lines[place_of(mixed >> 32, 32, len(way.lines))]
        differs = _own(mixed)[:, None] ^ lines[:, :_NETS] ^ np.uint64(way.flag)
        found = (differs >> (differs & (1 << _SHIFT_BITS) - 1) == 0).any(axis=1)
        return found, lines[:, _NETS] & _MORE != 0

    def _ways(self, length: int) -> Iterable[_Way]:
        """Where a network may be, one after the other."""
        level = max((place for place, bits in enumerate(_LEVELS) if bits < length), default=0)
        return self._home_way(second=False), self._home_way(second=True), self._level_way(level)

    def _home_way(self, second: bool) -> _Way:
        if second:
            return _Way(0, self._home, self._factors.second, _HOME, _SECOND)
        return _Way(0, self._home, self._factors.first, _HOME, 0)

    def _level_way(self, level: int) -> _Way:
        return _Way(level + 1, self._more[level], self._factors.second, _LEVELS[level], 0)

    @staticmethod
    def _slot(way: _Way, place: int, word: int) -> int | None:
        known = way.lines[place, :_NETS].tolist()
        return known.index(word) if word in known else None


def _mixed(high: Number, factor: int, level: int) -> Number:
    """The bits of a level become a hash that is a key of its own; those below stay.

    These are ``v6_mixed`` and ``v6_home`` of the filter.
    """
    own = high >> 64 - level
    mixed: Number = (as_sent(own, 4) if level == _HOME else own) * (factor & (1 << level) - 1) << (64 - level) & _WORD
    mixed |= high & (1 << (64 - level)) - 1
    return mixed


def _own(mixed: Number) -> Number:
    """What of such a number is in words, where it is there."""
    own: Number = (mixed << _PLACE_BITS & _WORD) >> _PLACE_BITS - _SHIFT_BITS
    return own


def _word(mixed: Number, shift: Number) -> Number:
    """What stands for a network: the lower bits of its number, and how many of the word are not its own."""
    word: Number = _own(mixed) >> shift << shift | shift
    return word
