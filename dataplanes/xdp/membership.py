# SPDX-License-Identifier: Apache-2.0
"""Filters that say at the price of one near read that a key is not in a table; of keys not there they pass few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.nets import Words
from dataplanes.xdp.slots import Number, place_of

__all__ = ["Filter", "filter_words"]

_WORD = (1 << 64) - 1
# So many bits for each key: of those not there one in sixty passes.
_BITS_EACH = 16


def filter_words(keys: int) -> int:
    """How many words a filter of so many keys has, with room to grow."""
    return max(64, keys * _BITS_EACH // 64)


class Filter:
    """A filter in these words: two bits of one for each key. It only ever gains bits."""

    def __init__(self, words: Words, factor: int) -> None:
        self._words = words
        self._factor = factor

    def add(self, key: int) -> None:
        """Let a key pass."""
        hashed = key * self._factor & _WORD
        bits = 1 << (hashed >> 32 & 63) | 1 << (hashed >> 38 & 63)
        self._words[self._place(hashed)] |= np.uint64(bits)

    def add_all(self, keys: Words) -> None:
        """Let many keys pass."""
        hashed = keys * self._factor
        one = np.uint64(1)
        np.bitwise_or.at(self._words, self._place(hashed), one << (hashed >> 32 & 63) | one << (hashed >> 38 & 63))

    def passes(self, keys: Words) -> NDArray[np.bool_]:
        """Which keys pass."""
        hashed = keys * self._factor
        words = self._words[self._place(hashed)]
        through: NDArray[np.bool_] = words >> (hashed >> 32 & 63) & words >> (hashed >> 38 & 63) & 1 == 1
        return through

    def _place(self, hashed: Number) -> Number:
        return place_of(hashed >> 32, 32, len(self._words))
