# SPDX-License-Identifier: Apache-2.0
"""Lists of networks as blocklists are, and sources in them and beside them, all as arrays of numbers.

IPv4: the whole space but what labs use; mostly single addresses, some blocks up to /22. IPv6: under the /16s that the
registries give out; sites, homes, networks and single addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.nets import Prefix

__all__ = ["COLD", "HOT", "MIXED_SHARE", "NetList", "Words", "ipv4_list", "ipv6_list", "mixed"]

COLD: Final = 1 << 22
"""So many sources are spread over a list: its tables do not stay in near caches."""
HOT: Final = 1 << 10
MIXED_SHARE: Final = 0.5
"""How many of the sources of a mixed flood are listed."""

_SHARES: Final = {
    4: {32: 0.5, 30: 0.05, 29: 0.05, 28: 0.1, 26: 0.04, 25: 0.01, 24: 0.2, 23: 0.03, 22: 0.02},
    6: {128: 0.3, 64: 0.3, 56: 0.15, 48: 0.15, 44: 0.05, 40: 0.03, 32: 0.02},
}
# The /16s from which the regional registries hand out (IANA: IPv6 Global Unicast Address Assignments).
_REGISTRIES: Final = np.array(
    [*range(0x2400, 0x2410), *range(0x2600, 0x2610), *range(0x2800, 0x2810), *range(0x2A00, 0x2A10), 0x2001, 0x2C0F],
    np.uint64,
)
_NO_SOURCES: Final = ("0.0.0.0/8", "127.0.0.0/8", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class NetList:
    """Networks of one family: upper and lower halves of their first addresses, IPv4 in the lower alone; lengths."""

    version: int
    high: Words
    low: Words
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def first(self, number: int) -> NetList:
        """The first so many of them."""
        return NetList(self.version, self.high[:number], self.low[:number], self.lengths[:number])

    def prefixes(self) -> list[Prefix]:
        """The networks as the tables of the filter take them."""
        known = zip(self.high.tolist(), self.low.tolist(), self.lengths.tolist(), strict=True)
        return [Prefix(high << 64 | low, length) for high, low, length in known]

    def text(self) -> Iterator[str]:
        """The IPv4 networks as tools take them."""
        for low, length in zip(self.low.tolist(), self.lengths.tolist(), strict=True):
            yield f"{low >> 24}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}/{length}"

    def sources(self, generator: np.random.Generator, number: int) -> tuple[Words, Words]:
        """So many different sources in random order, all in the list, the most even share of each network.

        Where the list has fewer addresses, they come again and again.
        """
        room = np.minimum(_bits(self.version) - self.lengths, 40)
        share = _share(np.left_shift(1, room), number)
        chosen = np.repeat(np.arange(len(self)), np.minimum(np.left_shift(1, room), share))
        nth = np.arange(len(chosen)) - np.repeat(np.cumsum(np.r_[0, np.bincount(chosen)[:-1]]), np.bincount(chosen))
        # The n-th address of each network, at a place that depends on the network: an odd step meets each one once.
        step = (self.low[chosen] >> np.uint64(7) | np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        spread = nth.astype(np.uint64) * step
        bits = (_bits(self.version) - self.lengths)[chosen]
        low = self.low[chosen] | spread & _mask(np.minimum(bits, 64))
        high = self.high[chosen] | (spread >> np.uint64(7)) & _mask(np.clip(bits - 64, 0, 64))
        order = np.resize(generator.permutation(len(chosen)), number)
        return high[order], low[order]

    def others(self, generator: np.random.Generator, number: int) -> tuple[Words, Words]:
        """So many sources of the same space that are not in the list."""
        made = _addresses(generator, self.version, number + number // 2)
        listed = np.zeros(len(made[0]), np.bool_)
        for length in set(self.lengths.tolist()):
            own = self.lengths == length
            keys = _keys(self.high[own], self.low[own], self.version, length)
            listed |= np.isin(_keys(*made, self.version, length), keys)
        return made[0][~listed][:number], made[1][~listed][:number]


def ipv4_list(generator: np.random.Generator, number: int) -> NetList:
    """So many IPv4 networks."""
    return _list(generator, 4, number)


def ipv6_list(generator: np.random.Generator, number: int) -> NetList:
    """So many IPv6 networks."""
    return _list(generator, 6, number)


def mixed(
    listed: NetList, generator: np.random.Generator, number: int, share: float = MIXED_SHARE
) -> tuple[Words, Words]:
    """So many sources, this share of them in the list and the others not, in random order."""
    inside = listed.sources(generator, round(number * share))
    outside = listed.others(generator, number - round(number * share))
    order = generator.permutation(number)
    high, low = (np.concatenate(halves)[order] for halves in zip(inside, outside, strict=True))
    return high, low


def _list(generator: np.random.Generator, version: int, number: int) -> NetList:
    shares = _SHARES[version]
    made = number + number // 4  # some will be the same
    lengths = generator.choice(list(shares), made, p=list(shares.values()))
    high, low = _addresses(generator, version, made)
    bits = _bits(version) - lengths
    low &= ~_mask(np.minimum(bits, 64))
    high &= ~_mask(np.clip(bits - 64, 0, 64))
    different = np.unique(np.stack((high, low, lengths.astype(np.uint64))), axis=1, return_index=True)[1]
    chosen = generator.permutation(different)[:number]
    return NetList(version, high[chosen], low[chosen], lengths[chosen])


def _addresses(generator: np.random.Generator, version: int, number: int) -> tuple[Words, Words]:
    low = generator.integers(0, 2**64, number, np.uint64, endpoint=False)
    if version == 6:
        top = generator.choice(_REGISTRIES, number) << np.uint64(48)
        return top | generator.integers(0, 2**48, number, np.uint64), low
    low = generator.integers(0, 2**32, number + number // 2, np.uint64)
    for net in map(ip_network, _NO_SOURCES):
        low = low[low >> np.uint64(32 - net.prefixlen) != int(net.network_address) >> (32 - net.prefixlen)]
    return np.zeros(number, np.uint64), low[:number]


def _bits(version: int) -> int:
    return 32 if version == 4 else 128


def _mask(bits: NDArray[np.int64]) -> Words:
    """So many ones at the low end."""
    shift = np.uint64(64) - bits.astype(np.uint64)
    return np.where(bits > 0, np.uint64(2**64 - 1) >> np.minimum(shift, np.uint64(63)), np.uint64(0))


def _keys(high: Words, low: Words, version: int, length: int) -> Words:
    """What addresses under one network of that length have in common; whole IPv6 addresses as one number of 64 bits."""
    if version == 4:
        return low >> np.uint64(32 - length)
    if length > 64:
        return high * np.uint64(0x9E3779B97F4A7C15) ^ low
    return high >> np.uint64(64 - length)


def _share(room: NDArray[np.int64], number: int) -> int:
    """The smallest share of each network with which there are enough sources, if there are at all."""
    share = 1
    while np.minimum(room, share).sum() < number and share < room.max():
        share += 1
    return share
