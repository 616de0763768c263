# SPDX-License-Identifier: Apache-2.0
"""One flat rule as iptables rules of one family.

What iptables can join with "and" stands in one iptables rule. Where alternatives remain (more ports than one
multiport match holds, numbers beside named ports), each sets a mark bit of the side in a rule of its own, and
the last rule asks for the bits: so no combination is multiplied out, and a Log rule logs once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dataplanes.api import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    SCTP,
    TCP,
    UDP,
    DataplaneError,
    IcmpMatch,
    Net,
    PortRange,
    SnapshotRule,
    SnapshotSide,
)
from dataplanes.iptables.names import ICMP_HIT, PORT_HIT, comment
from dataplanes.iptables.sets import Family, SetCollector

__all__ = ["rule_lines"]

# xt_multiport holds 15 numbers, and a range takes two of them.
_MULTIPORT_SLOTS = 15
# xt_icmp reads type 255 as "any type", so it cannot be asked for.
_LARGEST_ICMP_TYPE = 254

_PROTOCOLS = {TCP: "tcp", UDP: "udp", SCTP: "sctp", ICMP: "icmp", ICMPV6: "ipv6-icmp"}
_OWN_ICMP: dict[Family, int] = {4: ICMP, 6: ICMPV6}
_ICMP_MATCHES: dict[Family, tuple[str, str]] = {4: ("icmp", "--icmp-type"), 6: ("icmp6", "--icmpv6-type")}

# Where xt_u32 finds the first 32 bits behind the IP header (in IPv6: of a packet without extension headers).
_TRANSPORT_HEADER: dict[Family, str] = {4: "0>>22&0x3C@0", 6: "40"}

Side = Literal["source", "destination"]
_ADDRESS_OPTIONS: dict[Side, str] = {"source": "-s", "destination": "-d"}
_SET_FLAGS: dict[Side, str] = {"source": "src", "destination": "dst"}


class _NeverMatches(Exception):
    """No packet of this family can match the rule."""


@dataclass(slots=True)
class _Parts:
    """A rule taken apart: what holds in the last iptables rule, and what sets mark bits before it."""

    conditions: list[str] = field(default_factory=list)
    wanted_bits: int = 0
    used_bits: int = 0
    alternatives: list[tuple[str, int]] = field(default_factory=list)

    def any_of(self, conditions: Sequence[str], bit: int) -> None:
        """Require one of several conditions, by way of a mark bit."""
        self.alternatives += [(condition, bit) for condition in conditions]
        self.wanted_bits |= bit
        self.used_bits |= bit

    def none_of(self, condition: str, bit: int) -> None:
        """Require that a condition does not hold, by way of a mark bit."""
        self.alternatives.append((condition, bit))
        self.used_bits |= bit


def rule_lines(rule: SnapshotRule, family: Family, sets: SetCollector, target: str, about: str) -> list[str]:
    """The iptables rules, without their chain, that send what ``rule`` matches to ``target``.

    Empty where no packet of the family can match. Raises DataplaneError for a rule that iptables cannot express.
    """
    try:
        parts = _parts(rule, family, sets)
    except _NeverMatches:
        return []
    note = comment(about)
    lines = []
    if parts.used_bits:
        lines.append(f"{note} -j MARK --set-xmark 0x0/{parts.used_bits:#x}")
        lines += [f"{condition} {note} -j MARK --set-xmark {bit:#x}/{bit:#x}" for condition, bit in parts.alternatives]
        parts.conditions.append(f"-m mark --mark {parts.wanted_bits:#x}/{parts.used_bits:#x}")
    return [*lines, " ".join((*parts.conditions, note, target))]


def _parts(rule: SnapshotRule, family: Family, sets: SetCollector) -> _Parts:
    if rule.ip_version not in (None, family):
        raise _NeverMatches
    parts = _Parts()
    parts.conditions += _protocol(rule)
    _add_icmp(parts, rule, family)
    sides: tuple[tuple[Side, SnapshotSide], ...] = (("source", rule.source), ("destination", rule.destination))
    for side, given in sides:
        parts.conditions += _nets(given, side, family, sets)
        parts.conditions += _sets(given, side, sets)
        _add_ports(parts, given, side, rule, sets)
    return parts


def _protocol_name(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))


def _protocol(rule: SnapshotRule) -> Iterator[str]:
    """At most one ``-p``: beside a protocol, ``notProtocol`` is either void or contradicts it."""
    if rule.protocol is not None:
        if rule.protocol == rule.not_protocol:
            raise _NeverMatches
        yield f"-p {_protocol_name(rule.protocol)}"
    elif rule.not_protocol is not None:
        yield f"! -p {_protocol_name(rule.not_protocol)}"


def _icmp(icmp: IcmpMatch, protocol: int, family: Family, sign: str = "") -> str:
    """ICMP type and code. The matches of netfilter know a family's own ICMP only, so the other's bytes are compared."""
    if icmp.type > _LARGEST_ICMP_TYPE:
        raise DataplaneError("iptables cannot match this ICMP type", value=icmp.type, allowed="0 to 254")
    if protocol == _OWN_ICMP[family]:
        match, option = _ICMP_MATCHES[family]
        return f"-m {match} {sign}{option} {icmp.type}" + ("" if icmp.code is None else f"/{icmp.code}")
    header = _TRANSPORT_HEADER[family]
    wanted = f"{header}>>24={icmp.type}" if icmp.code is None else f"{header}>>16={icmp.type << 8 | icmp.code:#06x}"
    return f'-m u32 {sign}--u32 "{wanted}"'


def _add_icmp(parts: _Parts, rule: SnapshotRule, family: Family) -> None:
    if rule.icmp is not None:
        if rule.protocol is None:
            raise DataplaneError("iptables cannot match an ICMP type without a protocol", allowed="ICMP or ICMPv6")
        if rule.protocol not in _OWN_ICMP.values():
            raise _NeverMatches
        parts.conditions.append(_icmp(rule.icmp, rule.protocol, family))
    if rule.not_icmp is None:
        return
    if rule.protocol is not None:
        if rule.protocol in _OWN_ICMP.values():
            parts.conditions.append(_icmp(rule.not_icmp, rule.protocol, family, "! "))
    else:
        # iptables has no --icmp-type without -p, and every packet that is not that message has to match.
        for protocol in _OWN_ICMP.values():
            parts.none_of(f"-p {_protocol_name(protocol)} {_icmp(rule.not_icmp, protocol, family)}", ICMP_HIT)


def _nets(side: SnapshotSide, which: Side, family: Family, sets: SetCollector) -> Iterator[str]:
    """Several networks of one sign become a set; iptables takes one ``-s`` and one ``-d`` a rule."""
    option, flag = _ADDRESS_OPTIONS[which], _SET_FLAGS[which]
    nets, not_nets = _of_family(side.nets, family), _of_family(side.not_nets, family)
    if (side.nets and not nets) or _covers_all(not_nets):
        raise _NeverMatches
    asked = nets and not _covers_all(nets)
    if asked:
        yield f"{option} {nets[0]}" if len(nets) == 1 else f"-m set --match-set {sets.of_nets(nets)} {flag}"
    if not_nets:
        single = len(not_nets) == 1 and not (asked and len(nets) == 1)
        yield f"! {option} {not_nets[0]}" if single else f"-m set ! --match-set {sets.of_nets(not_nets)} {flag}"


def _of_family(nets: Sequence[Net], family: Family) -> list[Net]:
    return [net for net in dict.fromkeys(nets) if net.version == family]


def _covers_all(nets: Sequence[Net]) -> bool:
    return any(net.prefixlen == 0 for net in nets)


def _sets(side: SnapshotSide, which: Side, sets: SetCollector) -> Iterator[str]:
    flag = _SET_FLAGS[which]
    for set_id in side.sets:
        yield f"-m set --match-set {sets.named(set_id, 'net')} {flag}"
    for set_id in side.not_sets:
        yield f"-m set ! --match-set {sets.named(set_id, 'net')} {flag}"


def _add_ports(parts: _Parts, side: SnapshotSide, which: Side, rule: SnapshotRule, sets: SetCollector) -> None:
    flags = ",".join((_SET_FLAGS[which],) * 2)
    if (side.ports or side.not_ports) and rule.protocol not in PORT_PROTOCOLS:
        raise DataplaneError(
            "iptables cannot match port numbers without a protocol that has ports",
            value=rule.origin.owner if rule.origin else rule.protocol,
            allowed="TCP, UDP or SCTP",
        )
    positive = [_multiport(chunk, which) for chunk in _chunks(side.ports)]
    positive += [f"-m set --match-set {sets.named(set_id, 'port')} {flags}" for set_id in side.port_sets]
    if len(positive) > 1:
        protocol = "" if rule.protocol is None else f"-p {_protocol_name(rule.protocol)} "
        parts.any_of([protocol + condition for condition in positive], PORT_HIT[which])
    else:
        parts.conditions += positive
    parts.conditions += [_multiport(chunk, which, "! ") for chunk in _chunks(side.not_ports)]
    parts.conditions += [f"-m set ! --match-set {sets.named(set_id, 'port')} {flags}" for set_id in side.not_port_sets]


def _multiport(ports: Sequence[PortRange], which: Side, sign: str = "") -> str:
    spoken = ",".join(str(p.first) if p.first == p.last else f"{p.first}:{p.last}" for p in ports)
    return f"-m multiport {sign}--{_SET_FLAGS[which][0]}ports {spoken}"


def _chunks(ports: Sequence[PortRange]) -> Iterator[list[PortRange]]:
    """The ports in lists that one multiport match can hold each."""
    chunk: list[PortRange] = []
    free = _MULTIPORT_SLOTS
    for found in ports:
        needed = 1 if found.first == found.last else 2
        if needed > free:
            yield chunk
            chunk, free = [], _MULTIPORT_SLOTS
        chunk.append(found)
        free -= needed
    if chunk:
        yield chunk
