# SPDX-License-Identifier: Apache-2.0
"""IPv6 addresses as such: lines of four, in one of two places each; all as they stand in packets.

The line of an address's /32 among the networks' has a word with bits that say whether it is worth looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.membership import bits_of
from dataplanes.xdp.nets import Words
from dataplanes.xdp.slots import Factors, Number, as_sent, place_of, ranks
from dataplanes.xdp.v6_nets import NetLines

__all__ = ["Hosts", "hosts_for"]

_EACH = LAYOUT["V6_HOSTS_EACH"]
_WORD = (1 << 64) - 1
_MIX = 0x9E3779B97F4A7C15
# Of a line's last word, all bits but the one that is none of whole addresses.
_BITS = _WORD ^ LAYOUT["V6_MORE"]
_LOAD = 0.5


def hosts_for(addresses: int) -> int:
    """How many lines so many addresses need, with room to grow."""
    return max(64, int(addresses / _EACH / _LOAD))


class Hosts:
    """The addresses of one filter, given by their halves."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors, nets: NetLines) -> None:
        self._lines: Words = arrays["v6_hosts"].reshape(-1, 2 * _EACH)
        self._nets = nets
        self._factors = factors
        self._used = 0

    @property
    def load(self) -> float:
        """How full the lines are."""
        return self._used / (len(self._lines) * _EACH)

    def fill(self, high: Words, low: Words) -> NDArray[np.int64]:
        """Put many addresses into empty lines; tells which ones have to be added one by one."""
        words, filters = self._nets.filters(high)
        high, low = as_sent(high, 8), as_sent(low, 8)
        keys = _key(high, low)
        places = self._place(keys, self._factors.first)
        order, rank = ranks(places)
        fits = (rank < _EACH) & (high[order] != 0) & (low[order] != 0)
        chosen = order[fits]
        self._lines[places[chosen], rank[fits] * 2 + 1] = low[chosen]
        self._lines[places[chosen], rank[fits] * 2] = high[chosen]
        self._used = len(chosen)
        np.bitwise_or.at(words, filters[chosen], self._bits(keys[chosen]))
        left: NDArray[np.int64] = order[~fits]
        return left

    def add(self, value: int) -> bool:
        """List an address; False when it finds no place, as one without an upper or a lower half: it looks empty."""
        high, low = _halves(value)
        if not (high and low):
            return False
        if self._find(value) is not None:
            return True
        for line, slot in self._slots(value):
            if not self._lines[line, slot] and not self._lines[line, slot + 1]:
                self._lines[line, slot + 1] = np.uint64(low)
                self._lines[line, slot] = np.uint64(high)
                self._used += 1
                words, its = self._nets.filters(value >> 64)
                words[its] |= np.uint64(self._bits(_key(high, low)))
                return True
        return False

    def remove(self, value: int) -> None:
        """Take an address out. Its lower half stays and keeps the slot: nobody else's until all is built anew."""
        if (at := self._find(value)) is not None:
            self._lines[at] = np.uint64(0)

    def look(self, high: Words, low: Words) -> NDArray[np.bool_]:
        """Which addresses are found."""
        words, filters = self._nets.filters(high)
        high, low = as_sent(high, 8), as_sent(low, 8)
        keys = _key(high, low)
        bits = self._bits(keys)
        found = np.zeros(len(high), np.bool_)
        asked = np.flatnonzero(words[filters] & bits == bits)
        for factor in (self._factors.first, self._factors.second):
            lines = self._lines[self._place(keys[asked], factor)]
            same = (lines[:, ::2] == high[asked][:, None]) & (lines[:, 1::2] == low[asked][:, None])
            found[asked] |= same.any(axis=1)
        return found

    def _slots(self, value: int) -> Iterator[tuple[int, int]]:
        key = _key(*_halves(value))
        for factor in (self._factors.first, self._factors.second):
            line = self._place(key, factor)
            yield from ((line, slot) for slot in range(0, 2 * _EACH, 2))

    def _find(self, value: int) -> tuple[int, int] | None:
        high, low = map(np.uint64, _halves(value))
        for line, slot in self._slots(value):
            if self._lines[line, slot] == high and self._lines[line, slot + 1] == low:
                return line, slot
        return None

    def _bits(self, keys: Number) -> Number:
        bits: Number = bits_of(keys * self._factors.first & _WORD) & _BITS
        return bits

    def _place(self, keys: Number, factor: int) -> Number:
        return place_of((keys * factor & _WORD) >> 32, 32, len(self._lines))


def _halves(value: int) -> tuple[int, int]:
    return as_sent(value >> 64, 8), as_sent(value & _WORD, 8)


def _key(high: Number, low: Number) -> Number:
    """What stands for a whole address in places and filters (``address_key`` of the filter)."""
    key: Number = high ^ low * _MIX & _WORD
    return key
