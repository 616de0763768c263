# SPDX-License-Identifier: Apache-2.0
"""One family's sources, looked up in the way that suits their number: a trie for few, flat tables for many."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataplanes.api import BpfMap, DataplaneError
from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix
from dataplanes.xdp.slots import Factors
from dataplanes.xdp.trie import Trie
from dataplanes.xdp.v4 import V4Tables, v4_sizes
from dataplanes.xdp.v6 import V6Sizes, V6Tables
from dataplanes.xdp.words import words_of

__all__ = ["Kind", "SourceList"]

# From how many networks on flat tables are faster than a trie; those of IPv4 take 4 MB.
_MANY: Final = 32
# When slots get crowded, keys are pushed out to the trie: then a larger table is made.
_CROWDED: Final = 0.6
# So many entries are checked at a time: their addresses and what is looked up for them are arrays.
_CHUNK: Final = 1 << 18

_MAPS: Final = {
    4: ("v4_state", "v4_lines"),
    6: ("v6_top", "v6_pages", "v6_filters", "v6_lines", "v6_hosts"),
}
_FULL_SIZE: Final = {"v4_state": LAYOUT["V4_STATE_WORDS"], "v6_top": LAYOUT["V6_TOP"]}


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
        self.kind = Kind.suiting(len(prefixes)) if forced is None else forced
        self._prefixes = prefixes
        self._factors = Factors.drawn()
        self._sizes = V6Sizes.of(prefixes if self.kind is Kind.FLAT and version == 6 else ())
        self._table: _Table | None = None
        self.count = len(prefixes)

    def sizes(self) -> dict[str, int]:
        """How many entries each map must have; of what is not used, one."""
        sizes = dict.fromkeys(_MAPS[self.version], 1)
        if self.kind is Kind.FLAT:
            sizes |= v4_sizes(self._prefixes) if self.version == 4 else self._sizes.maps()
            sizes |= {name: size for name, size in _FULL_SIZE.items() if name in sizes}
        return sizes

    def fill(self, maps: Mapping[str, BpfMap], shape: NDArray[np.uint64]) -> None:
        """Put the list into maps that are new; raises DataplaneError if one entry is not found there afterwards."""
        arrays = {name: words_of(maps[name]) for name in _MAPS[self.version]}
        self._write_shape(shape, maps)
        trie = Trie(maps[f"v{self.version}_trie"])
        table: _Table = trie
        if self.kind is Kind.FLAT and self.version == 4:
            table = V4Tables(arrays, self._factors, trie)
        elif self.kind is Kind.FLAT:
            table = V6Tables(arrays | {"shape": shape}, self._sizes, self._factors, trie)
        table.build(self._prefixes)
        self._table = table
        if lost := self.lost(self._prefixes):
            raise DataplaneError("a source is not found in the table that was built of it", value=str(lost[0]))
        self._prefixes = ()

    def add(self, prefix: Prefix) -> bool:
        """List a network while packets are looked up; False: build anew instead."""
        self.count += 1
        return self.table.add(prefix) and self.table.load < _CROWDED

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out, of which ``listed`` knows what remains; False: build anew instead."""
        self.count -= 1
        return self.table.remove(prefix, listed)

    def lost(self, prefixes: Iterable[Prefix]) -> list[Prefix]:
        """Those of the networks whose first or last address is not found."""
        known = list(prefixes)
        return [
            lost for start in range(0, len(known), _CHUNK) for lost in self.table.lost(known[start : start + _CHUNK])
        ]

    @property
    def table(self) -> _Table:
        """What the list was put into."""
        if self._table is None:
            raise DataplaneError("a list is asked for before it was put into maps")
        return self._table

    def _write_shape(self, shape: NDArray[np.uint64], maps: Mapping[str, BpfMap]) -> None:
        def mask(name: str) -> int:
            return maps[name].definition.max_entries - 1

        factors = self._factors.first, self._factors.second
        place = LAYOUT[f"SHAPE_V{self.version}_FACTOR"]
        shape[place : place + 2] = factors
        if self.version == 4:
            shape[LAYOUT["SHAPE_V4_MASK"]] = mask("v4_lines")
            return
        shape[LAYOUT["SHAPE_V6_MASK"]] = mask("v6_lines")
        shape[LAYOUT["SHAPE_V6_HOST_MASK"]] = mask("v6_hosts")
        filters = LAYOUT["FILTERS"]
        shape[LAYOUT["SHAPE_FILTER_SHIFT"] :][:filters] = 64  # nothing is in any filter yet
        shape[LAYOUT["SHAPE_FILTER_START"] :][:filters] = self._sizes.starts
