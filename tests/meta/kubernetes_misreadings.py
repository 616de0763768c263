# SPDX-License-Identifier: Apache-2.0
"""Misreadings of Kubernetes NetworkPolicies."""

from __future__ import annotations

from dataclasses import replace

from misread import (
    Change,
    Misreading,
    Reading,
    calico,
    kubernetes,
    kubernetes_peers,
    kubernetes_rules,
)

from lab.policy.resources import (
    CalicoPolicy,
    Direction,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    LabelRequirement,
    LabelSelector,
    Resources,
)
from lab.protocols import TCP
from lab.topology import Topology

__all__ = ["KUBERNETES_MISREADINGS"]

EVERYBODY = LabelSelector({}, ())


def _kubernetes_late(policy: CalicoPolicy) -> CalicoPolicy:
    return replace(policy, order=None if policy.order is None else policy.order - 10_000)


def _absent_fails(selector: LabelSelector) -> LabelSelector:
    asked = tuple(
        LabelRequirement(each.key, "Exists", ()) for each in selector.match_expressions if each.operator == "NotIn"
    )
    return replace(selector, match_expressions=(*selector.match_expressions, *asked))


def _absent_fails_in(policy: KubernetesNetworkPolicy) -> KubernetesNetworkPolicy:
    return replace(policy, pod_selector=_absent_fails(policy.pod_selector))


def _absent_fails_at(peer: KubernetesPeer) -> KubernetesPeer:
    pods = None if peer.pod_selector is None else _absent_fails(peer.pod_selector)
    return replace(peer, pod_selector=pods)


def _either_selector(peer: KubernetesPeer) -> KubernetesPeer | tuple[KubernetesPeer, ...]:
    if peer.pod_selector is None or peer.namespace_selector is None:
        return peer
    return replace(peer, pod_selector=None), replace(peer, namespace_selector=None)


def _named_for_all(port: KubernetesPort) -> KubernetesPort:
    return replace(port, port=80) if isinstance(port.port, str) else port


def _kubernetes_ports(change: object) -> Change:
    assert callable(change)
    return kubernetes_rules(lambda rule: replace(rule, ports=tuple(change(port) for port in rule.ports)))


def _always_tcp(port: KubernetesPort) -> KubernetesPort:
    return replace(port, protocol=TCP)


def _first_kubernetes_policy(topology: Topology, told: Resources) -> Reading:
    seen: list[str] = []

    def first(policy: KubernetesNetworkPolicy) -> KubernetesNetworkPolicy | None:
        seen.append(policy.name)
        return policy if len(seen) == 1 else None

    return kubernetes(first)(topology, told)


def _isolating(policy: KubernetesNetworkPolicy) -> KubernetesNetworkPolicy | None:
    return policy if policy.ingress or policy.egress else None


KUBERNETES_MISREADINGS = (
    Misreading(
        "no-exceptions",
        "The exceptions of an ipBlock are not looked at.",
        ("kubernetes.ip-block.except",),
        kubernetes_peers(lambda peer: replace(peer, ip_block=peer.ip_block and replace(peer.ip_block, except_=()))),
    ),
    Misreading(
        "not-in-needs-the-label",
        "NotIn asks for a label that is there.",
        ("kubernetes.match-expressions.absent-label",),
        lambda topology, told: kubernetes_peers(_absent_fails_at)(*kubernetes(_absent_fails_in)(topology, told)),
    ),
    Misreading(
        "kubernetes-last",
        "Kubernetes policies are asked after all of Calico's that have an order.",
        ("kubernetes.order.after-lower-calico-orders",),
        calico(_kubernetes_late),
    ),
    Misreading(
        "either-selector",
        "The two selectors of a peer are alternatives.",
        ("kubernetes.peer.namespace-and-pod",),
        kubernetes_peers(_either_selector),
    ),
    Misreading(
        "namespaces-are-home",
        "A namespaceSelector is not looked at.",
        ("kubernetes.peer.namespace-selector",),
        kubernetes_peers(
            lambda peer: (
                peer
                if peer.ip_block
                else replace(peer, namespace_selector=None, pod_selector=peer.pod_selector or EVERYBODY)
            )
        ),
    ),
    Misreading(
        "pods-of-any-namespace",
        "A podSelector alone finds pods of every namespace.",
        ("kubernetes.peer.pod-selector",),
        kubernetes_peers(
            lambda peer: (
                peer if peer.ip_block else replace(peer, namespace_selector=peer.namespace_selector or EVERYBODY)
            )
        ),
    ),
    Misreading(
        "one-kubernetes-policy",
        "Of several Kubernetes policies the first is in force.",
        ("kubernetes.policies.add-up",),
        _first_kubernetes_policy,
    ),
    Misreading(
        "both-policy-types",
        "A Kubernetes policy holds for both directions.",
        ("kubernetes.policy-types.absent",),
        kubernetes(lambda policy: replace(policy, types=frozenset(Direction))),
    ),
    Misreading(
        "forgets-end-port",
        "A Kubernetes port is one number.",
        ("kubernetes.ports.end-port",),
        _kubernetes_ports(lambda port: replace(port, end_port=None)),
    ),
    Misreading(
        "kubernetes-names-are-eighty",
        "A port's name is 80.",
        ("kubernetes.ports.named",),
        _kubernetes_ports(_named_for_all),
    ),
    Misreading(
        "kubernetes-is-tcp",
        "A Kubernetes port is one of TCP.",
        ("kubernetes.ports.protocol",),
        _kubernetes_ports(_always_tcp),
    ),
    Misreading(
        "empty-rules-are-none",
        "A Kubernetes rule that says nothing is none.",
        ("kubernetes.rule.empty-allows-everyone",),
        kubernetes_rules(lambda rule: rule if rule.peers or rule.ports else None),
    ),
    Misreading(
        "empty-policies-are-none",
        "A Kubernetes policy without rules is none.",
        ("kubernetes.default-deny.ingress", "kubernetes.default-deny.egress"),
        kubernetes(_isolating),
    ),
)
