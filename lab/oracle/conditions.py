# SPDX-License-Identifier: Apache-2.0
"""What a rule asks of a packet besides who its ends are: family, protocol, ICMP header, networks.

A rule is a list of conditions, all of which must hold. Each depends on one part of the packet only, and can
say of a packet for which it does not hold what it wanted and what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from lab.oracle.nets import NetIndex
from lab.oracle.packet import Packet, Part, Side
from lab.policy.resources import IcmpMatch
from lab.protocols import protocol_label
from lab.topology import Address, Family, Net

__all__ = [
    "Condition",
    "Mismatch",
    "in_nets",
    "is_family",
    "is_icmp",
    "is_protocol",
    "not_icmp",
    "not_in_nets",
    "not_protocol",
]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a rule does not match: the field as the file names it, what it wants, what the packet has."""

    field: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of a packet.

    Attributes:
        part: the part of the packet on which the outcome depends, and nothing else does.
        wording: what the file says; conditions of equal part and wording are the same one, tested once.
        holds: whether a packet passes the test.
        mismatch: what is wrong with a packet for which it does not hold.
        ranges: the numbers of ports that it tells from others, first and last of each range; names are not among them.
        protocol: the protocol that it tells from others, if it is about one.
        icmp: the ICMP type, and code if there is one, that it tells from others, if it is about those.
    """

    part: Part
    wording: Hashable
    holds: Callable[[Packet], bool] = field(compare=False, repr=False)
    mismatch: Callable[[Packet], Mismatch] = field(compare=False, repr=False)
    ranges: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    protocol: int | None = field(default=None, compare=False, repr=False)
    icmp: IcmpMatch | None = field(default=None, compare=False, repr=False)


def is_family(family: Family, implied_by: str | None = None) -> Condition:
    """``ipVersion``, or the version that the name ICMP or ICMPv6 implies."""
    wanted = f"{family} (implied by protocol {implied_by})" if implied_by else str(family)
    return Condition(
        Part.FAMILY,
        ("ipVersion", wanted),
        lambda packet: packet.family == family,
        lambda packet: Mismatch("ipVersion", wanted, str(packet.family)),
    )


def is_protocol(number: int) -> Condition:
    """``protocol``."""
    return Condition(
        Part.PROTOCOL,
        ("protocol", number),
        lambda packet: packet.protocol == number,
        lambda packet: Mismatch("protocol", _protocol(number), _protocol(packet.protocol)),
        protocol=number,
    )


def not_protocol(number: int) -> Condition:
    """``notProtocol``; it never implies a version."""
    return Condition(
        Part.PROTOCOL,
        ("notProtocol", number),
        lambda packet: packet.protocol != number,
        lambda packet: Mismatch("notProtocol", f"any but {_protocol(number)}", _protocol(packet.protocol)),
        protocol=number,
    )


def _protocol(number: int) -> str:
    return str(protocol_label(number))


def is_icmp(match: IcmpMatch) -> Condition:
    """``icmp``: type 0 and code 0 are constraints like any other."""
    return Condition(
        Part.ICMP,
        ("icmp", match),
        lambda packet: _has_header(packet, match),
        lambda packet: Mismatch("icmp", _spell_match(match), _spell_header(packet)),
        icmp=match,
    )


def not_icmp(match: IcmpMatch) -> Condition:
    """``notICMP``: with type and code, not both of them together; whatever is not ICMP passes."""
    return Condition(
        Part.ICMP,
        ("notICMP", match),
        lambda packet: not _has_header(packet, match),
        lambda packet: Mismatch("notICMP", f"any but {_spell_match(match)}", _spell_header(packet)),
        icmp=match,
    )


def _has_header(packet: Packet, match: IcmpMatch) -> bool:
    header = packet.icmp
    return header is not None and header.type == match.type and match.code in {None, header.code}


def _spell_match(match: IcmpMatch) -> str:
    return f"type {match.type}" if match.code is None else f"type {match.type} code {match.code}"


def _spell_header(packet: Packet) -> str:
    return "no ICMP" if packet.icmp is None else f"type {packet.icmp.type} code {packet.icmp.code}"


def in_nets(side: Side, nets: tuple[Net, ...]) -> Condition:
    """``nets``: in any of them. Networks of the other family hold nothing of this one."""
    index = _index(nets)
    name, wanted = f"{side}.nets", f"in {_spell_nets(nets)}"
    return Condition(
        _address_part(side),
        (name, nets),
        lambda packet: index.covers(packet.end(side).address),
        lambda packet: Mismatch(name, wanted, str(packet.end(side).address)),
    )


def not_in_nets(side: Side, nets: tuple[Net, ...]) -> Condition:
    """``notNets``: in none of them; a rule whose notNets are all of the other family is absent in this one."""
    index = _index(nets)
    name = f"{side}.notNets"

    def holds(packet: Packet) -> bool:
        address = packet.end(side).address
        return index.has_family(address.version) and not index.covers(address)

    def mismatch(packet: Packet) -> Mismatch:
        address = packet.end(side).address
        return Mismatch(name, _wanted_of_not_nets(index, nets, address), str(address))

    return Condition(_address_part(side), (name, nets), holds, mismatch)


def _wanted_of_not_nets(index: NetIndex[Net], nets: tuple[Net, ...], address: Address) -> str:
    if index.has_family(address.version):
        return f"not in {_spell_nets(tuple(index.covering(address)))}"
    return f"an address of the family of {_spell_nets(nets)}: in the other one the rule is absent"


def _index(nets: tuple[Net, ...]) -> NetIndex[Net]:
    return NetIndex((net, net) for net in nets)


def _address_part(side: Side) -> Part:
    return Part.SOURCE_ADDRESS if side == "source" else Part.DESTINATION_ADDRESS


def _spell_nets(nets: tuple[Net, ...]) -> str:
    return ", ".join(map(str, nets))
