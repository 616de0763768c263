# SPDX-License-Identifier: Apache-2.0
"""Kubernetes NetworkPolicies in the one form.

Source: libcalico-go/lib/backend/k8s/conversion, calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lab.policy.compile.forms import FormRule, PolicyForm, in_namespace
from lab.policy.compile.kubernetes_labels import PODS, label_terms, merged
from lab.policy.resources import (
    Action,
    Direction,
    EntityRule,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    PortMatch,
    PortRange,
    ProtocolMatch,
    Rule,
)
from lab.policy.selector import all_of
from lab.policy.snapshot import PolicyId

__all__ = ["kubernetes_form"]

_TIER = "default"
_ORDER = 1000.0


def kubernetes_form(policy: KubernetesNetworkPolicy) -> PolicyForm:
    """A Kubernetes NetworkPolicy in the one form."""
    return PolicyForm(
        PolicyId(policy.kind, policy.namespace, policy.name),
        _TIER,
        _ORDER,
        all_of(in_namespace(policy.namespace), PODS, *label_terms(policy.pod_selector)),
        policy.types,
        tuple(_rules(policy.ingress, Direction.INGRESS)),
        tuple(_rules(policy.egress, Direction.EGRESS)),
    )


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
    return Rule(Action.ALLOW, written.place, protocol=match, destination=replace(peer, ports=ports))


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
    return (*merged(ranges), *dict.fromkeys(names))


def _peer(peer: KubernetesPeer) -> EntityRule:
    """A peer without a pod selector is every pod, one without a namespace selector only those of its own."""
    if peer.ip_block is not None:
        return EntityRule(nets=(peer.ip_block.cidr,), not_nets=peer.ip_block.except_)
    pods = () if peer.pod_selector is None else tuple(label_terms(peer.pod_selector))
    selector = all_of(PODS, *pods)
    if peer.namespace_selector is None:
        return EntityRule(selector=selector)
    return EntityRule(selector=selector, namespace_selector=all_of(*label_terms(peer.namespace_selector)))
