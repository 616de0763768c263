# SPDX-License-Identifier: Apache-2.0
"""Faults of a dataplane that does not follow when labels, ports, profiles, tiers or workloads change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from changes import change_endpoints
from faults import Fault

from dataplanes.api import EndpointPolicy, IpSet, Snapshot

__all__ = ["CLUSTER_FAULTS"]

_NAMESPACES, _ACCOUNTS = "pcns.", "pcsa."
"""How selectors speak of the labels of a namespace and of a service account."""


def _members_stay(of: Callable[[IpSet], bool]) -> Callable[[Snapshot, Snapshot], Snapshot]:
    """Sets of a kind keep the members that they had first."""

    def step(before: Snapshot, after: Snapshot) -> Snapshot:
        kept = {key: before.ip_sets.get(key, found) if of(found) else found for key, found in after.ip_sets.items()}
        return replace(after, ip_sets=kept)

    return step


def _of_labels(found: IpSet) -> bool:
    return found.kind == "net" and _NAMESPACES not in found.about and _ACCOUNTS not in found.about


def _gone_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    """Workloads that are gone keep all that they had."""
    return replace(
        after,
        endpoints={**before.endpoints, **after.endpoints},
        policies={**before.policies, **after.policies},
        profiles={**before.profiles, **after.profiles},
        ip_sets={**before.ip_sets, **after.ip_sets},
    )


def _late_ones_wait(before: Snapshot, after: Snapshot) -> Snapshot:
    """Workloads that come later than the first are not taken up."""
    return replace(after, endpoints={key: found for key, found in after.endpoints.items() if key in before.endpoints})


def _tier_order_stays(before: Snapshot, after: Snapshot) -> Snapshot:
    def as_before(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        old = before.endpoints.get(endpoint.interface, endpoint)
        rank = {tier.name: number for number, tier in enumerate(old.tiers)}
        return replace(endpoint, tiers=tuple(sorted(endpoint.tiers, key=lambda tier: rank.get(tier.name, len(rank)))))

    return change_endpoints(as_before)(after)


def _profile_rules_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    profiles = {key: before.profiles.get(key, found) for key, found in after.profiles.items()}
    return replace(after, profiles=profiles, ip_sets={**before.ip_sets, **after.ip_sets})


def _profile_lists_stay(before: Snapshot, after: Snapshot) -> Snapshot:
    def as_before(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        return replace(endpoint, profiles=before.endpoints.get(endpoint.interface, endpoint).profiles)

    return change_endpoints(as_before)(replace(after, profiles={**before.profiles, **after.profiles}))


CLUSTER_FAULTS = (
    Fault(
        "labels-stay",
        "Takes a workload's labels for what they were at first.",
        "update.workload.labels-change",
        step=_members_stay(_of_labels),
    ),
    Fault(
        "namespace-labels-stay",
        "Takes a namespace's labels for what they were at first.",
        "update.namespace.labels-change",
        step=_members_stay(lambda found: _NAMESPACES in found.about),
    ),
    Fault(
        "account-labels-stay",
        "Takes a service account's labels, and who runs under it, for what they were at first.",
        "update.service-account.labels-change",
        step=_members_stay(lambda found: _ACCOUNTS in found.about),
    ),
    Fault(
        "port-names-stay",
        "Takes a port's name for the number that it stood for at first.",
        "update.workload.named-port-changes",
        step=_members_stay(lambda found: found.kind == "port"),
    ),
    Fault(
        "gone-workload-stays",
        "Leaves the rules of a workload in force that is gone.",
        "update.workload.comes-and-goes",
        step=_gone_stay,
    ),
    Fault(
        "late-workload-waits",
        "Takes up no workload that comes later than the first.",
        "update.workload.comes-and-goes",
        step=_late_ones_wait,
    ),
    Fault(
        "tier-order-stays",
        "Asks tiers in the order in which it saw them first.",
        "update.tier.order-swapped",
        step=_tier_order_stays,
    ),
    Fault(
        "profile-rules-stay",
        "Takes the rules of a profile for what they were when it first saw it.",
        "update.profile.rules-change",
        step=_profile_rules_stay,
    ),
    Fault(
        "profile-list-stays",
        "Asks the profiles that a workload had at first.",
        "update.workload.profiles-change",
        step=_profile_lists_stay,
    ),
)
