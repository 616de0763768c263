# SPDX-License-Identifier: Apache-2.0
"""Tiers in the order in which they are asked, and their policies in theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from lab.errors import Place
from lab.oracle.policies import ADMIN_TIER, BASELINE_TIER, DEFAULT_TIER, JudgedPolicy, judged_policy
from lab.oracle.staged import enforced
from lab.policy.resources import Resources, Tier

__all__ = ["JudgedTier", "judged_tiers", "ordered_tiers"]

_BUILT_IN = (
    Tier(ADMIN_TIER, 1_000, pass_by_default=True),
    Tier(DEFAULT_TIER, 1_000_000, pass_by_default=False),
    Tier(BASELINE_TIER, 10_000_000, pass_by_default=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedTier:
    """A tier with its policies in order. ``exists`` is false where policies name a tier that nobody defined."""

    name: str
    pass_by_default: bool
    place: Place | None
    exists: bool
    policies: tuple[JudgedPolicy, ...]


def judged_tiers(resources: Resources) -> tuple[JudgedTier, ...]:
    """All tiers in order, with the policies that are enforced."""
    return ordered_tiers(map(judged_policy, enforced(resources).policies), resources.tiers)


def ordered_tiers(policies: Iterable[JudgedPolicy], tiers: Iterable[Tier]) -> tuple[JudgedTier, ...]:
    """Those tiers that exist, then missing ones, which end in a deny (Felix: calc/policy_sorter.go)."""
    defined = {tier.name: tier for tier in (*_BUILT_IN, *tiers)}
    members: dict[str, list[JudgedPolicy]] = {name: [] for name in defined}
    for policy in policies:
        members.setdefault(policy.tier, []).append(policy)
    found = [_tier(name, defined.get(name), policies) for name, policies in members.items()]
    orders = {name: inf if tier.order is None else tier.order for name, tier in defined.items()}
    return tuple(sorted(found, key=lambda tier: (not tier.exists, orders.get(tier.name, inf), tier.name.encode())))


def _tier(name: str, tier: Tier | None, policies: list[JudgedPolicy]) -> JudgedTier:
    ordered = tuple(sorted(policies, key=lambda policy: policy.rank))
    if tier is None:
        return JudgedTier(name, pass_by_default=False, place=None, exists=False, policies=ordered)
    return JudgedTier(name, tier.pass_by_default, tier.place, exists=True, policies=ordered)
