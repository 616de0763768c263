# SPDX-License-Identifier: Apache-2.0
"""AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy: checked as their CRDs check them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.policy.read.admin_models import (
    AdminNetworkPolicyModel,
    AdminSpec,
    BaselineAdminNetworkPolicyModel,
    BaselineSpec,
    ClusterNetworkPolicyModel,
    ClusterSpec,
    RuleModel,
)
from lab.policy.read.admin_peers import PEERS, read_peer, read_subject
from lab.policy.read.admin_ports import read_port, read_protocol
from lab.policy.read.source import Path, Source
from lab.policy.resources import Action, AdminPeer, AdminPolicy, AdminPolicyKind, AdminPort, AdminRule, Direction
from lab.schema import suggestion

__all__ = ["read_admin_policy", "read_baseline_policy", "read_cluster_policy"]

_Spec = AdminSpec | BaselineSpec | ClusterSpec

_SPEC: Path = ("spec",)
_MAX_PRIORITY = 1000
_MAX_ENTRIES = 100
"""The most rules of a direction, peers of a rule and ports of a rule."""
_MAX_RULE_NAME = 100
_BASELINE_NAME = "default"


@dataclass(frozen=True, slots=True)
class _Flavour:
    """In what the rules of the three kinds differ."""

    kind: AdminPolicyKind
    actions: Mapping[str, Action]
    ports: str
    peers: frozenset[str]


_ADMIN = _Flavour(
    "AdminNetworkPolicy",
    {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="ports",
    peers=PEERS | {"domainNames"},
)
_BASELINE = _Flavour(
    "BaselineAdminNetworkPolicy",
    {"Allow": Action.ALLOW, "Deny": Action.DENY},
    ports="ports",
    peers=PEERS,
)
_CLUSTER = _Flavour(
    "ClusterNetworkPolicy",
    {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="protocols",
    peers=PEERS | {"domainNames"},
)


def read_admin_policy(source: Source, _: str | None) -> AdminPolicy | None:
    """Read an AdminNetworkPolicy; None when its shape is wrong."""
    model = source.check(AdminNetworkPolicyModel)
    return _policy(source, _ADMIN, model.metadata.name, model.spec) if model else None


def read_baseline_policy(source: Source, _: str | None) -> AdminPolicy | None:
    """Read the BaselineAdminNetworkPolicy, of which there is but one; None when its shape is wrong."""
    model = source.check(BaselineAdminNetworkPolicyModel)
    if model is None:
        return None
    name = model.metadata.name
    if name != _BASELINE_NAME:
        source.refuse(("metadata", "name"), "is not the name of the one there can be", allowed=_BASELINE_NAME)
    return _policy(source, _BASELINE, name, model.spec)


def read_cluster_policy(source: Source, _: str | None) -> AdminPolicy | None:
    """Read a ClusterNetworkPolicy; None when its shape is wrong."""
    model = source.check(ClusterNetworkPolicyModel)
    return _policy(source, _CLUSTER, model.metadata.name, model.spec) if model else None


def _policy(source: Source, flavour: _Flavour, name: str, spec: _Spec) -> AdminPolicy:
    return AdminPolicy(
        kind=flavour.kind,
        name=name,
        baseline=flavour is _BASELINE or (isinstance(spec, ClusterSpec) and spec.tier == "Baseline"),
        priority=0 if isinstance(spec, BaselineSpec) else _priority(source, spec.priority),
        subject=read_subject(source, (*_SPEC, "subject"), spec.subject),
        ingress=_rules(source, flavour, Direction.INGRESS, spec.ingress),
        egress=_rules(source, flavour, Direction.EGRESS, spec.egress),
        place=source.place(),
    )


def _priority(source: Source, priority: int) -> int:
    if not 0 <= priority <= _MAX_PRIORITY:
        source.refuse((*_SPEC, "priority"), "is out of range", allowed=f"0 to {_MAX_PRIORITY}")
    return priority


def _rules(
    source: Source, flavour: _Flavour, direction: Direction, models: Sequence[RuleModel]
) -> tuple[AdminRule, ...]:
    path = (*_SPEC, direction.value)
    source.limit(path, models, _MAX_ENTRIES)
    return tuple(_rule(source, (*path, index), flavour, direction, model) for index, model in enumerate(models))


def _rule(source: Source, path: Path, flavour: _Flavour, direction: Direction, model: RuleModel) -> AdminRule:
    peers = (*path, "from" if direction is Direction.INGRESS else "to")
    source.limit(peers, model.peers, _MAX_ENTRIES)
    if not model.peers:
        source.refuse(peers, "has no entry, and needs one", key=True)
    if len(model.name) > _MAX_RULE_NAME:
        source.refuse((*path, "name"), f"has {len(model.name)} characters", allowed=f"at most {_MAX_RULE_NAME}")
    action = _action(source, (*path, "action"), flavour, model.action)
    return AdminRule(
        name=model.name,
        action=action,
        peers=tuple(
            _peer(source, (*peers, index), read_peer(source, (*peers, index), peer, direction, flavour.peers), action)
            for index, peer in enumerate(model.peers)
        ),
        ports=_ports(source, (*path, flavour.ports), flavour, model),
        place=source.place(path),
    )


def _peer(source: Source, path: Path, peer: AdminPeer, action: Action) -> AdminPeer:
    if peer.domain_names is not None and action is not Action.ALLOW:
        source.refuse((*path, "domainNames"), "can stand only in rules that let traffic pass", key=True)
    return peer


def _action(source: Source, path: Path, flavour: _Flavour, name: str) -> Action:
    if name not in flavour.actions:
        near = suggestion(name, flavour.actions)
        source.refuse(path, "is not allowed", allowed=", ".join(flavour.actions), next_step=near)
    return flavour.actions.get(name, Action.DENY)


def _ports(source: Source, path: Path, flavour: _Flavour, model: RuleModel) -> tuple[AdminPort, ...]:
    """The ports or protocols of a rule; none given are all of them, which a ClusterNetworkPolicy has one way to say."""
    if model.ports is None:
        return ()
    source.limit(path, model.ports, _MAX_ENTRIES)
    if not model.ports and flavour is _CLUSTER:
        source.refuse(path, "has no entry, and needs one", key=True, next_step="leave it out to mean every packet")
    read = read_protocol if flavour is _CLUSTER else read_port
    return tuple(read(source, (*path, index), port) for index, port in enumerate(model.ports))
