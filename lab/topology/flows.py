# SPDX-License-Identifier: Apache-2.0
"""Flows: who sends what to whom. Read from a file, or every one that a topology declares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from lab.errors import Place
from lab.topology.model import Endpoint, Topology, address_of

__all__ = ["DEFAULT_SOURCE_PORT", "FAMILIES", "Family", "Flow", "HttpRequest", "IcmpHeader", "default_flows"]

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
DEFAULT_SOURCE_PORT = 40000
"""The source port of a flow that names none; above all declared ports and below Linux's last ephemeral one."""


@dataclass(frozen=True, slots=True)
class IcmpHeader:
    """Type and code of an ICMP or ICMPv6 flow."""

    type: int
    code: int


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The request that makes a flow an HTTP flow."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Flow:
    """The first packet of a conversation, one way.

    ``source`` and ``destination`` are names of ends; ``protocol`` is an IP protocol number; ``port`` is
    None where the protocol has none; ``source_port`` is None when the flow names none (DEFAULT_SOURCE_PORT
    is then sent and judged).
    """

    source: str
    destination: str
    protocol: int
    port: int | None
    family: Family
    source_port: int | None = None
    icmp: IcmpHeader | None = None
    http: HttpRequest | None = None
    place: Place | None = field(default=None, compare=False)

    def between(self, ports: Iterable[tuple[int | None, int | None]]) -> list[Flow]:
        """This flow between other ports, each pair a source and a destination port.

        For very many of them: a frozen object's own ``__init__``, which has leave to set each field, takes 1.6 times as
        long.
        """
        kept = [(put, getattr(self, name)) for name, put in _PUT.items() if name not in {"source_port", "port"}]
        put_source_port, put_port = _PUT["source_port"], _PUT["port"]
        found: list[Flow] = []
        for source_port, port in ports:
            flow = object.__new__(Flow)
            for put, value in kept:
                put(flow, value)
            put_source_port(flow, source_port)
            put_port(flow, port)
            found.append(flow)
        return found


_PUT: Final = {each.name: getattr(Flow, each.name).__set__ for each in fields(Flow)}
"""By field, what sets it."""


def default_flows(topology: Topology) -> tuple[Flow, ...]:
    """Make the flows of a topology without a flows file, IPv4 before IPv6 for each pair and port.

    Every ordered pair of different workloads and externals, every declared port of the destination (one that
    is declared under two names counts once), every family that both have.
    """
    ends = topology.endpoints()
    return tuple(
        Flow(source.name, destination.name, protocol, port, family)
        for source in ends
        for destination in ends
        if source is not destination
        for protocol, port in _served(destination)
        for family in FAMILIES
        if address_of(source, family) and address_of(destination, family)
    )


def _served(end: Endpoint) -> dict[tuple[int, int], None]:
    return {(port.protocol, port.port): None for port in end.ports}
