# SPDX-License-Identifier: Apache-2.0
"""What a Calico rule asks of services: a destination is a backend at its very port, a source at any.

The namespace is that which the file writes; a rule without one names no service that could exist, as Calico
takes an empty namespace at its word (Felix: calc/rule_convert.go).
"""

from __future__ import annotations

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.world import Location
from lab.policy.resources import ServiceMatch
from lab.protocols import protocol_label

__all__ = ["is_backend"]


def is_backend(side: Side, service: ServiceMatch) -> Condition:
    """``services``: the address, at a destination together with protocol and port, is in one of its EndpointSlices."""
    named = (service.namespace or "", service.name)
    title = "/".join(named)
    if side == "source":
        return Condition(
            Part.SOURCE_ADDRESS,
            ("services", side, named),
            lambda packet: named in packet.source.services,
            lambda packet: Mismatch("source.services", f"a backend of {title}", _spell_services(packet.source)),
        )
    return Condition(
        Part.DESTINATION_BACKEND,
        ("services", side, named),
        lambda packet: (packet.protocol, packet.port) in packet.destination.services.get(named, ()),
        lambda packet: Mismatch("destination.services", f"a port of a backend of {title}", _spell_port(packet)),
    )


def _spell_services(location: Location) -> str:
    names = sorted("/".join(service) for service in location.services)
    return f"{location.address}, " + (f"a backend of {', '.join(names)}" if names else "which is behind no service")


def _spell_port(packet: Packet) -> str:
    port = "no port" if packet.port is None else str(packet.port)
    return f"{port}/{protocol_label(packet.protocol)} of {_spell_services(packet.destination)}"
