# SPDX-License-Identifier: Apache-2.0
"""The order in which tiers and policies are asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from lab.policy.compile.forms import PolicyForm
from lab.policy.resources import Tier

__all__ = ["BUILT_IN_TIERS", "all_tiers", "policy_order", "tier_order"]

BUILT_IN_TIERS = (
    Tier("kube-admin", 1_000, pass_by_default=True),
    Tier("default", 1_000_000, pass_by_default=False),
    Tier("kube-baseline", 10_000_000, pass_by_default=True),
)
"""Tiers that every cluster has; their orders and default actions are fixed."""


def all_tiers(tiers: Iterable[Tier]) -> dict[str, Tier]:
    """Every tier that exists, by name; nothing that a file says changes a built-in one."""
    return {tier.name: tier for tier in (*tiers, *BUILT_IN_TIERS)}


def _position(order: float | None) -> float:
    return inf if order is None else order


def tier_order(name: str, tiers: Mapping[str, Tier]) -> tuple[bool, float, str]:
    """Sorts tiers: those that exist by order (absent last) and name, then those that policies merely name."""
    tier = tiers.get(name)
    return tier is None, _position(tier.order if tier else None), name


def policy_order(policy: PolicyForm) -> tuple[float, bytes]:
    """Sorts the policies of a tier: by order (absent last), ties by name, namespace and kind as one text, bytewise."""
    policy_id = policy.policy_id
    text = f"{policy_id.name}/{policy_id.namespace}/{policy_id.kind}"
    return _position(policy.order), text.encode(errors="surrogatepass")
