# SPDX-License-Identifier: Apache-2.0
"""IPv6 networks from /33 to /64: all those of one /32 in one line of 64 bytes, a word each, whatever their lengths.

Where they are too many, a network goes on to a line of the nearest level above it, the place of which is named by more
of its bits; a reader looks at one line of each level then. A word is written in one piece and means the same whenever
it is read, so that it may be used again for another network at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Prefix, Words
from dataplanes.xdp.slots import Factors, Number, place_of, ranks

__all__ = ["NetLines", "lines_for", "more_for"]

_WORDS, _SHIFT_BITS, _MORE = LAYOUT["V6_LINE_WORDS"], LAYOUT["V6_SHIFT_BITS"], LAYOUT["V6_MORE"]
_LEVELS = tuple(LAYOUT[f"V6_LEVEL_{level}"] for level in range(LAYOUT["V6_LEVELS"]))
_HOME = _LEVELS[0]
_WORD = (1 << 64) - 1
_LOAD = 0.4
# Of fewer lines, the numbers of one have more lower bits than a word has.
_FEWEST = 128
_SECOND = 32
"""How many times fewer lines each level has than there are at first."""


def lines_for(nets: int) -> int:
    """How many lines so many networks need, with room to grow."""
    return max(_FEWEST, int(nets / _WORDS / _LOAD))


def more_for(prefixes: Iterable[Prefix], lines: int) -> int:
    """How many lines each level needs: more than a share of the first ones where networks crowd in some /32s."""
    crowd: dict[int, int] = {}
    for value, length in prefixes:
        if _HOME < length <= 64:
            crowd[value >> 96] = crowd.get(value >> 96, 0) + 1
    over = sum(count - _WORDS // 2 for count in crowd.values() if count > _WORDS // 2)
    return max(_FEWEST, lines // _SECOND, int(over / _WORDS / _LOAD))


class NetLines:
    """The lines of one filter; networks are given by upper halves and lengths."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors) -> None:
        self._home: Words = arrays["v6_lines"].reshape(-1, _WORDS)
        self._more: Words = arrays["v6_more"].reshape(len(_LEVELS), -1, _WORDS)
        self._factors = factors
        self._used = [0] * (1 + len(_LEVELS))

    @property
    def load(self) -> float:
        """How full the fullest part is."""
        sizes = (self._home.size, *(level.size for level in self._more))
        return max(used / int(size) for used, size in zip(self._used, sizes, strict=True))

    def fill(self, high: Words, lengths: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Put many networks into empty lines; tells which ones found no place."""
        mixed = _mixed(high, self._factors.first, _HOME)
        shifts = 64 - lengths.astype(np.uint64) + _SHIFT_BITS
        left = self._fill(self._home, 0, mixed, shifts, np.arange(len(high)))
        missing = [np.empty(0, np.int64)]
        for level, bits in enumerate(_LEVELS):
            above = _LEVELS[level + 1] if level + 1 < len(_LEVELS) else 64
            own = left[(lengths[left] > bits) & (lengths[left] <= above)]
            mixed = _mixed(high[own], self._factors.second, bits)
            missing.append(self._fill(self._more[level], level + 1, mixed, shifts[own], own))
        return np.concatenate(missing)

    def add(self, high: int, length: int) -> bool:
        """List a network; False when it finds no place: lines that are full are marked, so whoever looks goes on."""
        for part, (lines, place, word) in enumerate(self._places(high, length)):
            if self._find(lines, place, word) is not None:
                return True
            for slot in range(_WORDS):
                mark = int(lines[place, slot]) & _MORE if slot == 0 else 0
                if int(lines[place, slot]) == mark:
                    lines[place, slot] = np.uint64(word | mark)
                    self._used[_part(part, length)] += 1
                    return True
            lines[place, 0] |= np.uint64(_MORE)
        return False

    def remove(self, high: int, length: int) -> bool:
        """Take a network out; False when it is not there."""
        for part, (lines, place, word) in enumerate(self._places(high, length)):
            if (slot := self._find(lines, place, word)) is not None:
                lines[place, slot] = np.uint64(int(lines[place, slot]) & _MORE if slot == 0 else 0)
                self._used[_part(part, length)] -= 1
                return True
        return False

    def look(self, high: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which addresses, given by their upper halves, are found, and of which ones not all lines had room."""
        found, on = self._look(self._home, _mixed(high, self._factors.first, _HOME))
        asked = np.flatnonzero(on & ~found)
        beyond = np.zeros(len(high), np.bool_)
        for level, bits in enumerate(_LEVELS):
            hit, full = self._look(self._more[level], _mixed(high[asked], self._factors.second, bits))
            found[asked[hit]] = True
            beyond[asked[full]] = True
        return found, beyond

    def _fill(
        self, lines: Words, part: int, mixed: Words, shifts: Words, which: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        places = place_of(mixed >> 32, 32, len(lines))
        order, rank = ranks(places)
        fits = rank < _WORDS
        chosen, left = order[fits], order[~fits]
        lines[places[chosen], rank[fits]] = _word(mixed[chosen], shifts[chosen])
        lines[places[left], 0] |= np.uint64(_MORE)
        self._used[part] = len(chosen)
        return which[left]

    def _look(self, lines: Words, mixed: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        words = lines[place_of(mixed >> 32, 32, len(lines))]
        marked = words[:, 0] & _MORE != 0
        words[:, 0] &= _MORE - 1
        own = (mixed << 7 >> 1)[:, None]
        same = (own ^ words) >> (words & 63) == 0
        return (same & (words != 0)).any(axis=1), marked

    def _places(self, high: int, length: int) -> Iterable[tuple[Words, int, int]]:
        """The two places where a network may be, with its word there."""
        level = max(place for place, bits in enumerate(_LEVELS) if bits < length)
        ways = ((self._home, self._factors.first, _HOME), (self._more[level], self._factors.second, _LEVELS[level]))
        for lines, factor, bits in ways:
            mixed = _mixed(high, factor, bits) & _WORD
            word = _word(mixed & (1 << 57) - 1, 64 - length + _SHIFT_BITS)
            yield lines, place_of(mixed >> 32, 32, len(lines)), word

    def _find(self, lines: Words, place: int, word: int) -> int | None:
        known = [int(each) for each in lines[place]]
        known[0] &= _MORE - 1
        return known.index(word) if word in known else None


def _part(attempt: int, length: int) -> int:
    return attempt and 1 + max(place for place, bits in enumerate(_LEVELS) if bits < length)


def _mixed(high: Number, factor: int, level: int) -> Number:
    """The bits of a level become a hash that is a key of its own; those below stay (``v6_mixed`` of the filter)."""
    mixed: Number = (high >> (64 - level)) * (factor & (1 << level) - 1) << (64 - level) & _WORD
    mixed |= high & (1 << (64 - level)) - 1
    return mixed


def _word(mixed: Number, shift: Number) -> Number:
    """What stands for a network: the lower bits of its number, and how many of the word are not its own."""
    word: Number = (mixed << 7 & _WORD) >> 1 >> shift << shift | shift
    return word
