# SPDX-License-Identifier: Apache-2.0
"""A Calico rule as the list of conditions that a packet must meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import Place
from lab.oracle.conditions import (
    Condition,
    in_nets,
    is_family,
    is_icmp,
    is_protocol,
    not_icmp,
    not_in_nets,
    not_protocol,
)
from lab.oracle.packet import Side
from lab.oracle.peers import given, is_party, not_party, party_test
from lab.oracle.ports import has_port, named_by, not_port
from lab.oracle.requests import is_request
from lab.oracle.services import is_backend
from lab.policy.resources import Action, EntityRule, Rule
from lab.protocols import ICMP, ICMPV6
from lab.topology import Family

__all__ = ["JudgedRule", "judged_rules"]

_IMPLIED_FAMILY: dict[int, Family] = {ICMP: 4, ICMPV6: 6}


@dataclass(frozen=True, slots=True)
class JudgedRule:
    """A rule ready to be asked: its place among the rules of its direction, its action, its conditions."""

    index: int
    action: Action
    place: Place | None
    conditions: tuple[Condition, ...]


def judged_rules(rules: tuple[Rule, ...], namespace: str | None) -> tuple[JudgedRule, ...]:
    """The rules of one direction; ``namespace`` is that of a namespaced policy, None for others and for profiles."""
    return tuple(
        JudgedRule(index, rule.action, rule.place, tuple(_conditions(rule, namespace)))
        for index, rule in enumerate(rules)
    )


def _conditions(rule: Rule, namespace: str | None) -> Iterator[Condition]:
    yield from _header_conditions(rule)
    yield from _side_conditions("source", rule.source, namespace)
    yield from _side_conditions("destination", rule.destination, namespace)


def _header_conditions(rule: Rule) -> Iterator[Condition]:
    if rule.ip_version is not None:
        yield is_family(rule.ip_version)
    if rule.protocol is not None:
        yield from _implied_family(rule)
        yield is_protocol(rule.protocol.number)
    if rule.not_protocol is not None:
        yield not_protocol(rule.not_protocol.number)
    if rule.icmp is not None:
        yield is_icmp(rule.icmp)
    if rule.not_icmp is not None:
        yield not_icmp(rule.not_icmp)
    if rule.http is not None:
        yield is_request(rule.http)


def _implied_family(rule: Rule) -> Iterator[Condition]:
    """Only a name implies a version, and only where the rule gives none itself."""
    protocol = rule.protocol
    if protocol is not None and protocol.by_name and rule.ip_version is None and protocol.number in _IMPLIED_FAMILY:
        yield is_family(_IMPLIED_FAMILY[protocol.number], "ICMP" if protocol.number == ICMP else "ICMPv6")


def _side_conditions(side: Side, entity: EntityRule, namespace: str | None) -> Iterator[Condition]:
    who = party_test(entity, namespace)
    negative = given(entity.not_selector)
    if entity.nets:
        yield in_nets(side, entity.nets)
    if entity.not_nets:
        yield not_in_nets(side, entity.not_nets)
    if who is not None:
        yield is_party(side, who)
    elif negative is not None:
        yield not_party(side, negative)
    if entity.services is not None:
        yield is_backend(side, entity.services)
    if entity.ports:
        yield has_port(side, entity.ports)
        if who is not None and any(isinstance(port, str) for port in entity.ports):
            yield named_by(side, entity.ports, who)
    if entity.not_ports:
        yield not_port(side, entity.not_ports, who)
