# SPDX-License-Identifier: Apache-2.0
"""Where keys belong: a hash names a place with room for several, and hashes of one place are neighbours.

Whoever knows the place knows the upper bits of the hash, so that only the lower ones need to be written there.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.nets import Words

__all__ = ["Factors", "Number", "as_sent", "merged", "place_of", "ranks"]

Number = TypeVar("Number", int, NDArray[Any])
"""One number of 64 bits, or an array of them."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Two factors that nobody outside knows: or an attacker could choose sources that all fall into one place.

    They are odd, so that different keys have different products. The second is for what found no place at first.
    """

    first: int
    second: int

    @classmethod
    def drawn(cls) -> Factors:
        """New ones."""
        return cls(secrets.randbits(64) | 1, secrets.randbits(64) | 1)


def as_sent(numbers: Number, size: int) -> Number:
    """Numbers of so many bytes as a program reads them from a packet: the first byte is the lowest."""
    bytes_of = [numbers >> 8 * each & 255 for each in range(size)]
    return reduce(or_, (byte << 8 * each for each, byte in enumerate(reversed(bytes_of))))


def place_of(hashes: Number, bits: int, places: int) -> Number:
    """Which of so many places hashes of so many bits, at most 32, belong to (``place_of`` of the filter)."""
    return hashes * places >> bits


def ranks(places: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
