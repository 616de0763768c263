# SPDX-License-Identifier: Apache-2.0
"""What each staged policy would change, taken alone: what it puts in, what it takes away, and the tiers that gives."""

from __future__ import annotations

from dataclasses import dataclass

from lab.oracle.policies import JudgedPolicy, judged_policy
from lab.oracle.staged import identity, staged_action, unstaged
from lab.oracle.tiers import JudgedTier, ordered_tiers
from lab.oracle.world import Party
from lab.policy.resources import Direction, Policy, Resources, StagedAction, Tier

__all__ = ["Proposal", "proposals"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One staged policy: ``judged`` is how it would be enforced, ``counterpart`` the enforced one of its name."""

    policy: Policy
    action: StagedAction
    judged: JudgedPolicy
    counterpart: JudgedPolicy | None
    enforced: tuple[JudgedPolicy, ...]
    defined: tuple[Tier, ...]

    @property
    def added(self) -> JudgedPolicy | None:
        """What would be enforced because of it."""
        return self.judged if self.action is StagedAction.SET else None

    @property
    def removed(self) -> JudgedPolicy | None:
        """What would be enforced no longer."""
        return self.counterpart if self.action in {StagedAction.SET, StagedAction.DELETE} else None

    def concerns(self, direction: Direction, party: Party) -> bool:
        """Whether it selects an end, or is about an enforced policy that does; one to delete selects nobody itself."""
        about = (None if self.action is StagedAction.DELETE else self.judged, self.removed)
        return any(policy is not None and direction in policy.rules and policy.selects(party) for policy in about)

    def tiers(self) -> tuple[JudgedTier, ...]:
        """All tiers, were this proposal alone enforced."""
        kept = [policy for policy in self.enforced if policy is not self.removed]
        return ordered_tiers(kept if self.added is None else [*kept, self.added], self.defined)


def proposals(resources: Resources, tiers: tuple[JudgedTier, ...]) -> tuple[Proposal, ...]:
    """The staged policies of some resources, in their order; ``tiers`` are those of what is enforced."""
    enforced = tuple(policy for tier in tiers for policy in tier.policies)
    named = {(policy.kind, policy.namespace, policy.name): policy for policy in enforced}
    return tuple(
        Proposal(
            policy, action, judged_policy(unstaged(policy)), named.get(identity(policy)), enforced, resources.tiers
        )
        for policy in resources.policies
        if (action := staged_action(policy)) is not None
    )
