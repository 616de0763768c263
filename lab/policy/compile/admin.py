# SPDX-License-Identifier: Apache-2.0
"""Admin policies (AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy) in the one form.

Source: policy.networking.k8s.io v1alpha1 and v1alpha2, and Calico's conversion of them
(libcalico-go/lib/backend/k8s/conversion, v3.32).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network

from lab.policy.compile.forms import FormRule, PolicyForm
from lab.policy.compile.kubernetes_labels import PODS, label_terms, merged
from lab.policy.compile.labels import NAMESPACE_PREFIX
from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    Direction,
    EntityRule,
    LabelSelector,
    PortMatch,
    PortRange,
    ProtocolMatch,
    Rule,
)
from lab.policy.selector import Selector, all_of
from lab.policy.snapshot import PolicyId
from lab.topology import Node

__all__ = ["admin_form"]

_ADMIN_TIER = "kube-admin"
_BASELINE_TIER = "kube-baseline"


def admin_form(policy: AdminPolicy, nodes: Collection[Node]) -> PolicyForm:
    """An admin policy in the one form; it applies in the directions in which it has rules."""
    both = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    return PolicyForm(
        PolicyId(policy.kind, "", policy.name),
        _BASELINE_TIER if policy.baseline else _ADMIN_TIER,
        float(policy.priority),
        _subject(policy.subject),
        frozenset(direction for direction, rules in both.items() if rules),
        tuple(_rules(policy.ingress, Direction.INGRESS, nodes)),
        tuple(_rules(policy.egress, Direction.EGRESS, nodes)),
    )


def _subject(subject: AdminPeer) -> Selector:
    """Only ever pods, those of the namespaces that it selects."""
    namespaces, pods = _namespaces_and_pods(subject)
    return all_of(PODS, *(term.prefixed(NAMESPACE_PREFIX) for term in label_terms(namespaces)), *label_terms(pods))


def _namespaces_and_pods(peer: AdminPeer) -> tuple[LabelSelector, LabelSelector]:
    everything = LabelSelector({}, ())
    return peer.pods if peer.pods is not None else (peer.namespaces or everything, everything)


def _rules(rules: Iterable[AdminRule], direction: Direction, nodes: Collection[Node]) -> Iterator[FormRule]:
    """One rule for every pair of a peer and a protocol, in the place of the written one."""
    for index, rule in enumerate(rules):
        for converted in _closed(rule) if _beyond_us(rule) else _converted(rule, direction, nodes):
            yield FormRule(converted, index)


def _beyond_us(rule: AdminRule) -> bool:
    """Whether the rule has a kind of peer or of port that nobody knows; domain names are for rules that allow."""
    named = any(peer.domain_names is not None for peer in rule.peers) and rule.action is not Action.ALLOW
    return named or AdminPeer() in rule.peers or AdminPort() in rule.ports


def _closed(rule: AdminRule) -> Iterator[Rule]:
    """What cannot be understood fails closed: it allows nothing, and denies everything it might have let go."""
    if rule.action is not Action.ALLOW:
        yield Rule(Action.DENY, rule.place)


def _converted(rule: AdminRule, direction: Direction, nodes: Collection[Node]) -> Iterator[Rule]:
    for peer in rule.peers:
        entity = _peer(peer, nodes)
        if entity is None:
            continue
        for protocol, ports in _ports_by_protocol(rule.ports):
            match = None if protocol is None else ProtocolMatch(protocol, by_name=True)
            if direction is Direction.INGRESS:
                yield Rule(rule.action, rule.place, protocol=match, source=entity, destination=EntityRule(ports=ports))
            else:
                yield Rule(rule.action, rule.place, protocol=match, destination=replace(entity, ports=ports))


def _peer(peer: AdminPeer, nodes: Collection[Node]) -> EntityRule | None:
    """One peer, or None when it stands for nobody: no address is known for a domain name."""
    if peer.domain_names is not None:
        return None
    nets = peer.networks
    if peer.nodes is not None:
        wanted = all_of(*label_terms(peer.nodes))
        nets = tuple(ip_network(address) for node in nodes if wanted.matches(node.labels) for address in node.addresses)
    if nets is not None:
        return EntityRule(nets=nets) if nets else None
    namespaces, pods = _namespaces_and_pods(peer)
    return EntityRule(selector=all_of(PODS, *label_terms(pods)), namespace_selector=all_of(*label_terms(namespaces)))


def _ports_by_protocol(ports: Iterable[AdminPort]) -> Iterator[tuple[int | None, tuple[PortMatch, ...]]]:
    """Ports grouped by protocol; none at all are any packet, a name is a port of whatever protocol declares it."""
    groups: dict[int, list[PortRange | None]] = {}
    names: dict[str, None] = {}
    for port in ports:
        if port.name is not None:
            names[port.name] = None
        elif port.protocol is not None:
            groups.setdefault(port.protocol, []).append(port.ports)
    if names or not groups:
        yield None, tuple(names)
    for protocol, ranges in groups.items():
        yield protocol, () if None in ranges else merged(filter(None, ranges))
