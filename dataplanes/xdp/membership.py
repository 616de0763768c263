# SPDX-License-Identifier: Apache-2.0
"""Bits of a word that say that a key is not in a table; of keys not there they pass few."""

from __future__ import annotations

from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.nets import Words
from dataplanes.xdp.slots import Number, place_of

__all__ = ["Filter", "bits_of", "filter_words"]

_WORD = (1 << 64) - 1
# So many bits for each key: of those not there one in a hundred passes.
_BITS_EACH = 16
# Where in a hash stand the numbers of its three bits.
_BITS_AT = (26, 32, 38)


def filter_words(keys: int) -> int:
    """How many words a filter of so many keys has, with room to grow."""
    return max(64, keys * _BITS_EACH // 64)


def bits_of(hashes: Number) -> Number:
    """The bits of a word that keys with such hashes have (``has_bits`` of the filter)."""
    one = (hashes & 0) + 1
    return reduce(or_, (one << (hashes >> at & 63) for at in _BITS_AT))


class Filter:
    """A filter in these words: three bits of one for each key. It only ever gains bits."""

    def __init__(self, words: Words, factor: int) -> None:
        self._words = words
        self._factor = factor

    def add(self, key: int) -> None:
        """Let a key pass."""
        hashed = key * self._factor & _WORD
        self._words[self._place(hashed)] |= np.uint64(bits_of(hashed))

    def passes(self, keys: Words) -> NDArray[np.bool_]:
        """Which keys pass."""
        hashed = keys * self._factor
        bits = bits_of(hashed)
        through: NDArray[np.bool_] = self._words[self._place(hashed)] & bits == bits
        return through

    def _place(self, hashed: Number) -> Number:
        return place_of(hashed >> 32, 32, len(self._words))
