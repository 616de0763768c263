# SPDX-License-Identifier: Apache-2.0
"""What a rule asks of ports: numbers, ranges, and names that endpoints declare."""

from __future__ import annotations

from collections.abc import Mapping

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.peers import PartyTest
from lab.oracle.world import Party
from lab.policy.resources import PortMatch, PortRange
from lab.protocols import protocol_label

__all__ = ["has_port", "named_by", "not_port", "serves", "spell_port"]


def serves(party: Party, packet: Packet, side: Side, names: tuple[str, ...]) -> bool:
    """Whether the packet's protocol and port on that side are what the party declares under one of the names."""
    port = packet.port_at(side)
    return any(p.name in names and p.protocol == packet.protocol and p.port == port for p in party.ports)


def spell_port(packet: Packet, side: Side) -> str:
    """A packet's port on one side, with its name where it has one there."""
    port = packet.port_at(side)
    if port is None:
        return f"{protocol_label(packet.protocol)} without ports"
    declared = {
        p.name for party in packet.end(side).parties for p in party.ports if serves(party, packet, side, (p.name,))
    }
    names = f" ({', '.join(sorted(declared))})" if declared else ""
    return f"{port}/{protocol_label(packet.protocol)}{names}"


def _spell(ports: tuple[PortMatch, ...]) -> str:
    return ", ".join(
        port if isinstance(port, str) else str(port.first) if port.first == port.last else f"{port.first}:{port.last}"
        for port in ports
    )


def _names(ports: tuple[PortMatch, ...]) -> tuple[str, ...]:
    return tuple(port for port in ports if isinstance(port, str))


def _ranges(ports: tuple[PortMatch, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((match.first, match.last) for match in ports if isinstance(match, PortRange))


def _in_ranges(port: int | None, ports: tuple[PortMatch, ...]) -> bool:
    if port is not None:
        for match in ports:
            if isinstance(match, PortRange) and match.first <= port <= match.last:
                return True
    return False


def _part(side: Side, ports: tuple[PortMatch, ...]) -> Part:
    if _names(ports):
        return Part.SOURCE_SERVICE if side == "source" else Part.DESTINATION_SERVICE
    return Part.SOURCE_PORT if side == "source" else Part.DESTINATION_PORT


def has_port(side: Side, ports: tuple[PortMatch, ...]) -> Condition:
    """``ports``: in any range, or declared under any of the names by a pod or host endpoint at the address.

    The rule's own protocol is another condition; without one a name stands for its port of every protocol
    under which it is declared. Only endpoints declare ports, so nobody outside the cluster matches a name.
    """
    names = _names(ports)
    return Condition(
        _part(side, ports),
        ("ports", side, ports),
        lambda packet: _in_ranges(packet.port_at(side), ports) or bool(_servers(packet, side, names)),
        lambda packet: Mismatch(f"{side}.ports", f"one of {_spell(ports)}", spell_port(packet, side)),
        _ranges(ports),
    )


def named_by(side: Side, ports: tuple[PortMatch, ...], who: PartyTest) -> Condition:
    """A port's name counts only on a pod that the side's selectors themselves allow.

    That the address passes the selectors is another condition, and says the same unless several parties are
    at the address: then the one that passes may not be the one with the name.
    """
    names = _names(ports)

    def holds(packet: Packet) -> bool:
        if len(packet.end(side).parties) <= 1 or _in_ranges(packet.port_at(side), ports):
            return True
        servers = _servers(packet, side, names)
        return not servers or any(who.matches(party) for party in servers)

    def mismatch(packet: Packet) -> Mismatch:
        servers = ", ".join(party.title for party in _servers(packet, side, names))
        return Mismatch(f"{side}.ports", f"{_spell(names)} of an endpoint that the selectors of {side} allow", servers)

    return Condition(_OVERLAPS[side], ("named by", side, ports, who), holds, mismatch, _ranges(ports))


_OVERLAPS: Mapping[Side, Part] = {"source": Part.SOURCE_OVERLAP, "destination": Part.DESTINATION_OVERLAP}


def _servers(packet: Packet, side: Side, names: tuple[str, ...]) -> list[Party]:
    """The pods and host endpoints that declare the packet's port on that side under one of the names."""
    return [party for party in packet.end(side).parties if serves(party, packet, side, names)] if names else []


def not_port(side: Side, ports: tuple[PortMatch, ...], who: PartyTest | None) -> Condition:
    """``notPorts``: in no range, and declared under none of the names by anybody there whom the side's selectors allow.

    Who is not selected excepts nothing: that is seen where a network set covers the address of a pod that has the
    name, and only the set passes the selectors. (Source: Felix, calc/rule_scanner.go.)
    """
    names = _names(ports)
    asked = who if names else None

    def excepted(packet: Packet) -> bool:
        servers = _servers(packet, side, names)
        return any(asked is None or asked.matches(party) for party in servers)

    def holds(packet: Packet) -> bool:
        return not _in_ranges(packet.port_at(side), ports) and not excepted(packet)

    def mismatch(packet: Packet) -> Mismatch:
        return Mismatch(f"{side}.notPorts", f"none of {_spell(ports)}", spell_port(packet, side))

    return Condition(_part(side, ports), ("notPorts", side, ports, asked), holds, mismatch, _ranges(ports))
