# SPDX-License-Identifier: Apache-2.0
"""One family's sources, looked up in the way that suits their number: a trie for few, flat tables for many."""

from __future__ import annotations

import platform
import zlib
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from functools import reduce
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataplanes.api import BpfMap, DataplaneError
from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix
from dataplanes.xdp.slots import Factors
from dataplanes.xdp.trie import Trie
from dataplanes.xdp.v4 import V4Tables, v4_constants, v4_sizes
from dataplanes.xdp.v6 import V6Tables, v6_constants, v6_sizes
from dataplanes.xdp.words import words_of

__all__ = ["Kind", "SourceList", "value_limit"]

# From how many networks on flat tables are faster than a trie; those of IPv4 take 2 MB at least.
_MANY: Final = 32
# When slots get crowded, keys are pushed out to the trie: then a larger table is made.
_CROWDED: Final = 0.75
# So many entries are checked at a time: their addresses and what is looked up for them are arrays.
_CHUNK: Final = 1 << 18

_MAPS: Final = {
    4: ("v4_top", "v4_codes", "v4_slots"),
    6: ("v6_top", "v6_pages", "v6_lines", "v6_more", "v6_hosts", "v6_rest"),
}
_FULL_SIZE: Final = {"v6_top": LAYOUT["V6_TOP"]}
_KINDS: Final = {"v6_top": np.uint16}
# What one entry of a map takes; of those that are not here, 8 bytes at most.
_ENTRY_BYTES: Final = {
    "v4_codes": 16,
    "v4_slots": 16,
    "v6_lines": 8 * LAYOUT["V6_LINE_WORDS"],
    "v6_more": 8 * LAYOUT["V6_LINE_WORDS"],
    "v6_hosts": 16 * LAYOUT["V6_HOSTS_EACH"],
}
_SMALL_VALUES: Final = 4 << 20
"""Bytes of the largest value that an array may have (KMALLOC_MAX_SIZE) before Linux 6.0."""


def value_limit(release: str) -> int | None:
    """The largest value of an array that a kernel takes, in bytes; None where it takes any."""
    return _SMALL_VALUES if int(release.partition(".")[0]) < 6 else None


class Kind(IntEnum):
    """How the sources of a family are looked up."""

    TRIE = LAYOUT["KIND_TRIE"]
    FLAT = LAYOUT["KIND_FLAT"]

    @classmethod
    def suiting(cls, number: int) -> Kind:
        """The one for so many networks."""
        return cls.FLAT if number >= _MANY else cls.TRIE


class _Table(Protocol):
    """What both ways of looking up can do; False: no room, or it would take too long, so build anew."""

    def build(self, prefixes: Iterable[Prefix]) -> None: ...
    def add(self, prefix: Prefix) -> bool: ...
    def remove(self, prefix: Prefix, listed: Listed) -> bool: ...
    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]: ...
    @property
    def load(self) -> float: ...


class SourceList:
    """The list of one family in the maps of one program."""

    def __init__(self, version: Literal[4, 6], prefixes: Collection[Prefix], forced: Kind | None = None) -> None:
        self.version = version
        self._prefixes = prefixes
        self.kind = self._suiting(value_limit(platform.release())) if forced is None else forced
        self._factors = Factors.drawn()
        self._table: _Table | None = None
        self._arrays: dict[str, NDArray[Any]] = {}
        self._trie: Trie | None = None
        self._seal: int | None = None
        self.count = len(prefixes)

    def sizes(self) -> dict[str, int]:
        """How many entries each map must have; of what is not used, one."""
        return self._flat_sizes() if self.kind is Kind.FLAT else dict.fromkeys(_MAPS[self.version], 1)

    def constants(self, sizes: Mapping[str, int]) -> dict[int, int]:
        """What stands in a program for this list, in maps of these sizes."""
        if self.kind is not Kind.FLAT:
            return {}
        return v4_constants(sizes, self._factors) if self.version == 4 else v6_constants(sizes, self._factors)

    def fill(self, maps: Mapping[str, BpfMap]) -> None:
        """Put the list into maps that are new; raises DataplaneError if one entry is not found there afterwards."""
        trie = Trie(maps[f"v{self.version}_trie"])
        table: _Table = trie
        if self.kind is Kind.FLAT:
            self._arrays = {name: words_of(maps[name], _KINDS.get(name, np.uint64)) for name in _MAPS[self.version]}
            tables = V4Tables if self.version == 4 else V6Tables
            table = tables(self._arrays, self._factors, trie)
        table.build(self._prefixes)
        self._table, self._trie = table, trie
        if lost := self.lost(self._prefixes):
            raise DataplaneError("a source is not found in the table that was built of it", value=str(lost[0]))
        self._prefixes = ()

    def add(self, prefix: Prefix) -> bool:
        """List a network while packets are looked up; False: build anew instead."""
        self.count += 1
        self._seal = None
        return self.table.add(prefix) and self.table.load < _CROWDED

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out, of which ``listed`` knows what remains; False: build anew instead."""
        self.count -= 1
        self._seal = None
        return self.table.remove(prefix, listed)

    def lost(self, prefixes: Iterable[Prefix]) -> list[Prefix]:
        """Those of the networks whose first or last address is not found.

        Tables in which nothing has changed since they were found whole are not looked through again, nor are
        ``prefixes`` asked for.
        """
        table, seal = self.table, self._sum()
        if seal is not None and seal == self._seal and self._trie is not None:
            return self._trie.lost(self._trie.known)
        known = list(prefixes)
        lost = [each for start in range(0, len(known), _CHUNK) for each in table.lost(known[start : start + _CHUNK])]
        self._seal = None if lost else seal
        return lost

    def _suiting(self, limit: int | None) -> Kind:
        """The way of looking up for so many networks; a trie where the kernel takes no tables so large."""
        kind = Kind.suiting(len(self._prefixes))
        if kind is Kind.TRIE or limit is None:
            return kind
        largest = max(size * _ENTRY_BYTES.get(name, 8) for name, size in self._flat_sizes().items())
        return kind if largest <= limit else Kind.TRIE

    def _flat_sizes(self) -> dict[str, int]:
        sizes = v4_sizes(self._prefixes) if self.version == 4 else v6_sizes(self._prefixes)
        return sizes | {name: _FULL_SIZE[name] for name in _MAPS[self.version] if name in _FULL_SIZE}

    def _sum(self) -> int | None:
        """A checksum of what stands in flat tables, for which a million networks take some hundredths of a second."""
        if not self._arrays:
            return None
        return reduce(lambda sofar, array: zlib.crc32(array.data.cast("B"), sofar), self._arrays.values(), 0)

    @property
    def table(self) -> _Table:
        """What the list was put into."""
        if self._table is None:
            raise DataplaneError("a list is asked for before it was put into maps")
        return self._table
