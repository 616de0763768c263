# SPDX-License-Identifier: Apache-2.0
"""Calico's resources: policies, network sets, tiers and profiles, from their models to what the lab works with."""

from __future__ import annotations

from dataclasses import replace

from lab.policy.read.calico_models import (
    GlobalNetworkPolicyModel,
    GlobalPolicySpec,
    NetworkPolicyModel,
    NetworkSetModel,
    PolicySpec,
    ProfileModel,
    StagedGlobalNetworkPolicyModel,
    StagedGlobalPolicySpec,
    StagedNetworkPolicyModel,
    StagedPolicySpec,
    TierModel,
)
from lab.policy.read.rules import read_rules
from lab.policy.read.source import Path, Source
from lab.policy.read.values import check_labels, dns_label, set_net
from lab.policy.resources import CalicoPolicy, CalicoPolicyKind, Direction, NetworkSet, Profile, StagedAction, Tier
from lab.policy.selector import Selector, parse_selector

__all__ = [
    "read_global_policy",
    "read_namespaced_policy",
    "read_network_set",
    "read_profile",
    "read_staged_global_policy",
    "read_staged_policy",
    "read_tier",
]

_PolicyModel = NetworkPolicyModel | GlobalNetworkPolicyModel | StagedNetworkPolicyModel | StagedGlobalNetworkPolicyModel

_SPEC: Path = ("spec",)
_NAMESPACE_LABEL = "projectcalico.org/namespace"
_BUILT_IN_TIERS = {"kube-admin": (1_000.0, "Pass"), "default": (1_000_000.0, "Deny"), "kube-baseline": (1e7, "Pass")}


def read_namespaced_policy(source: Source, namespace: str | None) -> CalicoPolicy | None:
    """Read a NetworkPolicy; None when its shape is wrong."""
    model = source.check(NetworkPolicyModel)
    return _policy(source, "NetworkPolicy", model, namespace) if model else None


def read_global_policy(source: Source, namespace: str | None) -> CalicoPolicy | None:
    """Read a GlobalNetworkPolicy; None when its shape is wrong."""
    model = source.check(GlobalNetworkPolicyModel)
    return _policy(source, "GlobalNetworkPolicy", model, namespace) if model else None


def read_staged_policy(source: Source, namespace: str | None) -> CalicoPolicy | None:
    """Read a StagedNetworkPolicy; None when its shape is wrong."""
    model = source.check(StagedNetworkPolicyModel)
    return _policy(source, "StagedNetworkPolicy", model, namespace) if model else None


def read_staged_global_policy(source: Source, namespace: str | None) -> CalicoPolicy | None:
    """Read a StagedGlobalNetworkPolicy; None when its shape is wrong."""
    model = source.check(StagedGlobalNetworkPolicyModel)
    return _policy(source, "StagedGlobalNetworkPolicy", model, namespace) if model else None


def _policy(source: Source, kind: CalicoPolicyKind, model: _PolicyModel, namespace: str | None) -> CalicoPolicy:
    spec = model.spec
    of_hosts = spec if isinstance(spec, GlobalPolicySpec) else GlobalPolicySpec()
    source.read((*_SPEC, "tier"), dns_label, spec.tier or "default")
    policy = CalicoPolicy(
        kind=kind,
        name=model.metadata.name,
        namespace=namespace,
        tier=spec.tier or "default",
        order=spec.order,
        selector=source.selector((*_SPEC, "selector"), spec.selector) or parse_selector(""),
        namespace_selector=_optional_selector(source, "namespaceSelector", of_hosts.namespace_selector),
        service_account_selector=_optional_selector(source, "serviceAccountSelector", spec.service_account_selector),
        types=_types(source, spec),
        ingress=read_rules(source, (*_SPEC, "ingress"), spec.ingress, Direction.INGRESS),
        egress=read_rules(source, (*_SPEC, "egress"), spec.egress, Direction.EGRESS),
        place=source.place(),
        staged=_staged(spec),
        do_not_track=of_hosts.do_not_track,
        pre_dnat=of_hosts.pre_dnat,
        apply_on_forward=of_hosts.apply_on_forward,
    )
    _check_host_fields(source, policy)
    return policy


