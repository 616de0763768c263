# SPDX-License-Identifier: Apache-2.0
"""Tiers, policies and profiles as chains.

A policy's chain answers by two mark bits and is shared by all endpoints and all hooks, as the chain of a tier is by
all that have the same policies in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dataplanes.api import Action, DataplaneError, Direction, PolicyId, SnapshotRule, TierPolicies
from dataplanes.nftables.matches import rules_of
from dataplanes.nftables.names import ACCEPTED, DECIDED, PASSED, digest, named
from dataplanes.nftables.parts import Chain, Scene
from dataplanes.nftables.words import (
    CLEAR_MARK,
    COUNT,
    DROP,
    RETURN,
    Json,
    Rule,
    has_bits,
    jump,
    rule,
    set_bits,
)

__all__ = ["ALLOW", "PolicyRules", "ProfileRules", "TierOfPolicies", "ask_profiles", "ask_tiers", "policies_of"]

ALLOW: Final = (COUNT, set_bits(ACCEPTED), RETURN)
"""How a rule accepts."""
_PASS: Final = (COUNT, set_bits(PASSED), RETURN)
_DENY: Final = (COUNT, DROP)
_LOG: Final = (COUNT, {"log": {"prefix": "policylab: "}})
# Pass in a profile: this one has nothing to say, the next is asked.
_NEXT_PROFILE: Final = (COUNT, RETURN)


def policies_of(tier: TierPolicies, direction: Direction) -> tuple[PolicyId, ...]:
    """The policies of a tier in one direction."""
    return tier.ingress if direction is Direction.INGRESS else tier.egress


def ask_tiers(
    tiers: Sequence[TierPolicies],
    direction: Direction,
    scene: Scene,
    *,
    on_accept: Json = RETURN,
    always_pass: bool = False,
) -> Iterator[Rule]:
    """Rules that ask one tier after another, up to the first that accepts; a tier that denies drops.

    ``always_pass``: no tier drops what none of its policies decided.
    """
    asked = [tier for tier in tiers if policies_of(tier, direction)]
    for number, tier in enumerate(asked):
        if number:
            yield rule(CLEAR_MARK)
        passes = always_pass or tier.pass_by_default
        yield rule(jump(scene.use(TierOfPolicies(tier.name, policies_of(tier, direction), direction, passes))))
        yield rule(has_bits(ACCEPTED), on_accept)


def ask_profiles(names: Sequence[str], direction: Direction, scene: Scene) -> Iterator[Rule]:
    """Rules that ask one profile after another, and drop what none of them accepts."""
    for name in names:
        yield rule(jump(scene.use(ProfileRules(name, direction))))
        yield rule(has_bits(ACCEPTED), RETURN)
    yield rule(COUNT, DROP, about="no policy and no profile accepted")


@dataclass(frozen=True, slots=True)
class TierOfPolicies:
    """A tier with just these policies; which are they is part of its name."""

    tier: str
    policies: tuple[PolicyId, ...]
    direction: Direction
    passes: bool

    @property
    def name(self) -> str:
        """``tier-ingress/TIER-HASH``."""
        return named(f"tier-{self.direction.value}", f"{self.tier}-{digest(repr((self.policies, self.passes)))}")

    def define(self, scene: Scene) -> Chain:
        """It ends with the first policy that decides."""
        rules: list[Rule] = []
        for policy_id in self.policies:
            rules += [
                rule(jump(scene.use(PolicyRules(policy_id, self.direction)))),
                rule(has_bits(DECIDED), RETURN),
            ]
        if not self.passes:
            rules.append(rule(COUNT, DROP, about=f"end of tier {self.tier}"))
        return Chain(self.name, f"tier {self.tier} {self.direction.value}", tuple(rules))


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """One direction of a policy."""

    policy_id: PolicyId
    direction: Direction

    @property
    def name(self) -> str:
        """``policy-ingress/KIND/NAMESPACE/NAME``."""
        return named(f"policy-{self.direction.value}", str(self.policy_id))

    def define(self, scene: Scene) -> Chain:
        """Its rules; raises DataplaneError when the snapshot has no such policy."""
        policy = scene.snapshot.policies.get(self.policy_id)
        if policy is None:
            raise DataplaneError(
                "an endpoint names a policy that the snapshot does not hold", value=str(self.policy_id)
            )
        rules = policy.ingress if self.direction is Direction.INGRESS else policy.egress
        owner = str(self.policy_id)
        written = _written(rules, owner, self.direction, scene, _PASS)
        return Chain(self.name, f"policy {owner} {self.direction.value}", tuple(written))


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """One direction of a profile, be there one of that name or not."""

    profile: str
    direction: Direction

    @property
    def name(self) -> str:
        """``profile-ingress/NAME``."""
        return named(f"profile-{self.direction.value}", self.profile)

    def define(self, scene: Scene) -> Chain:
        """Its rules; one that is missing drops everything."""
        about = f"profile {self.profile} {self.direction.value}"
        profile = scene.snapshot.profiles.get(self.profile)
        if profile is None:
            return Chain(self.name, about, (rule(COUNT, DROP, about=f"profile {self.profile} is missing"),))
        rules = profile.ingress if self.direction is Direction.INGRESS else profile.egress
        written = _written(rules, f"Profile/{self.profile}", self.direction, scene, _NEXT_PROFILE)
        return Chain(self.name, about, tuple(written))


def _written(
    rules: Sequence[SnapshotRule], owner: str, direction: Direction, scene: Scene, on_pass: Sequence[Json]
) -> Iterator[Rule]:
    then = {Action.ALLOW: ALLOW, Action.DENY: _DENY, Action.PASS: on_pass, Action.LOG: _LOG}
    for position, found in enumerate(rules):
        about = f"{owner} {direction.value} rule {found.origin.index if found.origin else position}"
        yield from rules_of(found, scene, then[found.action], about)
