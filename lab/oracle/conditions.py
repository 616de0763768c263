# SPDX-License-Identifier: Apache-2.0
"""What a rule asks of a packet besides who its ends are: family, protocol, ICMP header, networks.

A rule is a list of conditions, all of which must hold. Each depends on one part of the packet only, and can
say of a packet for which it does not hold what it wanted and what it found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from lab.oracle.nets import NetIndex
from lab.oracle.packet import Packet, Part, Side
from lab.policy.resources import IcmpMatch
from lab.protocols import protocol_label
from lab.topology import Family, Net

__all__ = ["Condition", "InNets", "IpFamily", "IsIcmp", "IsProtocol", "Mismatch", "NotIcmp", "NotInNets", "NotProtocol"]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a rule does not match: the field as the file names it, what it wants, what the packet has."""

    field: str
    wanted: str
    found: str


class Condition(Protocol):
    """One test of a packet. Hashable, so that equal conditions of many rules are tested once."""

    @property
    def part(self) -> Part:
        """The part of the packet on which the outcome depends, and nothing else does."""
        ...

    def holds(self, packet: Packet) -> bool:
        """Whether the packet passes the test."""
        ...

    def mismatch(self, packet: Packet) -> Mismatch:
        """What is wrong with a packet for which it does not hold."""
        ...


@dataclass(frozen=True, slots=True)
class IpFamily:
    """``ipVersion``, or the version that the name ICMP or ICMPv6 implies (2.2)."""

    family: Family
    implied_by: str | None = None

    @property
    def part(self) -> Part:
        return Part.FAMILY

    def holds(self, packet: Packet) -> bool:
        return packet.family == self.family

    def mismatch(self, packet: Packet) -> Mismatch:
        implied = f" (implied by protocol {self.implied_by})" if self.implied_by else ""
        return Mismatch("ipVersion", f"{self.family}{implied}", str(packet.family))


@dataclass(frozen=True, slots=True)
class IsProtocol:
    """``protocol``."""

    number: int

    @property
    def part(self) -> Part:
        return Part.PROTOCOL

    def holds(self, packet: Packet) -> bool:
        return packet.protocol == self.number

    def mismatch(self, packet: Packet) -> Mismatch:
        return Mismatch("protocol", str(protocol_label(self.number)), str(protocol_label(packet.protocol)))


@dataclass(frozen=True, slots=True)
class NotProtocol:
    """``notProtocol``; it never implies a version."""

    number: int

    @property
    def part(self) -> Part:
        return Part.PROTOCOL

    def holds(self, packet: Packet) -> bool:
        return packet.protocol != self.number

    def mismatch(self, packet: Packet) -> Mismatch:
        label = str(protocol_label(self.number))
        return Mismatch("notProtocol", f"any but {label}", label)


def _has_header(packet: Packet, match: IcmpMatch) -> bool:
    header = packet.icmp
    return header is not None and header.type == match.type and match.code in (None, header.code)


def _spell_match(match: IcmpMatch) -> str:
    return f"type {match.type}" if match.code is None else f"type {match.type} code {match.code}"


def _spell_header(packet: Packet) -> str:
    return "no ICMP" if packet.icmp is None else f"type {packet.icmp.type} code {packet.icmp.code}"


@dataclass(frozen=True, slots=True)
class IsIcmp:
    """``icmp``: type 0 and code 0 are constraints like any other (2.5)."""

    match: IcmpMatch

    @property
    def part(self) -> Part:
        return Part.ICMP

    def holds(self, packet: Packet) -> bool:
        return _has_header(packet, self.match)

    def mismatch(self, packet: Packet) -> Mismatch:
        return Mismatch("icmp", _spell_match(self.match), _spell_header(packet))


@dataclass(frozen=True, slots=True)
class NotIcmp:
    """``notICMP``: with type and code, not both of them together (2.5)."""

    match: IcmpMatch

    @property
    def part(self) -> Part:
        return Part.ICMP

    def holds(self, packet: Packet) -> bool:
        return not _has_header(packet, self.match)

    def mismatch(self, packet: Packet) -> Mismatch:
        return Mismatch("notICMP", f"any but {_spell_match(self.match)}", _spell_header(packet))


def _address_part(side: Side) -> Part:
    return Part.SOURCE_ADDRESS if side == "source" else Part.DESTINATION_ADDRESS


def _spell_nets(nets: tuple[Net, ...]) -> str:
    return ", ".join(map(str, nets))


@dataclass(frozen=True, slots=True)
class InNets:
    """``nets``: in any of them. Networks of the other family hold nothing of this one (2.6)."""

    side: Side
    nets: tuple[Net, ...]
    index: NetIndex[Net] = field(compare=False, repr=False)

    @classmethod
    def of(cls, side: Side, nets: tuple[Net, ...]) -> InNets:
        """The condition with its index."""
        return cls(side, nets, NetIndex((net, net) for net in nets))

    @property
    def part(self) -> Part:
        return _address_part(self.side)

    def holds(self, packet: Packet) -> bool:
        return self.index.covers(packet.end(self.side).address)

    def mismatch(self, packet: Packet) -> Mismatch:
        return Mismatch(f"{self.side}.nets", f"in {_spell_nets(self.nets)}", str(packet.end(self.side).address))


@dataclass(frozen=True, slots=True)
class NotInNets:
    """``notNets``: in none of them; a rule whose notNets are all of the other family is absent in this one (2.6)."""

    side: Side
    nets: tuple[Net, ...]
    index: NetIndex[Net] = field(compare=False, repr=False)

    @classmethod
    def of(cls, side: Side, nets: tuple[Net, ...]) -> NotInNets:
        """The condition with its index."""
        return cls(side, nets, NetIndex((net, net) for net in nets))

    @property
    def part(self) -> Part:
        return _address_part(self.side)

    def holds(self, packet: Packet) -> bool:
        address = packet.end(self.side).address
        return self.index.has_family(address.version) and not self.index.covers(address)

    def mismatch(self, packet: Packet) -> Mismatch:
        address = packet.end(self.side).address
        if not self.index.has_family(address.version):
            wanted = f"an address of the family of {_spell_nets(self.nets)}: the rule is absent in the other"
            return Mismatch(f"{self.side}.notNets", wanted, str(address))
        held_by = _spell_nets(tuple(self.index.covering(address)))
        return Mismatch(f"{self.side}.notNets", f"not in {held_by}", str(address))
