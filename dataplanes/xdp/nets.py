# SPDX-License-Identifier: Apache-2.0
"""Networks as the numbers that tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataplanes.api import Net

__all__ = ["Listed", "Prefix", "Words", "prefix_of", "split"]

Words = NDArray[np.uint64]


class Prefix(NamedTuple):
    """A network: its first address as a number, and how many of its bits are fixed."""

    value: int
    length: int


Listed = Callable[[Prefix], bool]
"""Whether just this network is in the list, whatever others there are."""


def prefix_of(net: Net) -> Prefix:
    """The network as numbers."""
    return Prefix(int(net.network_address), net.prefixlen)


def split(prefixes: Iterable[Prefix], half: int) -> tuple[Words, Words, NDArray[np.uint8]]:
    """Upper and lower halves of ``half`` bits of the addresses, and the lengths, each an array."""
    known = list(prefixes)
    mask = (1 << half) - 1
    upper = np.fromiter((value >> half for value, _ in known), np.uint64, len(known))
    lower = np.fromiter((value & mask for value, _ in known), np.uint64, len(known))
    return upper, lower, np.fromiter((length for _, length in known), np.uint8, len(known))
