# SPDX-License-Identifier: Apache-2.0
"""Denials that ask for a protocol or a destination port too, and the ports that are never closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from dataplanes.api import BpfMap
from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Prefix, prefix_of
from dataplanes.xdp.plan import CLASSES, Failsafe, InterfacePlan
from dataplanes.xdp.trie import Trie
from dataplanes.xdp.words import words_of

__all__ = ["Conditions", "Failsafes"]

_PORTS = 1 << 16
_INBOUND, _ANSWER = LAYOUT["FAILSAFE_INBOUND"], LAYOUT["FAILSAFE_ANSWER"]
_PROTOCOLS = LAYOUT["FAILSAFE_PROTOCOLS"]
_UNKNOWN = 256
"""Place of protocols that are not known, behind those that are."""
_ALL = 0xFF
"""What may be a failsafe port of any class, in any direction."""


class Conditions:
    """Which conditions a source's packets are denied under: a bit each, in a trie; which ones a packet fulfils."""

    def __init__(self, maps: Mapping[str, BpfMap]) -> None:
        self._tries = {4: Trie(maps["v4_conditions"]), 6: Trie(maps["v6_conditions"])}
        self._by_port = words_of(maps["port_conditions"])
        self._by_protocol = words_of(maps["protocol_conditions"])
        self._bits: dict[int, dict[Prefix, int]] = {4: {}, 6: {}}

    def clear(self) -> None:
        """Deny nothing: the sources go first."""
        for version, trie in self._tries.items():
            trie.clear()
            self._bits[version] = {}
        self._by_port[:] = 0
        self._by_protocol[:] = 0

    def write(self, plan: InterfacePlan) -> None:
        """Deny what a plan says in place of what was denied before: the sources come last."""
        self.clear()
        places = {condition: place for place, condition in enumerate(plan.conditions())}
        for condition, place in places.items():
            bit = np.uint64(1 << place)
            if not condition.ports:
                self._by_protocol[condition.protocol] |= bit
            for ports in condition.ports:
                numbers = _as_sent(np.arange(ports.first, ports.last + 1, dtype=np.uint16))
                self._by_port[CLASSES[condition.protocol] * _PORTS + numbers.astype(np.int64)] |= bit
        for version, trie in self._tries.items():
            own: dict[Prefix, int] = {}
            for source, condition in plan.conditional:
                for prefix in map(prefix_of, source.of(version)):
                    own[prefix] = own.get(prefix, 0) | 1 << places[condition]
            self._bits[version] = _with_covers(own, 32 if version == 4 else 128)
            for prefix, bits in self._bits[version].items():
                trie.add(prefix, bits)

    def lost(self) -> int:
        """How many sources are not in the tries that should be there."""
        return sum(len(trie.lost(self._bits[version])) for version, trie in self._tries.items())


class Failsafes:
    """Ports that are never closed: a byte for each port, and one for each protocol with the bits that concern it."""

    def __init__(self, maps: Mapping[str, BpfMap]) -> None:
        self._bytes = words_of(maps["failsafes"], np.uint8)
        self._wanted = np.zeros_like(self._bytes)

    def write(self, ports: frozenset[Failsafe]) -> None:
        """Never close these ports, and no others: what comes is there before anything goes."""
        wanted = np.zeros_like(self._bytes)
        for class_, direction, port in ports:
            wanted[_as_sent(np.array([port], np.uint16))] |= np.uint8(1 << class_ + direction)
        for protocol, class_ in CLASSES.items():
            if any(each == class_ for each, _, _ in ports):
                wanted[_PROTOCOLS + protocol] = 1 << class_ + _INBOUND | 1 << class_ + _ANSWER
        wanted[_PROTOCOLS + _UNKNOWN] = _ALL if ports else 0
        wanted[LAYOUT["FAILSAFE_UNKNOWN"]] = _ALL
        self._wanted = wanted
        self._bytes |= wanted
        self._bytes &= wanted

    def lost(self) -> int:
        """How many bytes of the table somebody else has changed."""
        return int(np.count_nonzero(self._bytes != self._wanted))


def _as_sent(ports: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Ports as a program reads them from a packet: tables by port are asked without a swap of bytes."""
    return ports.astype(">u2").view(np.uint16)


def _with_covers(own: dict[Prefix, int], width: int) -> dict[Prefix, int]:
    """Each network with the bits of all that contain it: a trie answers with the longest one alone."""
    lengths = sorted({length for _, length in own})
    return {
        prefix: reduce(or_, (own.get(cover, 0) for cover in _covers(prefix, lengths, width)), bits)
        for prefix, bits in own.items()
    }


def _covers(prefix: Prefix, lengths: Sequence[int], width: int) -> Iterator[Prefix]:
    """The networks of these lengths that contain a network."""
    for length in lengths:
        if length < prefix.length:
            yield Prefix(prefix.value >> (width - length) << (width - length), length)
