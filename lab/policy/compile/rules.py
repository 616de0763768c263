# SPDX-License-Identifier: Apache-2.0
"""A user's rule as a flat one: selectors become sets, named ports too, and each family keeps what is its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lab.policy.compile.calico import given, positive_selector
from lab.policy.compile.forms import FormRule
from lab.policy.compile.sets import SetBuilder
from lab.policy.resources import Direction, EntityRule, PortMatch, PortRange, Rule
from lab.policy.snapshot import RuleOrigin, SnapshotRule, SnapshotSide
from lab.protocols import ICMP, ICMPV6
from lab.topology import Net

__all__ = ["flat_rules"]

Family = Literal[4, 6]
_FAMILIES: tuple[Family, Family] = (4, 6)
# Only a protocol's name implies a version, its number does not.
_IMPLIED_FAMILY: dict[int, Family] = {ICMP: 4, ICMPV6: 6}


def flat_rules(
    rules: Iterable[FormRule], owner: str, namespace: str, direction: Direction, sets: SetBuilder
) -> tuple[SnapshotRule, ...]:
    """The rules of one direction of a policy (``namespace`` "" for a global one) or of a profile.

    A rule that no packet of either family can match is left out. The HTTP match of a rule is ignored, as every
    L3/L4 dataplane ignores it: the sidecar judges the request.
    """
    found: list[SnapshotRule] = []
    for written in rules:
        rule = written.rule
        families = _families(rule)
        if families:
            origin = RuleOrigin(owner, direction, written.index, rule.place)
            found.append(_flat(rule, families, namespace, sets, origin))
    return tuple(found)


def _families(rule: Rule) -> list[Family]:
    """The IP families in which a rule exists at all."""
    asked = rule.ip_version
    if asked is None and rule.protocol is not None and rule.protocol.by_name:
        asked = _IMPLIED_FAMILY.get(rule.protocol.number)
    sides = (rule.source, rule.destination)
    return [
        family
        for family in _FAMILIES
        if asked in (None, family)
        and not any(_emptied(nets, family) for side in sides for nets in (side.nets, side.not_nets))
        and not any(net.prefixlen == 0 for side in sides for net in _of_family(side.not_nets, family))
    ]


def _of_family(nets: Iterable[Net], family: Family) -> tuple[Net, ...]:
    return tuple(net for net in nets if net.version == family)


def _emptied(nets: tuple[Net, ...], family: Family) -> bool:
    """Whether a list that is given says nothing of a family; the rule is then absent there, not unlimited."""
    return bool(nets) and not _of_family(nets, family)


def _flat(rule: Rule, families: list[Family], namespace: str, sets: SetBuilder, origin: RuleOrigin) -> SnapshotRule:
    protocol = rule.protocol.number if rule.protocol else None
    return SnapshotRule(
        rule.action,
        families[0] if len(families) == 1 else None,
        protocol,
        rule.not_protocol.number if rule.not_protocol else None,
        rule.icmp,
        rule.not_icmp,
        _side(rule.source, families, protocol, namespace, sets),
        _side(rule.destination, families, protocol, namespace, sets),
        origin,
    )


def _side(
    side: EntityRule, families: list[Family], protocol: int | None, namespace: str, sets: SetBuilder
) -> SnapshotSide:
    """One side. Named ports are those of the endpoints that its positive selector matches, whatever the sign."""
    positive = positive_selector(side, namespace)
    negative = given(side.not_selector) if positive is None else None
    ports, names = _split(side.ports)
    not_ports, not_names = _split(side.not_ports)
    return SnapshotSide(
        nets=tuple(net for net in side.nets if net.version in families),
        not_nets=tuple(net for net in side.not_nets if net.version in families),
        sets=() if positive is None else (sets.net_set(positive),),
        not_sets=() if negative is None else (sets.net_set(negative),),
        ports=ports,
        port_sets=tuple(sets.port_set(positive, protocol, name) for name in names),
        not_ports=not_ports,
        not_port_sets=tuple(sets.port_set(positive, protocol, name) for name in not_names),
    )


def _split(ports: Iterable[PortMatch]) -> tuple[tuple[PortRange, ...], tuple[str, ...]]:
    """Numbers and names apart, each once."""
    once = dict.fromkeys(ports)
    return tuple(port for port in once if isinstance(port, PortRange)), tuple(p for p in once if isinstance(p, str))
