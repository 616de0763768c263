# SPDX-License-Identifier: Apache-2.0
"""A user's rule as a flat one: selectors become sets, named ports too, and each family keeps what is its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lab.policy.compile.calico import given, numbered, positive_selector
from lab.policy.compile.forms import FormRule, PolicyForm
from lab.policy.compile.sets import SetNames, SetSpec
from lab.policy.resources import Direction, EntityRule, PortMatch, PortRange, Profile, Rule
from lab.policy.selector import Selector
from lab.policy.snapshot import RuleOrigin, SnapshotPolicy, SnapshotProfile, SnapshotRule, SnapshotSide
from lab.protocols import ICMP, ICMPV6
from lab.topology import Net

__all__ = ["Rendered", "rendered_policy", "rendered_profile"]

Family = Literal[4, 6]
_FAMILIES: tuple[Family, Family] = (4, 6)
# Only a protocol's name implies a version, its number does not.
_IMPLIED_FAMILY: dict[int, Family] = {ICMP: 4, ICMPV6: 6}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A policy or profile made flat, and the sets that its rules name, by their ids."""

    value: SnapshotPolicy | SnapshotProfile
    sets: Mapping[str, SetSpec]


def rendered_policy(form: PolicyForm) -> Rendered:
    """A policy made flat; the rules of a direction to which it does not apply are left out."""
    sets, policy_id = SetNames(), form.policy_id
    ingress, egress = (
        _flat_rules(form.rules(direction), str(policy_id), policy_id.namespace, direction, sets)
        for direction in Direction
    )
    return Rendered(SnapshotPolicy(policy_id, form.tier, ingress, egress), sets.specs)


def rendered_profile(profile: Profile) -> Rendered:
    """A profile made flat."""
    sets, owner = SetNames(), f"Profile/{profile.name}"
    ingress = _flat_rules(numbered(profile.ingress), owner, "", Direction.INGRESS, sets)
    egress = _flat_rules(numbered(profile.egress), owner, "", Direction.EGRESS, sets)
    return Rendered(SnapshotProfile(profile.name, ingress, egress), sets.specs)


def _flat_rules(
    rules: Iterable[FormRule], owner: str, namespace: str, direction: Direction, sets: SetNames
) -> tuple[SnapshotRule, ...]:
    """The rules of one direction of a policy (``namespace`` "" for a global one) or of a profile.

    A rule that no packet of either family can match is left out.
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


@dataclass(frozen=True, slots=True)
class _Context:
    """What both sides of a rule need to know of the rest."""

    families: list[Family]
    protocol: int | None
    namespace: str
    sets: SetNames

    def of_families(self, nets: Iterable[Net]) -> tuple[Net, ...]:
        return tuple(net for net in nets if net.version in self.families)

    def port_sets(self, positive: Selector | None, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.sets.port_set(positive, self.protocol, name) for name in names)


def _flat(rule: Rule, families: list[Family], namespace: str, sets: SetNames, origin: RuleOrigin) -> SnapshotRule:
    """A rule made flat.

    A service is a set of its addresses where traffic comes from, and of its addresses with their ports where it goes.
    """
    context = _Context(families, rule.protocol.number if rule.protocol else None, namespace, sets)
    source, destination = _side(rule.source, context), _side(rule.destination, context)
    if rule.source.services is not None:
        source = replace(source, sets=(*source.sets, sets.service_set(rule.source.services, bound=False)))
    if rule.destination.services is not None:
        bound = sets.service_set(rule.destination.services, bound=True)
        destination = replace(destination, port_sets=(*destination.port_sets, bound))
    return SnapshotRule(
        rule.action,
        families[0] if len(families) == 1 else None,
        context.protocol,
        rule.not_protocol.number if rule.not_protocol else None,
        rule.icmp,
        rule.not_icmp,
        source,
        destination,
        origin,
        rule.http,
    )


def _side(side: EntityRule, context: _Context) -> SnapshotSide:
    """One side. Named ports are those of the endpoints that its positive selector matches, whatever the sign."""
    positive = positive_selector(side, context.namespace)
    negative = given(side.not_selector) if positive is None else None
    ports, names = _split(side.ports)
    not_ports, not_names = _split(side.not_ports)
    return SnapshotSide(
        nets=context.of_families(side.nets),
        not_nets=context.of_families(side.not_nets),
        sets=() if positive is None else (context.sets.net_set(positive),),
        not_sets=() if negative is None else (context.sets.net_set(negative),),
        ports=ports,
        port_sets=context.port_sets(positive, names),
        not_ports=not_ports,
        not_port_sets=context.port_sets(positive, not_names),
        by_account=side.service_accounts is not None,
    )


def _split(ports: Iterable[PortMatch]) -> tuple[tuple[PortRange, ...], tuple[str, ...]]:
    """Numbers and names apart, each once."""
    once = dict.fromkeys(ports)
    return tuple(port for port in once if isinstance(port, PortRange)), tuple(p for p in once if isinstance(p, str))
