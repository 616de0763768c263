# SPDX-License-Identifier: Apache-2.0
"""One flat rule as nftables rules.

Most rules are one nftables rule; one that names addresses is one for each family. Where alternatives remain (numbers
beside named ports), each sets a mark bit of the side in a rule of its own, and the last rule asks for the bits: so no
combination is multiplied out, and a Log rule logs once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dataplanes.api import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    DataplaneError,
    IcmpMatch,
    Net,
    PortRange,
    SnapshotRule,
    SnapshotSide,
)
from dataplanes.nftables.names import EXCLUDED, PORT_HIT
from dataplanes.nftables.parts import Scene
from dataplanes.nftables.sets import ListedNets, ListedPorts, SnapshotSet
from dataplanes.nftables.words import (
    Family,
    Json,
    Rule,
    address,
    ahead_of,
    clear_bits,
    lookup,
    match,
    meta,
    net_value,
    only_bits,
    rule,
    set_bits,
    transport,
)

__all__ = ["FAMILIES", "rules_of"]

FAMILIES: Final[tuple[Family, Family]] = (4, 6)
_ICMP_PROTOCOLS: Final = (ICMP, ICMPV6)
_TYPE: Final[Json] = {"payload": {"base": "th", "offset": 0, "len": 8}}
# Type, code and checksum: nft lists two bytes that differ from a type and code as if both had to differ.
_TYPE_CODE_SUM: Final[Json] = {"payload": {"base": "th", "offset": 0, "len": 32}}
_TYPE_CODE_MASK: Final = 0xFFFF0000

Side = Literal["source", "destination"]
_ADDRESS_FIELDS: Final[dict[Side, str]] = {"source": "saddr", "destination": "daddr"}
_PORT_FIELDS: Final[dict[Side, str]] = {"source": "sport", "destination": "dport"}


class _NeverMatches(Exception):
    """No packet of this family can match the rule."""


@dataclass(slots=True)
class _Taken:
    """A rule taken apart: what holds in the last nftables rule, and what sets mark bits before it."""

    conditions: list[Json] = field(default_factory=list)
    wanted_bits: int = 0
    used_bits: int = 0
    alternatives: list[tuple[list[Json], int]] = field(default_factory=list)

    def any_of(self, conditions: Iterable[list[Json]], bit: int) -> None:
        """Require one of several conditions, by way of a mark bit."""
        self.alternatives += [(condition, bit) for condition in conditions]
        self.wanted_bits |= bit
        self.used_bits |= bit

    def none_of(self, conditions: list[Json], bit: int) -> None:
        """Require that conditions do not hold together, by way of a mark bit."""
        self.alternatives.append((conditions, bit))
        self.used_bits |= bit


def rules_of(found: SnapshotRule, scene: Scene, then: Sequence[Json], about: str) -> Iterator[Rule]:
    """The nftables rules that do ``then`` to what ``found`` matches, none where no packet can match.

    Raises DataplaneError for a rule that nftables cannot express.
    """
    written = {family: _of_family(found, family, scene, then, about) for family in FAMILIES}
    if written[4] == written[6]:
        yield from written[4]
        return
    for family in FAMILIES:
        yield from (ahead_of(family, each) for each in written[family])


def _of_family(found: SnapshotRule, family: Family, scene: Scene, then: Sequence[Json], about: str) -> list[Rule]:
    try:
        taken = _taken(found, family, scene)
    except _NeverMatches:
        return []
    rules = []
    if taken.used_bits:
        rules.append(rule(clear_bits(taken.used_bits), about=about))
        rules += [rule(*conditions, set_bits(bit), about=about) for conditions, bit in taken.alternatives]
        taken.conditions.append(only_bits(taken.wanted_bits, taken.used_bits))
    return [*rules, rule(*taken.conditions, *then, about=about)]


def _taken(found: SnapshotRule, family: Family, scene: Scene) -> _Taken:
    if found.ip_version not in (None, family):
        raise _NeverMatches
    taken = _Taken()
    taken.conditions += _protocol(found)
    _add_icmp(taken, found)
    sides: tuple[tuple[Side, SnapshotSide], ...] = (("source", found.source), ("destination", found.destination))
    for which, side in sides:
        taken.conditions += _nets(side, which, family, scene)
        _Ports(found, side, which, family, scene).add_to(taken)
    for which, side in sides:
        taken.conditions += _sets(side, which, family, scene)
    # A packet leaves a rule at the first condition that does not hold: what costs a look-up comes last.
    taken.conditions.sort(key=_looks_up)
    return taken


def _looks_up(condition: Json) -> bool:
    return str(condition["match"]["right"]).startswith("@")


def _protocol(found: SnapshotRule) -> Iterator[Json]:
    """At most one condition: beside a protocol, ``notProtocol`` is either void or contradicts it."""
    if found.protocol is not None:
        if found.protocol == found.not_protocol:
            raise _NeverMatches
        yield _is_protocol(found.protocol)
    elif found.not_protocol is not None:
        yield match(meta("l4proto"), found.not_protocol, "!=")


def _is_protocol(number: int) -> Json:
    return match(meta("l4proto"), number)


def _icmp(icmp: IcmpMatch, operator: str = "==") -> Json:
    """Type and code by their bytes: nft's own words for them hold for a family's own ICMP only."""
    if icmp.code is None:
        return match(_TYPE, icmp.type, operator)
    return match({"&": [_TYPE_CODE_SUM, _TYPE_CODE_MASK]}, icmp.type << 24 | icmp.code << 16, operator)


def _add_icmp(taken: _Taken, found: SnapshotRule) -> None:
    if found.icmp is not None:
        if found.protocol is None:
            raise DataplaneError("an ICMP type says nothing without a protocol", allowed="ICMP or ICMPv6")
        if found.protocol not in _ICMP_PROTOCOLS:
            raise _NeverMatches
        taken.conditions.append(_icmp(found.icmp))
    if found.not_icmp is None:
        return
    if found.protocol in _ICMP_PROTOCOLS:
        taken.conditions.append(_icmp(found.not_icmp, "!="))
    elif found.protocol is None:
        # Every packet that is not that message has to match, those too that are too short to have a type.
        for protocol in _ICMP_PROTOCOLS:
            taken.none_of([_is_protocol(protocol), _icmp(found.not_icmp)], EXCLUDED)


def _nets(side: SnapshotSide, which: Side, family: Family, scene: Scene) -> Iterator[Json]:
    """The networks of one sign: one is compared with, several are looked up."""
    nets, not_nets = _in_family(side.nets, family), _in_family(side.not_nets, family)
    if (side.nets and not nets) or _cover_all(not_nets):
        raise _NeverMatches
    for given, operator in ((() if _cover_all(nets) else nets, "=="), (not_nets, "!=")):
        if given:
            value = net_value(given[0]) if len(given) == 1 else lookup(scene.use(ListedNets.of(family, given)))
            yield match(address(family, _ADDRESS_FIELDS[which]), value, operator)


def _in_family(nets: Sequence[Net], family: Family) -> tuple[Net, ...]:
    return tuple(net for net in dict.fromkeys(nets) if net.version == family)


def _cover_all(nets: Sequence[Net]) -> bool:
    return any(net.prefixlen == 0 for net in nets)


def _sets(side: SnapshotSide, which: Side, family: Family, scene: Scene) -> Iterator[Json]:
    for set_ids, operator in ((side.sets, "=="), (side.not_sets, "!=")):
        for set_id in set_ids:
            name = scene.use(SnapshotSet(set_id, "net", family))
            yield match(address(family, _ADDRESS_FIELDS[which]), lookup(name), operator)


@dataclass(frozen=True, slots=True)
class _Ports:
    """The ports of one side of a rule, in one family."""

    found: SnapshotRule
    side: SnapshotSide
    which: Side
    family: Family
    scene: Scene

    def add_to(self, taken: _Taken) -> None:
        """Add what the rule asks of the ports."""
        side = self.side
        if (side.ports or side.not_ports) and self.found.protocol not in PORT_PROTOCOLS:
            raise DataplaneError(
                "port numbers say nothing without a protocol that has ports",
                value=self.found.origin.owner if self.found.origin else self.found.protocol,
                allowed="TCP, UDP or SCTP",
            )
        positive = [self._listed(side.ports)] if side.ports else []
        positive += [self._named(set_id) for set_id in side.port_sets]
        if len(positive) > 1:
            protocol = [] if self.found.protocol is None else [_is_protocol(self.found.protocol)]
            taken.any_of(([*protocol, condition] for condition in positive), PORT_HIT[self.which])
        else:
            taken.conditions += positive
        if side.not_ports:
            taken.conditions.append(self._listed(side.not_ports, "!="))
        self._exclude_named(taken)

    def _exclude_named(self, taken: _Taken) -> None:
        """A packet without ports is in no port set, and nftables finds nothing to compare in it: it has to match."""
        for set_id in self.side.not_port_sets:
            if self.found.protocol in PORT_PROTOCOLS:
                taken.conditions.append(self._named(set_id, "!="))
            else:
                taken.none_of([self._named(set_id)], EXCLUDED)

    def _listed(self, ports: Sequence[PortRange], operator: str = "==") -> Json:
        field = transport(_PORT_FIELDS[self.which])
        if len(ports) > 1:
            return match(field, lookup(self.scene.use(ListedPorts.of(ports))), operator)
        (only,) = ports
        return match(field, only.first if only.first == only.last else {"range": [only.first, only.last]}, operator)

    def _named(self, set_id: str, operator: str = "==") -> Json:
        key = [address(self.family, _ADDRESS_FIELDS[self.which]), meta("l4proto"), transport(_PORT_FIELDS[self.which])]
        return match({"concat": key}, lookup(self.scene.use(SnapshotSet(set_id, "port", self.family))), operator)
