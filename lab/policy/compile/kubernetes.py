# SPDX-License-Identifier: Apache-2.0
"""Kubernetes NetworkPolicies in the one form.

Source: libcalico-go/lib/backend/k8s/conversion, calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.policy.compile.forms import FormRule, PolicyForm, in_namespace
from lab.policy.compile.labels import ORCHESTRATOR_LABEL
from lab.policy.resources import (
    Action,
    Direction,
    EntityRule,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelRequirement,
    LabelSelector,
    PortMatch,
    PortRange,
    ProtocolMatch,
    Rule,
)
from lab.policy.selector import Selector, all_of
from lab.policy.selector_ast import Compare, Has, Member, Node, Not
from lab.policy.snapshot import PolicyId

__all__ = ["kubernetes_form"]

_TIER = "default"
_ORDER = 1000.0
_PODS = Selector.of(Compare(ORCHESTRATOR_LABEL, "==", "k8s"))


def kubernetes_form(policy: KubernetesNetworkPolicy) -> PolicyForm:
    """A Kubernetes NetworkPolicy in the one form."""
    return PolicyForm(
        PolicyId(policy.kind, policy.namespace, policy.name),
        _TIER,
        _ORDER,
        all_of(in_namespace(policy.namespace), _PODS, *_terms(policy.pod_selector)),
        policy.types,
        tuple(_rules(policy.ingress, Direction.INGRESS)),
        tuple(_rules(policy.egress, Direction.EGRESS)),
    )


def _terms(selector: LabelSelector) -> Iterator[Selector]:
    """A label selector's requirements, all of which must hold."""
    for key, value in sorted(selector.match_labels.items()):
        yield Selector.of(Compare(key, "==", value))
    for requirement in selector.match_expressions:
        yield Selector.of(_requirement(requirement))


def _requirement(requirement: LabelRequirement) -> Node:
    match requirement.operator:
        case "In":
            return Member(requirement.key, frozenset(requirement.values))
        case "NotIn":
            return Member(requirement.key, frozenset(requirement.values), negated=True)
        case "Exists":
            return Has(requirement.key)
        case "DoesNotExist":
            return Not(Has(requirement.key))


def _rules(rules: Iterable[KubernetesRule], direction: Direction) -> Iterator[FormRule]:
    """One allow rule for every pair of a peer and a protocol."""
    for index, rule in enumerate(rules):
        for protocol, ports in _ports_by_protocol(rule.ports):
            for peer in map(_peer, rule.peers) if rule.peers else (EntityRule(),):
                yield FormRule(_rule(rule, protocol, ports, peer, direction), index)


def _rule(
    written: KubernetesRule,
    protocol: int | None,
    ports: tuple[PortMatch, ...],
    peer: EntityRule,
    direction: Direction,
) -> Rule:
    match = None if protocol is None else ProtocolMatch(protocol, by_name=True)
    if direction is Direction.INGRESS:
        return Rule(Action.ALLOW, written.place, protocol=match, source=peer, destination=EntityRule(ports=ports))
    return Rule(Action.ALLOW, written.place, protocol=match, destination=_with_ports(peer, ports))


def _with_ports(peer: EntityRule, ports: tuple[PortMatch, ...]) -> EntityRule:
    return EntityRule(
        nets=peer.nets,
        not_nets=peer.not_nets,
        selector=peer.selector,
        namespace_selector=peer.namespace_selector,
        ports=ports,
    )


def _ports_by_protocol(ports: Iterable[KubernetesPort]) -> list[tuple[int | None, tuple[PortMatch, ...]]]:
    """Ports grouped by protocol; no ports at all are any protocol, an entry without a port is the whole protocol."""
    groups: dict[int, list[KubernetesPort]] = {}
    for port in ports:
        groups.setdefault(port.protocol, []).append(port)
    if not groups:
        return [(None, ())]
    return [(protocol, _ports(entries)) for protocol, entries in groups.items()]


def _ports(entries: Iterable[KubernetesPort]) -> tuple[PortMatch, ...]:
    names: list[str] = []
    ranges: list[PortRange] = []
    for entry in entries:
        if entry.port is None:
            return ()
        if isinstance(entry.port, str):
            names.append(entry.port)
        else:
            ranges.append(PortRange(entry.port, entry.end_port or entry.port))
    return (*_merged(ranges), *dict.fromkeys(names))


def _merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """Ranges in ascending order, those that touch or overlap made one."""
    merged: list[PortRange] = []
    for found in sorted(ranges, key=lambda ports: (ports.first, ports.last)):
        if merged and found.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, found.last))
        else:
            merged.append(found)
    return merged


def _peer(peer: KubernetesPeer) -> EntityRule:
    """A peer without a pod selector is every pod, one without a namespace selector only those of its own."""
    if peer.ip_block is not None:
        return EntityRule(nets=(peer.ip_block.cidr,), not_nets=peer.ip_block.except_)
    pods = () if peer.pod_selector is None else tuple(_terms(peer.pod_selector))
    selector = all_of(_PODS, *pods)
    if peer.namespace_selector is None:
        return EntityRule(selector=selector)
    return EntityRule(selector=selector, namespace_selector=all_of(*_terms(peer.namespace_selector)))
