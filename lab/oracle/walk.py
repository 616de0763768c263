# SPDX-License-Identifier: Apache-2.0
"""The plain walk over tiers, policies, rules and profiles that explains a verdict (semantics 4.4, 4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.oracle.explain import (
    AskedDirection,
    AskedPolicy,
    AskedProfile,
    AskedRule,
    AskedTier,
    Explanation,
    TierOutcome,
)
from lab.oracle.packet import Packet
from lab.oracle.profiles import JudgedProfile, missing_verdict, no_profile_verdict, profile_verdict
from lab.oracle.question import Question, path_verdict, settled_verdict
from lab.oracle.rules import JudgedRule
from lab.oracle.table import rule_verdict, tier_end_verdict
from lab.oracle.tiers import JudgedTier
from lab.oracle.verdict import Verdict
from lab.oracle.world import Party
from lab.policy.resources import Action, Direction
from lab.topology import Flow

__all__ = ["Walker"]


@dataclass(frozen=True, slots=True)
class Walker:
    """Explains flows under one set of tiers and profiles, slowly and completely."""

    tiers: tuple[JudgedTier, ...]
    profiles: Mapping[str, JudgedProfile]

    def explain(self, flow: Flow, question: Question) -> Explanation:
        """Both directions, the second one even if the packet has died in the first."""
        settled = settled_verdict(question)
        alive = settled is None
        walked: list[AskedDirection] = []
        for direction, party in question.asked:
            walked.append(self._direction(direction, party, question.packet, reached=alive))
            alive = alive and walked[-1].verdict.allowed
        verdict = settled or path_verdict([asked.verdict for asked in walked])
        ends = question.packet.source.address, question.packet.destination.address
        return Explanation(flow, *ends, verdict, tuple(walked))

    def _direction(self, direction: Direction, party: Party, packet: Packet, *, reached: bool) -> AskedDirection:
        tiers: list[AskedTier] = []
        for tier in self.tiers:
            walked, verdict = _walk_tier(tier, direction, party, packet)
            tiers.append(walked)
            if verdict is not None:
                return AskedDirection(direction, party.title, reached, tuple(tiers), (), verdict)
        profiles, verdict = self._walk_profiles(direction, party, packet)
        return AskedDirection(direction, party.title, reached, tuple(tiers), profiles, verdict)

    def _walk_profiles(
        self, direction: Direction, party: Party, packet: Packet
    ) -> tuple[tuple[AskedProfile, ...], Verdict]:
        walked: list[AskedProfile] = []
        for name in party.profiles:
            profile = self.profiles.get(name)
            if profile is None:
                walked.append(AskedProfile(name, exists=False, place=None, rules=()))
                return tuple(walked), missing_verdict(direction, name)
            rules, decisive = _walk_rules(profile.rules[direction], packet)
            walked.append(AskedProfile(name, exists=True, place=profile.place, rules=rules))
            if decisive is not None and decisive.action is not Action.PASS:
                return tuple(walked), profile_verdict(direction, profile, decisive)
        return tuple(walked), no_profile_verdict(direction)


def _walk_tier(
    tier: JudgedTier, direction: Direction, party: Party, packet: Packet
) -> tuple[AskedTier, Verdict | None]:
    """A tier and what it says: None when the packet goes on to the next one."""
    walked: list[AskedPolicy] = []

    def done(outcome: TierOutcome) -> AskedTier:
        return AskedTier(tier.name, tier.exists, tier.place, tuple(walked), outcome)

    for policy in tier.policies:
        if direction in policy.rules and policy.selects(party):
            rules, decisive = _walk_rules(policy.rules[direction], packet)
            walked.append(AskedPolicy(policy.kind, policy.namespace, policy.name, policy.place, rules))
            if decisive is not None:
                verdict = rule_verdict(direction, tier, policy, decisive)
                return done("a rule passed" if verdict is None else "a rule decided"), verdict
    if not walked:
        return done("no policy applies"), None
    return done("end: pass" if tier.pass_by_default else "end: deny"), tier_end_verdict(direction, tier)


def _walk_rules(rules: Iterable[JudgedRule], packet: Packet) -> tuple[tuple[AskedRule, ...], JudgedRule | None]:
    """The rules up to and including the first that matches and does something, and that one."""
    walked: list[AskedRule] = []
    for rule in rules:
        missed = tuple(condition.mismatch(packet) for condition in rule.conditions if not condition.holds(packet))
        walked.append(AskedRule(rule.index, rule.action, rule.place, missed))
        if not missed and rule.action is not Action.LOG:
            return tuple(walked), rule
    return tuple(walked), None