def _staged(spec: PolicySpec) -> StagedAction | None:
    if isinstance(spec, StagedPolicySpec | StagedGlobalPolicySpec):
        return StagedAction(spec.staged_action)
    return None


def _check_host_fields(source: Source, policy: CalicoPolicy) -> None:
    """Refuse the combinations of ``doNotTrack``, ``preDNAT`` and ``applyOnForward`` that Calico refuses."""
    if policy.do_not_track and policy.pre_dnat:
        source.refuse((*_SPEC, "preDNAT"), "cannot be true beside doNotTrack", key=True)
    for key, given in (("doNotTrack", policy.do_not_track), ("preDNAT", policy.pre_dnat)):
        if given and not policy.apply_on_forward:
            source.refuse((*_SPEC, key), "needs applyOnForward: true beside it", key=True)
    if policy.pre_dnat and policy.egress:
        source.refuse((*_SPEC, "egress"), "cannot stand in a preDNAT policy", key=True, allowed="ingress rules")
    types = source.value((*_SPEC, "types")) or []
    if policy.pre_dnat and "Egress" in types:
        at = (*_SPEC, "types", types.index("Egress"))
        source.refuse(at, "cannot stand in a preDNAT policy", allowed="Ingress")


def _optional_selector(source: Source, key: str, text: str) -> Selector | None:
    return source.selector((*_SPEC, key), text) if text else None


def _types(source: Source, spec: PolicySpec) -> frozenset[Direction]:
    """The directions that a policy applies to; left out they follow from its rules, as Calico's API defaults them."""
    for index, name in enumerate(spec.types):
        if name in spec.types[:index]:
            source.refuse((*_SPEC, "types", index), "is given twice")
    if spec.types:
        return frozenset(Direction(name.lower()) for name in spec.types)
    if not spec.egress:
        return frozenset({Direction.INGRESS})
    return frozenset({Direction.INGRESS, Direction.EGRESS} if spec.ingress else {Direction.EGRESS})


def read_network_set(source: Source, namespace: str | None) -> NetworkSet | None:
    """Read a NetworkSet, or with ``namespace`` None a GlobalNetworkSet; None when its shape is wrong."""
    model = source.check(NetworkSetModel)
    if model is None:
        return None
    labels = model.metadata.labels
    check_labels(source, ("metadata", "labels"), labels)
    if _NAMESPACE_LABEL in labels:
        source.refuse(
            ("metadata", "labels", _NAMESPACE_LABEL),
            "cannot be set",
            key=True,
            next_step="leave the label out: a NetworkSet gets it from its namespace",
        )
    # Calico skips an entry that is no network, and keeps the rest of the set.
    skipping = replace(source, errors=source.passed_over)
    nets = skipping.read_all((*_SPEC, "nets"), set_net, model.spec.nets)
    return NetworkSet(model.metadata.name, namespace, labels, nets, source.place())


def read_tier(source: Source, _: str | None) -> Tier | None:
    """Read a Tier, which may repeat a built-in one but not change it; None when its shape is wrong."""
    model = source.check(TierModel)
    if model is None:
        return None
    name, spec = model.metadata.name, model.spec
    source.read(("metadata", "name"), dns_label, name)
    if name in _BUILT_IN_TIERS:
        order, action = _BUILT_IN_TIERS[name]
        if spec.order != order:
            source.refuse((*_SPEC, "order"), "of a built-in tier is fixed", allowed=f"{order:.0f}")
        if spec.default_action != action:
            at = (*_SPEC, "defaultAction")
            source.refuse(at, "of a built-in tier is fixed", allowed=action)
    return Tier(name, spec.order, spec.default_action == "Pass", source.place())


def read_profile(source: Source, _: str | None) -> Profile | None:
    """Read a Profile; None when its shape is wrong."""
    model = source.check(ProfileModel)
    if model is None:
        return None
    spec = model.spec
    check_labels(source, (*_SPEC, "labelsToApply"), spec.labels_to_apply)
    return Profile(
        name=model.metadata.name,
        ingress=read_rules(source, (*_SPEC, "ingress"), spec.ingress, Direction.INGRESS),
        egress=read_rules(source, (*_SPEC, "egress"), spec.egress, Direction.EGRESS),
        labels_to_apply=spec.labels_to_apply,
        place=source.place(),
    )
