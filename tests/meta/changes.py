# SPDX-License-Identifier: Apache-2.0
"""How a part of a snapshot is changed throughout it; faults are made of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from dataplanes.api import (
    Direction,
    EndpointPolicy,
    IpSet,
    PolicyId,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)

__all__ = [
    "change_endpoints",
    "change_lists",
    "change_policy_rules",
    "change_rules",
    "change_sets",
    "change_sides",
    "change_tiers",
    "in_each_direction",
    "in_each_policy",
]

Change = Callable[[Snapshot], Snapshot]
Owner = TypeVar("Owner", SnapshotPolicy, SnapshotProfile)
Rules = tuple[SnapshotRule, ...]


def in_each_policy(change: Callable[[Rules, Direction, Snapshot], Iterable[SnapshotRule]]) -> Change:
    """Change the rules of each direction of each policy; those of profiles stay."""

    def changed(snapshot: Snapshot) -> Snapshot:
        policies = {key: _changed(policy, change, snapshot) for key, policy in snapshot.policies.items()}
        return replace(snapshot, policies=policies)

    return changed


def _changed(
    owner: Owner, change: Callable[[Rules, Direction, Snapshot], Iterable[SnapshotRule]], snapshot: Snapshot
) -> Owner:
    return replace(
        owner,
        ingress=tuple(change(owner.ingress, Direction.INGRESS, snapshot)),
        egress=tuple(change(owner.egress, Direction.EGRESS, snapshot)),
    )


def change_policy_rules(change: Callable[[SnapshotRule], Iterable[SnapshotRule]]) -> Change:
    """Put any number of rules in the place of each rule of each policy; those of profiles stay."""
    return in_each_policy(lambda rules, _direction, _snapshot: (new for rule in rules for new in change(rule)))


def change_rules(change: Callable[[SnapshotRule], SnapshotRule]) -> Change:
    """Change each rule, of policies and profiles."""

    def each(rules: Rules, _direction: Direction, _snapshot: Snapshot) -> Iterable[SnapshotRule]:
        return map(change, rules)

    def changed(snapshot: Snapshot) -> Snapshot:
        profiles = {key: _changed(profile, each, snapshot) for key, profile in snapshot.profiles.items()}
        return replace(in_each_policy(each)(snapshot), profiles=profiles)

    return changed


def change_sides(change: Callable[[SnapshotSide], SnapshotSide]) -> Change:
    """Change source and destination of each rule."""
    return change_rules(lambda rule: replace(rule, source=change(rule.source), destination=change(rule.destination)))


def change_endpoints(change: Callable[[EndpointPolicy, Snapshot], EndpointPolicy]) -> Change:
    """Change what holds for each workload of the node."""

    def changed(snapshot: Snapshot) -> Snapshot:
        endpoints = {key: change(endpoint, snapshot) for key, endpoint in snapshot.endpoints.items()}
        return replace(snapshot, endpoints=endpoints)

    return changed


def change_tiers(change: Callable[[TierPolicies], TierPolicies]) -> Change:
    """Change each tier of each workload."""
    return change_endpoints(lambda endpoint, _snapshot: replace(endpoint, tiers=tuple(map(change, endpoint.tiers))))


def change_lists(change: Callable[[tuple[PolicyId, ...]], Iterable[PolicyId]]) -> Change:
    """Change the list of policies of each direction of each tier of each workload."""
    return change_tiers(lambda tier: in_each_direction(tier, lambda _direction, policies: change(policies)))


def in_each_direction(
    tier: TierPolicies, change: Callable[[Direction, tuple[PolicyId, ...]], Iterable[PolicyId]]
) -> TierPolicies:
    """Change the list of policies of each direction of a tier."""
    return replace(
        tier,
        ingress=tuple(change(Direction.INGRESS, tier.ingress)),
        egress=tuple(change(Direction.EGRESS, tier.egress)),
    )


def change_sets(change: Callable[[IpSet], IpSet]) -> Change:
    """Change each set."""
    return lambda snapshot: replace(snapshot, ip_sets={key: change(found) for key, found in snapshot.ip_sets.items()})
