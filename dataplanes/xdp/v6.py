# SPDX-License-Identifier: Apache-2.0
"""IPv6 sources in flat tables: pages below /32, lines up to /64, whole addresses, a trie for what is between.

A page's bit and a line are read side by side; how many lengths a list has does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.membership import Filter, filter_words
from dataplanes.xdp.nets import Listed, Prefix, Words, split
from dataplanes.xdp.slots import Factors
from dataplanes.xdp.trie import Trie
from dataplanes.xdp.v6_hosts import Hosts, hosts_for
from dataplanes.xdp.v6_nets import NetLines, lines_for, more_for
from dataplanes.xdp.v6_pages import PAGE_BITS, Pages, pages_for

__all__ = ["V6Tables", "v6_constants", "v6_sizes"]

_WORD = (1 << 64) - 1
# One address in so many finds no room in either of its lines.
_CROWDED_HOSTS = 100
_LEVELS, _PAGE_WORDS = LAYOUT["V6_LEVELS"], LAYOUT["V6_PAGE_WORDS"]


def v6_sizes(prefixes: Collection[Prefix]) -> dict[str, int]:
    """How large the maps must be for a list, with room to grow."""
    nets = sum(PAGE_BITS <= length <= 64 for _, length in prefixes)
    hosts = sum(length == 128 for _, length in prefixes)
    rest = sum(64 < length < 128 or (length == 128 and not value & _WORD) for value, length in prefixes)
    lines = lines_for(nets, hosts)
    return {
        "v6_pages": max(1, pages_for(prefixes) * _PAGE_WORDS),
        "v6_lines": lines,
        "v6_more": more_for(prefixes, lines) * _LEVELS,
        "v6_hosts": hosts_for(hosts),
        "v6_rest": filter_words(rest + hosts // _CROWDED_HOSTS),
    }


def v6_constants(sizes: Mapping[str, int], factors: Factors) -> dict[int, int]:
    """What stands in the filter for such tables."""
    home, second = (factor << 32 & _WORD for factor in (factors.first, factors.second))
    return {
        LAYOUT["NUMBER_V6_PAGES"]: sizes["v6_pages"] // _PAGE_WORDS,
        LAYOUT["NUMBER_V6_LINES_SHIFT"]: 65 - sizes["v6_lines"].bit_length(),
        LAYOUT["NUMBER_V6_HOME_FACTOR"]: home,
        LAYOUT["NUMBER_V6_SECOND_FACTOR"]: second,
        LAYOUT["NUMBER_V6_MORE"]: sizes["v6_more"] // _LEVELS,
        LAYOUT["NUMBER_V6_HOSTS"]: sizes["v6_hosts"],
        LAYOUT["NUMBER_V6_REST"]: sizes["v6_rest"],
        LAYOUT["NUMBER_V6_FACTOR"]: factors.first,
        LAYOUT["NUMBER_V6_MORE_FACTOR"]: factors.second,
    }


class V6Tables:
    """The tables of one filter: ``arrays`` are its maps' words by name; ``rest`` has what found no place in them."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors, rest: Trie) -> None:
        self._pages = Pages(arrays["v6_top"], arrays["v6_pages"])
        self._nets = NetLines(arrays, factors)
        self._hosts = Hosts(arrays, factors, self._nets)
        self._rest_filter = Filter(arrays["v6_rest"], factors.first)
        self._rest = rest

    @property
    def load(self) -> float:
        """How full the fullest table is."""
        return max(self._nets.load, self._hosts.load)

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """Fill empty tables."""
        known = list(prefixes)
        high, low, lengths = split(known, 64)
        nets = np.flatnonzero((lengths >= PAGE_BITS) & (lengths <= 64))
        hosts = np.flatnonzero(lengths == 128)
        others = np.flatnonzero((lengths < PAGE_BITS) | (lengths > 64) & (lengths < 128))
        crowded = nets[self._nets.fill(high[nets], lengths[nets])]
        late = hosts[self._hosts.fill(high[hosts], low[hosts])]
        for place in np.concatenate((others, crowded, late)).tolist():
            self.add(known[place])

    def add(self, prefix: Prefix) -> bool:
        """List a network; False when it finds no room: build anew instead."""
        value, length = prefix
        if length < PAGE_BITS:
            return self._pages.add(prefix)
        if length <= 64:
            if self._nets.add(value >> 64, length):
                return True
            self._rest.add(prefix)
        elif length < 128 or not self._hosts.add(value):
            self._rest.add(prefix)
            self._rest_filter.add(value >> 64)
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out of the list, of which ``listed`` knows what remains; False: build anew instead."""
        value, length = prefix
        if length < PAGE_BITS:
            return self._pages.remove(prefix, listed)
        if self._rest.has(prefix):
            self._rest.remove(prefix)
        elif length <= 64:
            self._nets.remove(value >> 64, length)
        else:
            self._hosts.remove(value)
        return True

    def contains(self, high: Words, low: Words) -> NDArray[np.bool_]:
        """Which addresses are found, by the same steps as the filter's."""
        found = self._pages.look(high)
        in_lines, beyond = self._nets.look(high)
        found |= in_lines | self._hosts.look(high, low)
        for place in np.flatnonzero(~found & (beyond | self._rest_filter.passes(high))):
            found[place] = self._in_rest(int(high[place]) << 64 | int(low[place]))
        return found

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these networks are not found, by their first and their last address."""
        last = (Prefix(value | (1 << 128 - length) - 1, length) for value, length in prefixes)
        found = np.ones(len(prefixes), np.bool_)
        for ends in (prefixes, last):
            high, low, _ = split(ends, 64)
            found &= self.contains(high, low)
        return [prefix for prefix, there in zip(prefixes, found.tolist(), strict=True) if not there]

    def _in_rest(self, value: int) -> bool:
        return any(self._rest.has(Prefix(value >> (128 - n) << (128 - n), n)) for n in range(PAGE_BITS, 129))
