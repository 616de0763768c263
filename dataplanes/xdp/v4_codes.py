# SPDX-License-Identifier: Apache-2.0
"""IPv4 networks from /17 on as codes of sixteen bits, eight of them in sixteen bytes: one read tells.

A code's tag names a /24 among those of its place; shorter networks are listed as their /24s. A code is written in one
piece and means the same whenever it is read, so that its room may be used again for another network at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Words
from dataplanes.xdp.slots import Number, as_sent, place_of, ranks

__all__ = ["BLOCK_BITS", "Codes", "code_of", "places_for"]

BLOCK_BITS: Final = LAYOUT["V4_BLOCK_BITS"]
"""Length of the networks whose codes share a tag."""

_EACH, _CODE_BITS = LAYOUT["V4_CODES_EACH"], LAYOUT["V4_CODE_BITS"]
_FREE, _ELSEWHERE = LAYOUT["V4_FREE"], LAYOUT["V4_ELSEWHERE"]
_TAG = (1 << 16 - _CODE_BITS) - 1
_LOWER = (1 << _CODE_BITS) - 1
# At this load one code in thirty has to be elsewhere.
_LOAD = 0.6
# Each place lacks at least one tag then, with which what is free is marked.
_FEWEST = -(-(1 << BLOCK_BITS) // (_TAG - 1))


def places_for(codes: int) -> int:
    """How many places so many codes need, with room to grow."""
    return max(_FEWEST, int(codes / _EACH / _LOAD))


def code_of(values: Number, length: int) -> Number:
    """What a code says of networks from /24 on, given by their first addresses, below its tag."""
    code: Number = (values & 255) << 1 | 1 << 32 - length
    return code


class Codes:
    """The codes of one filter, each for a /24, by the number of that, and what is listed of it."""

    def __init__(self, words: Words, factor: int) -> None:
        # Inverted, so that a table that somebody has emptied holds next to nothing in place of everything.
        self._inverted = words.view(np.uint16).reshape(-1, _EACH)
        self._factor = factor
        self._used = 0

    @property
    def load(self) -> float:
        """The share of the room that is taken."""
        return self._used / self._inverted.size

    def fill(self, blocks: Words, codes: Words) -> NDArray[np.int64]:
        """Put different codes into an empty table; tells which ones found no room: rather those of few addresses."""
        hashes = self._hash(blocks)
        places = place_of(hashes, BLOCK_BITS, len(self._inverted))
        broad = np.argsort(codes & (~codes + 1), kind="stable")[::-1]
        order, rank = ranks(places[broad])
        order = broad[order]
        crowded = np.bincount(places, minlength=len(self._inverted)) > _EACH
        fits = rank < _EACH - crowded[places[order]]
        chosen = order[fits]
        left: NDArray[np.int64] = order[~fits]
        free = self._none(np.arange(len(self._inverted), dtype=np.uint64))
        self._inverted[:] = ~(free | np.uint64(_FREE)).astype(np.uint16)[:, None]
        self._inverted[crowded, -1] = ~(free[crowded] | np.uint64(_ELSEWHERE)).astype(np.uint16)
        self._inverted[places[chosen], rank[fits]] = ~_whole(hashes[chosen], codes[chosen]).astype(np.uint16)
        self._used = len(chosen)
        return left

    def look(self, addresses: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which addresses are found, and which ones may be elsewhere."""
        hashes = self._hash(addresses >> 8)
        known = ~self._inverted[place_of(hashes, BLOCK_BITS, len(self._inverted))]
        own = _whole(hashes, (addresses & 255) << 1).astype(np.uint16)
        found = ((own[:, None] ^ known) & ~(known ^ (known - np.uint16(1))) == 0).any(axis=1)
        return found, known[:, -1] & _LOWER == _ELSEWHERE

    def add(self, block: int, code: int) -> bool:
        """List something; False when there is no room."""
        place, whole = self._find(block, code)
        known = self._known(place)
        if whole in known:
            return True
        free = self._none(place) | _FREE
        if free not in known:
            return False
        self._write(place, known.index(free), whole)
        self._used += 1
        return True

    def remove(self, block: int, code: int) -> bool:
        """Take something out; False when it is not there."""
        place, whole = self._find(block, code)
        known = self._known(place)
        if whole not in known:
            return False
        self._write(place, known.index(whole), self._none(place) | _FREE)
        self._used -= 1
        return True

    def last(self, block: int) -> tuple[int, int] | None:
        """What has to be elsewhere before ``mark``, by /24 and code: it stands where the mark will be."""
        place, _ = self._find(block, 0)
        whole = self._known(place)[-1]
        if whole in (self._none(place) | _FREE, self._none(place) | _ELSEWHERE):
            return None
        first = _first(place, len(self._inverted))
        own = first + ((whole >> _CODE_BITS) - first & _TAG)
        return as_sent(own * pow(self._factor, -1, 1 << BLOCK_BITS) % (1 << BLOCK_BITS), 3), whole & _LOWER

    def mark(self, block: int) -> None:
        """Say that something of this /24's place is elsewhere."""
        place, _ = self._find(block, 0)
        self._write(place, _EACH - 1, self._none(place) | _ELSEWHERE)

    def _find(self, block: int, code: int) -> tuple[int, int]:
        """A place, and a code with its tag there."""
        own = self._hash(block)
        return place_of(own, BLOCK_BITS, len(self._inverted)), _whole(own, code)

    def _known(self, place: int) -> list[int]:
        return [int(each) for each in ~self._inverted[place]]

    def _write(self, place: int, which: int, whole: int) -> None:
        self._inverted[place, which] = ~np.uint16(whole)

    def _hash(self, blocks: Number) -> Number:
        """The number of a /24 as another one (``v4_hash`` of the filter)."""
        return as_sent(blocks, 3) * (self._factor & (1 << BLOCK_BITS) - 1) & (1 << BLOCK_BITS) - 1

    def _none(self, places: Number) -> Number:
        """A tag that no /24 of a place has, where it stands in a code: the one before that of the first."""
        return (_first(places, len(self._inverted)) + _TAG & _TAG) << _CODE_BITS


def _first(places: Number, number: int) -> Number:
    """The lowest hash that belongs to each place."""
    first: Number = ((places << BLOCK_BITS) + number - 1) // number
    return first


def _whole(hashes: Number, codes: Number) -> Number:
    whole: Number = (hashes & _TAG) << _CODE_BITS | codes
    return whole
