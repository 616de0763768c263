# SPDX-License-Identifier: Apache-2.0
"""The first packet of a flow as rules see it, and the parts of it on which a condition can depend."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from lab.oracle.world import Location
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS
from lab.topology import DEFAULT_SOURCE_PORT, Family, Flow, HttpRequest, IcmpHeader

__all__ = ["PART_KEYS", "PORT_PARTS", "Packet", "Part", "Side", "packet_of", "source_port_of"]

Side = Literal["source", "destination"]

_ECHO_REQUEST = {ICMP: IcmpHeader(8, 0), ICMPV6: IcmpHeader(128, 0)}
"""What a flow of ICMP sends that names no type."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Everything of a packet that a rule can look at; ports are None where the protocol has none.

    ``http`` is there once a proxy has read it as a request: packets of layer 4 have none.
    """

    family: Family
    protocol: int
    source: Location
    destination: Location
    source_port: int | None
    port: int | None
    icmp: IcmpHeader | None
    http: HttpRequest | None = None

    def end(self, side: Side) -> Location:
        """The location on one side."""
        return self.source if side == "source" else self.destination

    def port_at(self, side: Side) -> int | None:
        """The port on one side."""
        return self.source_port if side == "source" else self.port

    def between(self, source_port: int | None, port: int | None) -> Packet:
        """The same packet between other ports."""
        return Packet(
            self.family, self.protocol, self.source, self.destination, source_port, port, self.icmp, self.http
        )


def packet_of(flow: Flow, source: Location, destination: Location) -> Packet:
    """The packet that a flow sends first between two locations."""
    icmp = flow.icmp or _ECHO_REQUEST.get(flow.protocol)
    return Packet(flow.family, flow.protocol, source, destination, source_port_of(flow), flow.port, icmp)


def source_port_of(flow: Flow) -> int | None:
    """From which port a flow's packet comes."""
    if flow.source_port is None and flow.protocol in PORT_PROTOCOLS:
        return DEFAULT_SOURCE_PORT
    return flow.source_port


class Part(Enum):
    """What a condition depends on: packets that agree in a part agree in all conditions of that part."""

    FAMILY = auto()
    PROTOCOL = auto()
    ICMP = auto()
    SOURCE_ADDRESS = auto()
    DESTINATION_ADDRESS = auto()
    SOURCE_LABELS = auto()
    DESTINATION_LABELS = auto()
    SOURCE_PORT = auto()
    DESTINATION_PORT = auto()
    SOURCE_SERVICE = auto()
    DESTINATION_SERVICE = auto()
    SOURCE_OVERLAP = auto()
    DESTINATION_OVERLAP = auto()
    DESTINATION_BACKEND = auto()
    REQUEST = auto()


PORT_PARTS = frozenset(
    {
        Part.SOURCE_PORT,
        Part.DESTINATION_PORT,
        Part.SOURCE_SERVICE,
        Part.DESTINATION_SERVICE,
        Part.SOURCE_OVERLAP,
        Part.DESTINATION_OVERLAP,
        Part.DESTINATION_BACKEND,
    }
)
"""The parts on which ports bear: in all others packets agree that differ in their ports only."""


def _service(location: Location, protocol: int, port: int | None) -> Hashable:
    """Where a port has no name, all locations are alike."""
    return (location if (protocol, port) in location.named else None, protocol, port)


def _overlap(location: Location, protocol: int, port: int | None) -> Hashable:
    """It takes a second party at an address, a network set for one, to part a port's name from its owner's labels."""
    overlaps = len(location.parties) > 1 and (protocol, port) in location.named
    return (location, protocol, port) if overlaps else None


def _backend(location: Location, protocol: int, port: int | None) -> Hashable:
    """Only where some service is served do locations differ."""
    return (location, protocol, port) if location.services else None


PART_KEYS: Mapping[Part, Callable[[Packet], Hashable]] = {
    Part.FAMILY: lambda packet: packet.family,
    Part.PROTOCOL: lambda packet: packet.protocol,
    Part.ICMP: lambda packet: (packet.protocol, packet.icmp),
    Part.SOURCE_ADDRESS: lambda packet: packet.source,
    Part.DESTINATION_ADDRESS: lambda packet: packet.destination,
    Part.SOURCE_LABELS: lambda packet: packet.source.identity,
    Part.DESTINATION_LABELS: lambda packet: packet.destination.identity,
    Part.SOURCE_PORT: lambda packet: packet.source_port,
    Part.DESTINATION_PORT: lambda packet: packet.port,
    Part.SOURCE_SERVICE: lambda packet: _service(packet.source, packet.protocol, packet.source_port),
    Part.DESTINATION_SERVICE: lambda packet: _service(packet.destination, packet.protocol, packet.port),
    Part.SOURCE_OVERLAP: lambda packet: _overlap(packet.source, packet.protocol, packet.source_port),
    Part.DESTINATION_OVERLAP: lambda packet: _overlap(packet.destination, packet.protocol, packet.port),
    Part.DESTINATION_BACKEND: lambda packet: _backend(packet.destination, packet.protocol, packet.port),
    Part.REQUEST: lambda packet: packet.http,
}
"""The value of each part of a packet, as something to file results under."""
