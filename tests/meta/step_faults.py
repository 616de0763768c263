# SPDX-License-Identifier: Apache-2.0
"""Faults of a dataplane that is right until something changes: each gets what is in force, and what should be next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from changes import change_endpoints, change_tiers, in_each_direction
from faults import Fault

from dataplanes.api import Direction, EndpointPolicy, IpSet, PolicyId, Snapshot, TierPolicies

__all__ = ["STEP_FAULTS"]


def _stale_members(before: Snapshot, after: Snapshot) -> Snapshot:
    def with_old(found: IpSet) -> IpSet:
        old = before.ip_sets.get(found.set_id, found)
        return replace(found, nets=found.nets | old.nets, ports=found.ports | old.ports)

    return replace(after, ip_sets={key: with_old(found) for key, found in after.ip_sets.items()})


def _overlapping_members_go(before: Snapshot, after: Snapshot) -> Snapshot:
    def cut(found: IpSet) -> IpSet:
        gone = before.ip_sets.get(found.set_id, found).nets - found.nets
        kept = (net for net in found.nets if not any(net.version == old.version and net.overlaps(old) for old in gone))
        return replace(found, nets=frozenset(kept))

    return replace(after, ip_sets={key: cut(found) for key, found in after.ip_sets.items()})


def _shrinking_sets_lose_all(before: Snapshot, after: Snapshot) -> Snapshot:
    def cut(found: IpSet) -> IpSet:
        old = before.ip_sets.get(found.set_id, found).nets
        return replace(found, nets=found.nets - old) if old - found.nets else found

    return replace(after, ip_sets={key: cut(found) for key, found in after.ip_sets.items()})


def _sets_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    return replace(after, ip_sets={key: before.ip_sets.get(key, found) for key, found in after.ip_sets.items()})


def _subjects_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    def as_before(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        return before.endpoints.get(endpoint.interface, endpoint)

    known = {key: policy for key, policy in before.policies.items() if key not in after.policies}
    return change_endpoints(as_before)(replace(after, policies={**known, **after.policies}))


def _one_direction(before: Snapshot, after: Snapshot, direction: Direction) -> Snapshot:
    """In ``direction`` what should be in force, in the other one what was."""
    new, old = (after, before) if direction is Direction.INGRESS else (before, after)

    def merged(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        tiers = (
            *(replace(tier, egress=()) for tier in _tiers(new, endpoint)),
            *(replace(tier, ingress=()) for tier in _tiers(old, endpoint)),
        )
        return replace(endpoint, tiers=tiers)

    half = change_endpoints(merged)(after)
    policies = {
        key: replace(
            new.policies.get(key, policy),
            ingress=new.policies[key].ingress if key in new.policies else (),
            egress=old.policies[key].egress if key in old.policies else (),
        )
        for key, policy in {**before.policies, **after.policies}.items()
    }
    return replace(half, policies=policies, ip_sets={**before.ip_sets, **after.ip_sets})


def _tiers(snapshot: Snapshot, endpoint: EndpointPolicy) -> tuple[TierPolicies, ...]:
    found = snapshot.endpoints.get(endpoint.interface)
    return () if found is None else found.tiers


def _removed_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    """Policies that are gone stay where they were, in front of those that are there."""
    gone = before.policies.keys() - after.policies.keys()

    def with_gone(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        stale = (
            in_each_direction(tier, lambda _direction, policies: [key for key in policies if key in gone])
            for tier in _tiers(before, endpoint)
        )
        return replace(endpoint, tiers=(*(tier for tier in stale if tier.ingress or tier.egress), *endpoint.tiers))

    return replace(
        change_endpoints(with_gone)(after),
        policies={**{key: before.policies[key] for key in gone}, **after.policies},
        ip_sets={**before.ip_sets, **after.ip_sets},
    )


def _known_rules_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    policies = {key: before.policies.get(key, policy) for key, policy in after.policies.items()}
    return replace(after, policies=policies, ip_sets={**before.ip_sets, **after.ip_sets})


Places = Mapping[tuple[str, str, Direction], tuple[PolicyId, ...]]


def _places(snapshot: Snapshot) -> Places:
    """The policies of each workload, tier and direction, in order."""
    return {
        (interface, tier.name, direction): tier.ingress if direction is Direction.INGRESS else tier.egress
        for interface, endpoint in snapshot.endpoints.items()
        for tier in endpoint.tiers
        for direction in Direction
    }


def _seen_first(policies: Iterable[PolicyId], old: tuple[PolicyId, ...]) -> list[PolicyId]:
    """Those that were there before, in the order in which they were, then the new ones."""
    rank = {key: number for number, key in enumerate(old)}
    return sorted(policies, key=lambda key: rank.get(key, len(old)))


def _in_each_tier(change: Callable[[EndpointPolicy, TierPolicies], TierPolicies]) -> Callable[[Snapshot], Snapshot]:
    return change_endpoints(
        lambda endpoint, _snapshot: replace(endpoint, tiers=tuple(change(endpoint, tier) for tier in endpoint.tiers))
    )


def _order_stays(before: Snapshot, after: Snapshot) -> Snapshot:
    """Policies that were there keep their order among each other, and new ones come last."""
    places = _places(before)

    def kept(endpoint: EndpointPolicy, tier: TierPolicies) -> TierPolicies:
        def change(direction: Direction, policies: tuple[PolicyId, ...]) -> Iterable[PolicyId]:
            return _seen_first(policies, places.get((endpoint.interface, tier.name, direction), ()))

        return in_each_direction(tier, change)

    return _in_each_tier(kept)(after)


def _ties_by_creation(before: Snapshot, after: Snapshot) -> Snapshot:
    """Where the order may be that of names, which a tie falls back on, what is new comes last.

    A snapshot does not tell orders; policies that stand in another order than that of their names are no tie.
    """
    places = _places(before)

    def sorted_ties(endpoint: EndpointPolicy, tier: TierPolicies) -> TierPolicies:
        def change(direction: Direction, policies: tuple[PolicyId, ...]) -> Iterable[PolicyId]:
            names = [f"{key.name}/{key.namespace}/{key.kind}" for key in policies]
            old = places.get((endpoint.interface, tier.name, direction), ())
            return _seen_first(policies, old) if names == sorted(names) else policies

        return in_each_direction(tier, change)

    return _in_each_tier(sorted_ties)(after)


def _defaults_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    known = {tier.name: tier.pass_by_default for end in before.endpoints.values() for tier in end.tiers}
    return change_tiers(lambda tier: replace(tier, pass_by_default=known.get(tier.name, tier.pass_by_default)))(after)


STEP_FAULTS = (
    Fault(
        "never-updates",
        "Enforces what it is told first for ever.",
        "control.deny-all",
        step=lambda before, _after: before,
    ),
    Fault(
        "stale-set-members",
        "Adds to its sets and never takes away.",
        "network-set.update.removed-members-leave",
        step=_stale_members,
    ),
    Fault(
        "overlapping-members-go",
        "Takes from a set, with a member, all those that overlap it.",
        "network-set.update.contained-net-kept",
        step=_overlapping_members_go,
    ),
    Fault(
        "shrinking-sets-lose-all",
        "Takes from a set, with one member, all that were there before.",
        "network-set.update.overlap-kept",
        step=_shrinking_sets_lose_all,
    ),
    Fault(
        "sets-stay",
        "Takes the members of a set for what they were when it first saw it.",
        "service.update.endpoint-moves",
        step=_sets_stay,
    ),
    Fault(
        "subjects-stay",
        "Goes on asking a policy for those whom it selected first.",
        "update.policy.subject-changes",
        step=_subjects_stay,
    ),
    Fault(
        "half-update-ingress",
        "Brings ingress up to date and leaves egress as it was.",
        "update.policy.both-directions-change",
        step=lambda before, after: _one_direction(before, after, Direction.INGRESS),
    ),
    Fault(
        "half-update-egress",
        "Brings egress up to date and leaves ingress as it was.",
        "update.policy.both-directions-change",
        step=lambda before, after: _one_direction(before, after, Direction.EGRESS),
    ),
    Fault(
        "removed-policy-stays",
        "Goes on enforcing a policy that is gone.",
        "update.policy.removed-opens",
        step=_removed_stay,
    ),
    Fault(
        "known-rules-stay",
        "Takes the rules of a policy for what they were when it first saw it.",
        "update.policy.both-directions-change",
        step=_known_rules_stay,
    ),
    Fault(
        "order-stays",
        "Keeps policies in the order in which it first saw them.",
        "update.policy.order-swapped",
        step=_order_stays,
    ),
    Fault(
        "ties-by-creation",
        "Asks policies of equal order in the order in which they were made.",
        "update.policy.added-before-equals",
        step=_ties_by_creation,
    ),
    Fault(
        "tier-default-stays",
        "Takes the default of a tier for what it was when it first saw it.",
        "tier.default.live-switch",
        step=_defaults_stay,
    ),
)
