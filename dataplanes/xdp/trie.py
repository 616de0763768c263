# SPDX-License-Identifier: Apache-2.0
"""The kernel's longest-prefix trie: for short lists, and for what found no place in a flat table."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import Final

from dataplanes.api import BpfMap
from dataplanes.xdp.nets import Listed, Prefix

__all__ = ["Trie"]


# How many networks one system call lists.
_BATCH: Final = 1 << 16


class Trie:
    """A trie of one family; it remembers what it holds, so that it can be compared with the kernel's."""

    def __init__(self, held: BpfMap) -> None:
        self._map = held
        self._bytes = held.definition.key_size - 4
        self._known: dict[Prefix, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def has(self, prefix: Prefix) -> bool:
        """Whether just this network is there."""
        return prefix in self._known

    @property
    def known(self) -> Collection[Prefix]:
        """The networks that were put there."""
        return self._known.keys()

    @property
    def load(self) -> float:
        """A trie grows as it must."""
        return 0.0

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """List many networks."""
        known = list(prefixes)
        for start in range(0, len(known), _BATCH):
            chunk = known[start : start + _BATCH]
            self._map.set_many([self._key(each) for each in chunk], [_packed(1)] * len(chunk))
        self._known.update(dict.fromkeys(known, 1))

    def add(self, prefix: Prefix, value: int = 1) -> bool:
        """List a network, with a value; raises BpfError when there is no room."""
        self._map.set(self._key(prefix), _packed(value))
        self._known[prefix] = value
        return True

    def remove(self, prefix: Prefix, listed: Listed | None = None) -> bool:
        """Take a network out; what else is listed does not matter."""
        del listed
        self._map.delete(self._key(prefix))
        self._known.pop(prefix, None)
        return True

    def clear(self) -> None:
        """Take everything out."""
        for prefix in list(self._known):
            self.remove(prefix)

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these the kernel's trie does not have, or has with another value."""
        known = self._known
        return [each for each in prefixes if self._map.get(self._key(each)) != _packed(known.get(each, 0))]

    def _key(self, prefix: Prefix) -> bytes:
        return struct.pack("=I", prefix.length) + prefix.value.to_bytes(self._bytes, "big")


def _packed(value: int) -> bytes:
    return struct.pack("=Q", value)
