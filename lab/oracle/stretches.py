# SPDX-License-Identifier: Apache-2.0
"""Stretches of ports that nothing tells apart: what is decided for one port of a stretch is decided for all of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping

from lab.oracle.conditions import Condition
from lab.oracle.packet import PORT_PARTS, Part, Side
from lab.oracle.settings import FelixSettings
from lab.policy.resources import Resources
from lab.topology import TUNNEL_PORT, Topology

__all__ = ["PortRange", "Stretches", "failsafe_ports", "named_ports", "special_ports", "told_apart"]

PortRange = tuple[int, int]
"""First and last port."""

_LAST_PORT = 65535
_BY_NUMBER = frozenset({Part.SOURCE_PORT, Part.DESTINATION_PORT})
_OF_PORTS: Mapping[Side, frozenset[Part]] = {
    "source": frozenset({Part.SOURCE_PORT, Part.SOURCE_SERVICE, Part.SOURCE_OVERLAP}),
    "destination": PORT_PARTS - {Part.SOURCE_PORT, Part.SOURCE_SERVICE, Part.SOURCE_OVERLAP},
}


class Stretches(dict[int | None, int | None]):
    """By port the number of its stretch, counted from 0; ``unsaid`` is the port of a flow that names none, if any.

    A stretch begins with each range that somebody names, and behind it.
    """

    def __init__(self, ranges: Iterable[PortRange], unsaid: int | None = None) -> None:
        super().__init__()
        self._starts = sorted({0, *(port for first, last in ranges for port in (first, last + 1))})
        self[None] = None if unsaid is None else self[unsaid]

    def __missing__(self, port: int) -> int:
        """Each port is looked up once."""
        number = self[port] = bisect_right(self._starts, port) - 1
        return number

    def next_door(self, port: int | None) -> list[int]:
        """The ports next to the stretch that a port is in; no flow has port 0."""
        number = self[port]
        if port is None or number is None:
            return []
        behind = self._starts[number + 1 : number + 2]
        return [each for each in (self._starts[number] - 1, *behind) if 1 <= each <= _LAST_PORT]

    def bounds(self) -> list[PortRange]:
        """First and last port of each stretch, in order."""
        starts = [start for start in self._starts if start <= _LAST_PORT]
        return list(zip(starts, [*(start - 1 for start in starts[1:]), _LAST_PORT], strict=True))


def told_apart(conditions: Iterable[Condition], named: Collection[PortRange], side: Side) -> Iterator[PortRange]:
    """The ranges of ports on a side that conditions tell from others; ``named`` have a name or serve a service."""
    for condition in conditions:
        if condition.part in _OF_PORTS[side]:
            yield from condition.ranges
            if condition.part not in _BY_NUMBER:
                yield from named


def named_ports(topology: Topology, resources: Resources) -> Iterator[PortRange]:
    """Ports that have a name or serve a service anywhere."""
    ends = (*topology.endpoints(), *resources.host_endpoints)
    yield from ((port.port, port.port) for end in ends for port in end.ports)
    slices = (each.ports for each in resources.endpoint_slices)
    yield from ((port.port, port.port) for ports in slices for port in ports)


def special_ports(nodes: Iterable[FelixSettings], node_ports: Iterable[int]) -> Iterator[PortRange]:
    """Ports that mean something before any rule is asked."""
    tunnels = (TUNNEL_PORT, *(settings.vxlan_port for settings in nodes))
    yield from ((port, port) for port in (*tunnels, *node_ports))


def failsafe_ports(nodes: Iterable[FelixSettings]) -> Iterator[PortRange]:
    """Ports that only host endpoints know, as the source only ahead of connection tracking."""
    for settings in nodes:
        failsafes = (*settings.failsafe_inbound, *settings.failsafe_outbound)
        yield from ((failsafe.port, failsafe.port) for failsafe in failsafes)
