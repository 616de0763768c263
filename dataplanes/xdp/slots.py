# SPDX-License-Identifier: Apache-2.0
"""Lines of slots: a key is in the one line that its hash names, or, when that was full, in the one that a second names.

A line is 64 bytes, what one cache miss brings. Each slot is written so that a reader at any moment finds either the
key and its value or neither.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Words

__all__ = ["Factors", "capacity", "merged", "ranks"]

_LINE_WORDS = LAYOUT["LINE_WORDS"]
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Factors:
    """Two factors that nobody outside knows: or an attacker could choose sources that all fall into one line."""

    first: int
    second: int

    @classmethod
    def drawn(cls) -> Factors:
        """New ones, odd, so that no bit of a key is lost."""
        return cls(secrets.randbits(64) | 1, secrets.randbits(64) | 1)

    def place(self, key: int, attempt: int, mask: int) -> int:
        """Which line a key is in, at the first or second attempt (``place_of`` of the filter)."""
        return ((key * (self.second if attempt else self.first) & _WORD) >> 32) & mask

    def own(self, key: int, shift: int, slots: int) -> int:
        """The slot that is a key's own, in the line of its first attempt."""
        return ((key * self.first & _WORD) >> shift) & (slots - 1)

    def owns(self, keys: Words, shift: int, slots: int) -> NDArray[np.int64]:
        """The same of many keys."""
        return ((keys * np.uint64(self.first) >> np.uint64(shift)) & np.uint64(slots - 1)).astype(np.int64)

    def places(self, keys: Words, attempt: int, mask: int) -> NDArray[np.int64]:
        """The same of many keys."""
        factor = np.uint64(self.second if attempt else self.first)
        return (((keys * factor) >> np.uint64(32)) & np.uint64(mask)).astype(np.int64)


def capacity(slots: int, each_line: int) -> int:
    """How many lines hold so many slots at a load of a quarter to a half, which is a power of two."""
    wanted = max(1, -(-slots * 2 // each_line))
    return 1 << (wanted - 1).bit_length()


def ranks(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order in which equal places are neighbours, and each one's number among its equals, in that order."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    counts = np.diff(np.r_[starts, len(ordered)])
    return order, np.arange(len(ordered)) - np.repeat(starts, counts)


def merged(keys: Words, bits: Words) -> tuple[Words, Words]:
    """Each key once, with all the bits that it had."""
    if not len(keys):
        return keys, bits
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return ordered[starts], np.bitwise_or.reduceat(bits[order], starts)
