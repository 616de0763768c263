# SPDX-License-Identifier: Apache-2.0
"""Resources that nobody uses: tiers, network sets and profiles."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import About, Finding
from lab.lint.scene import Scene
from lab.oracle.peers import PartyTest, given, party_test
from lab.oracle.policies import ADMIN_TIER, BASELINE_TIER, DEFAULT_TIER
from lab.oracle.world import profile_names
from lab.policy.resources import CalicoPolicy, Rule
from lab.policy.selector import Selector

__all__ = ["unused_profiles", "unused_sets", "unused_tiers"]

_BUILT_IN = {ADMIN_TIER, DEFAULT_TIER, BASELINE_TIER}


def unused_tiers(scene: Scene) -> Iterator[Finding]:
    """Tiers without a policy, staged ones counted; the built-in ones are always there."""
    used = _BUILT_IN | {policy.tier for policy in scene.resources.policies if isinstance(policy, CalicoPolicy)}
    for tier in scene.resources.tiers:
        if tier.name not in used:
            who = About("Tier", None, tier.name)
            yield Finding("lint.tier-unused", "info", tier.place, who, "no policy is in the tier, so it does nothing")


def unused_profiles(scene: Scene) -> Iterator[Finding]:
    """Profiles that no workload and no host endpoint has, and no NetworkSet takes labels from."""
    used = {name for workload in scene.topology.workloads.values() for name in profile_names(workload)}
    used |= {name for endpoint in scene.resources.host_endpoints for name in endpoint.profiles}
    used |= {f"kns.{found.namespace}" for found in scene.resources.network_sets if found.namespace is not None}
    for profile in scene.resources.profiles:
        if profile.name not in used:
            who = About("Profile", None, profile.name)
            message = "no workload and no host endpoint has the profile, so it does nothing"
            yield Finding("lint.profile-unused", "info", profile.place, who, message)


def unused_sets(scene: Scene) -> Iterator[Finding]:
    """Network sets that no selector of a rule matches, be it to allow or to exclude them."""
    if not scene.world.sets:
        return
    tests, negatives = _tests(scene)
    for found, party in scene.world.sets:
        if any(test.matches(party) for test in tests) or any(one.matches(party.labels) for one in negatives):
            continue
        kind = "GlobalNetworkSet" if found.namespace is None else "NetworkSet"
        who = About(kind, found.namespace, found.name)
        message = "no rule's selector matches the set, so it does nothing"
        yield Finding("lint.network-set-unused", "info", found.place, who, message)


def _tests(scene: Scene) -> tuple[dict[PartyTest, None], dict[Selector, None]]:
    """Every distinct thing that rules ask of a party, and every notSelector."""
    tests: dict[PartyTest, None] = {}
    negatives: dict[Selector, None] = {}
    for written in scene.rules():
        if not isinstance(written.rule, Rule):
            continue
        namespace = written.owner.namespace if isinstance(written.owner, CalicoPolicy) else None
        for side in (written.rule.source, written.rule.destination):
            test, negative = party_test(side, namespace), given(side.not_selector)
            if test is not None:
                tests[test] = None
            if negative is not None:
                negatives[negative] = None
    return tests, negatives
