# SPDX-License-Identifier: Apache-2.0
"""The four places on a packet's way at which policy is asked, and which policies are asked at each."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from lab.oracle.policies import JudgedPolicy
from lab.oracle.tiers import JudgedTier

__all__ = ["Hook", "is_asked", "tiers_at"]


class Hook(Enum):
    """Workloads are asked at the first alone, host endpoints at all of them (Felix: rules/endpoints.go)."""

    NORMAL = "normal"
    """What begins or ends at a workload or on a node."""
    FORWARD = "apply-on-forward"
    """What passes through a node."""
    PRE_DNAT = "pre-dnat"
    """What comes to a node, as it was addressed."""
    UNTRACKED = "untracked"
    """What comes to a node or leaves it, ahead of connection tracking."""


def tiers_at(tiers: tuple[JudgedTier, ...], hook: Hook) -> tuple[JudgedTier, ...]:
    """The tiers with those of their policies that are asked at a hook.

    A policy with applyOnForward is an ordinary one as well. Ahead of DNAT and of connection tracking no tier
    denies at its end: what no policy decides there goes on to the ordinary ones.
    """
    early = hook in {Hook.PRE_DNAT, Hook.UNTRACKED}
    return tuple(
        replace(
            tier,
            pass_by_default=early or tier.pass_by_default,
            policies=tuple(policy for policy in tier.policies if is_asked(policy, hook)),
        )
        for tier in tiers
    )


def is_asked(policy: JudgedPolicy, hook: Hook) -> bool:
    """Whether a policy is asked at a hook, of an endpoint that it selects."""
    ordinary = not policy.do_not_track and not policy.pre_dnat
    match hook:
        case Hook.NORMAL:
            return ordinary
        case Hook.FORWARD:
            return ordinary and policy.apply_on_forward
        case Hook.PRE_DNAT:
            return policy.pre_dnat
        case Hook.UNTRACKED:
            return policy.do_not_track
