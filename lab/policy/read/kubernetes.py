# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes NetworkPolicy: checked as its API server checks it, and stored with the types that it would store."""

from __future__ import annotations

from collections.abc import Sequence

from lab.policy.read.kubernetes_models import (
    EgressModel,
    IngressModel,
    IpBlockModel,
    KubernetesNetworkPolicyModel,
    KubernetesPolicySpec,
    LabelSelectorModel,
    PeerModel,
    PortModel,
    StagedKubernetesNetworkPolicyModel,
    StagedKubernetesPolicySpec,
)
from lab.policy.read.labels import read_label_selector
from lab.policy.read.source import Path, Source
from lab.policy.read.values import kubernetes_net, port_name, port_number
from lab.policy.resources import (
    Direction,
    IpBlock,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelSelector,
    StagedAction,
)
from lab.protocols import SCTP, TCP, UDP
from lab.topology import Net

__all__ = ["read_kubernetes_policy", "read_staged_kubernetes_policy"]

_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
_MAX_TYPES = 2


def read_kubernetes_policy(source: Source, namespace: str | None) -> KubernetesNetworkPolicy | None:
    """Read a NetworkPolicy of networking.k8s.io/v1; None when its shape is wrong."""
    model = source.check(KubernetesNetworkPolicyModel)
    if model is None or namespace is None:
        return None
    return _policy(source, model.metadata.name, namespace, model.spec, None)


def read_staged_kubernetes_policy(source: Source, namespace: str | None) -> KubernetesNetworkPolicy | None:
    """Read a StagedKubernetesNetworkPolicy of projectcalico.org/v3; None when its shape is wrong."""
    model = source.check(StagedKubernetesNetworkPolicyModel)
    if model is None or namespace is None:
        return None
    return _policy(source, model.metadata.name, namespace, model.spec, StagedAction(model.spec.staged_action))


def _policy(
    source: Source,
    name: str,
    namespace: str,
    spec: KubernetesPolicySpec | StagedKubernetesPolicySpec,
    staged: StagedAction | None,
) -> KubernetesNetworkPolicy:
    source.limit(("spec", "policyTypes"), spec.policy_types, _MAX_TYPES)
    return KubernetesNetworkPolicy(
        name=name,
        namespace=namespace,
        pod_selector=read_label_selector(source, ("spec", "podSelector"), spec.pod_selector),
        types=_types(spec),
        ingress=_rules(source, ("spec", "ingress"), "from", spec.ingress),
        egress=_rules(source, ("spec", "egress"), "to", spec.egress),
        place=source.place(),
        staged=staged,
    )


def _types(spec: KubernetesPolicySpec) -> frozenset[Direction]:
    """The given types, or by default Ingress, and Egress if there is an egress rule."""
    if spec.policy_types:
        return frozenset(Direction(name.lower()) for name in spec.policy_types)
    return frozenset({Direction.INGRESS, Direction.EGRESS} if spec.egress else {Direction.INGRESS})


def _rules(
    source: Source, path: Path, peers: str, models: Sequence[IngressModel | EgressModel]
) -> tuple[KubernetesRule, ...]:
    """All rules of one direction; ``peers`` is the key under which they name the other side."""
    return tuple(_rule(source, (*path, index), peers, model) for index, model in enumerate(models))


def _rule(source: Source, path: Path, peers: str, model: IngressModel | EgressModel) -> KubernetesRule:
    return KubernetesRule(
        peers=tuple(_peer(source, (*path, peers, index), peer) for index, peer in enumerate(model.peers)),
        ports=tuple(_port(source, (*path, "ports", index), port) for index, port in enumerate(model.ports)),
        place=source.place(path),
    )


def _peer(source: Source, path: Path, model: PeerModel) -> KubernetesPeer:
    selectors = model.pod_selector is not None or model.namespace_selector is not None
    if model.ip_block is not None and selectors:
        source.refuse((*path, "ipBlock"), "cannot stand beside podSelector or namespaceSelector", key=True)
    if model.ip_block is None and not selectors:
        source.refuse(
            path,
            "says nothing",
            allowed="podSelector, namespaceSelector, or ipBlock",
            next_step="to mean every pod of every namespace write namespaceSelector: {}",
        )
    return KubernetesPeer(
        pod_selector=_optional_selector(source, (*path, "podSelector"), model.pod_selector),
        namespace_selector=_optional_selector(source, (*path, "namespaceSelector"), model.namespace_selector),
        ip_block=_ip_block(source, (*path, "ipBlock"), model.ip_block),
    )


def _ip_block(source: Source, path: Path, model: IpBlockModel | None) -> IpBlock | None:
    if model is None:
        return None
    cidr = source.read((*path, "cidr"), kubernetes_net, model.cidr)
    if cidr is None:
        return None
    excepted = source.read_all((*path, "except"), kubernetes_net, model.except_)
    if len(excepted) == len(model.except_):
        _check_within(source, (*path, "except"), cidr, excepted)
    return IpBlock(cidr, excepted)


def _check_within(source: Source, path: Path, cidr: Net, excepted: Sequence[Net]) -> None:
    for index, net in enumerate(excepted):
        # Told apart by version first: subnet_of() raises on networks of two families.
        within = net.version == cidr.version and net.prefixlen > cidr.prefixlen and net.network_address in cidr
        if not within:
            source.refuse((*path, index), "is not a part of the cidr", allowed=f"less than {cidr}")


def _port(source: Source, path: Path, model: PortModel) -> KubernetesPort:
    if isinstance(model.port, str):
        source.read((*path, "port"), port_name, model.port)
    elif model.port is not None:
        source.read((*path, "port"), port_number, model.port)
    if model.end_port is not None:
        _check_end_port(source, (*path, "endPort"), model.port, model.end_port)
    return KubernetesPort(_PROTOCOLS[model.protocol], model.port, model.end_port)


def _check_end_port(source: Source, path: Path, port: int | str | None, end_port: int) -> None:
    if not isinstance(port, int):
        source.refuse(path, "needs a port number beside it", key=True)
    elif end_port < port:
        source.refuse(path, "is less than port", allowed=f"{port} or more")
    else:
        source.read(path, port_number, end_port)


def _optional_selector(source: Source, path: Path, model: LabelSelectorModel | None) -> LabelSelector | None:
    return None if model is None else read_label_selector(source, path, model)
