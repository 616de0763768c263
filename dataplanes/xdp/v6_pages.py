# SPDX-License-Identifier: Apache-2.0
"""IPv6 networks shorter than /32: below each /16 a page with a bit for each /32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix, Words

__all__ = ["PAGE_BITS", "Pages", "pages_for"]

PAGE_BITS = LAYOUT["V6_PAGE_BITS"]
"""How many bits of an address tell a bit of a page; networks that are no longer are not in pages."""

_WHOLE, _NONE, _WORDS = LAYOUT["V6_WHOLE_PAGE"], LAYOUT["V6_NO_PAGE"], LAYOUT["V6_PAGE_WORDS"]
_FIRST_OWN = 2
_ALL_ONES = (1 << 64) - 1
# So many /16s may come without a page for each being made beforehand.
_SPARE = 4
# A shorter network than this is taken out by building anew.
_SHORTEST_TO_REMOVE = 22


def pages_for(prefixes: Iterable[Prefix]) -> int:
    """How many pages a list needs, with room to grow; none if it has nothing so short."""
    short = {value >> 112 for value, length in prefixes if length < PAGE_BITS}
    return _FIRST_OWN + _SPARE + len(short) if short else 0


class Pages:
    """The number of a page for each /16, and the pages: the first one is for no network, the second for all."""

    def __init__(self, top: NDArray[Any], pages: Words) -> None:
        self._top = top
        self._pages = pages[: len(pages) // _WORDS * _WORDS].reshape(-1, _WORDS)
        self._next = _FIRST_OWN
        if len(self._pages) > _WHOLE:
            self._pages[_WHOLE] = _ALL_ONES

    def add(self, prefix: Prefix) -> bool:
        """List a network; False when there is no page for it."""
        value, length = prefix
        if not len(self._pages):
            return False
        if length <= 16:
            first = value >> 112
            self._top[first : first + (1 << (16 - length))] = _WHOLE
            return True
        top = value >> 112
        page = int(self._top[top])
        if page == _WHOLE:
            return True
        if page == _NONE:
            if self._next == len(self._pages):
                return False
            page, self._next = self._next, self._next + 1
        first, count = value >> 96 & 0xFFFF, 1 << (PAGE_BITS - length)
        for word in range(first >> 6, (first + count - 1 >> 6) + 1):
            low, high = max(first, word << 6) & 63, min(first + count - 1, word << 6 | 63) & 63
            self._pages[page, word] |= np.uint64((1 << (high + 1)) - (1 << low))
        self._top[top] = page  # a new page is named when it is full
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out, of whose addresses ``listed`` knows what else covers them; False: build anew instead."""
        value, length = prefix
        if length < _SHORTEST_TO_REMOVE:
            return False
        page = int(self._top[value >> 112])
        if page in (_NONE, _WHOLE):
            return True
        first = value >> 96
        for own in range(first, first + (1 << (PAGE_BITS - length))):
            address = own << 96
            if not any(listed(Prefix(address >> (128 - n) << (128 - n), n)) for n in range(17, PAGE_BITS)):
                bit = own & 0xFFFF
                self._pages[page, bit >> 6] &= ~np.uint64(1 << (bit & 63))
        return True

    def look(self, high: Words) -> NDArray[np.bool_]:
        """Which addresses, given by their upper halves, are found."""
        if not len(self._pages):
            return np.zeros(len(high), np.bool_)
        pages = self._top[(high >> 48).astype(np.int64)].astype(np.int64)
        words = self._pages[pages, (high >> 38 & (_WORDS - 1)).astype(np.int64)]
        found: NDArray[np.bool_] = words >> (high >> 32 & 63) & 1 == 1
        return found
