# SPDX-License-Identifier: Apache-2.0
"""The plain walk over tiers, policies, rules and profiles that explains a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lab.oracle.ahead import ahead_of_policy
from lab.oracle.explain import (
    AskedDirection,
    AskedPolicy,
    AskedProfile,
    AskedRule,
    AskedStaged,
    AskedTier,
    Explanation,
    TierOutcome,
)
from lab.oracle.packet import Packet
from lab.oracle.profiles import JudgedProfile, missing_verdict, no_profile_verdict, profile_verdict
from lab.oracle.proposals import Proposal, proposals
from lab.oracle.question import Question, path_verdict, settled_verdict
from lab.oracle.rules import JudgedRule
from lab.oracle.settings import FelixSettings
from lab.oracle.table import rule_verdict, tier_end_verdict
from lab.oracle.tiers import JudgedTier
from lab.oracle.verdict import Verdict
from lab.oracle.world import Party
from lab.policy.resources import Action, Direction, Resources
from lab.topology import Flow

__all__ = ["Walker"]


class Walker:
    """Explains flows under one set of resources, slowly and completely."""

    def __init__(
        self,
        resources: Resources,
        tiers: tuple[JudgedTier, ...],
        profiles: Mapping[str, JudgedProfile],
        settings: Mapping[str, FelixSettings],
    ) -> None:
        self._tiers = tiers
        self._profiles = profiles
        self._settings = settings
        self._proposals = proposals(resources, tiers)

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
        dropped = None if party.node is None else ahead_of_policy(self._settings[party.node], direction, packet)
        if dropped is not None:
            return AskedDirection(direction, party.title, reached, (), (), dropped)
        tiers, profiles, verdict = self._walk(self._tiers, direction, party, packet)
        staged = tuple(self._staged(direction, party, packet, verdict))
        return AskedDirection(direction, party.title, reached, tiers, profiles, verdict, staged)

    def _staged(self, direction: Direction, party: Party, packet: Packet, enforced: Verdict) -> Iterator[AskedStaged]:
        """What each staged policy that is about this end would have done, were it alone enforced."""
        for proposal in self._proposals:
            if proposal.concerns(direction, party):
                tiers, _, verdict = self._walk(proposal.tiers(), direction, party, packet)
                yield _asked_staged(proposal, tiers, verdict, changes=verdict.allowed != enforced.allowed)

    def _walk(
        self, tiers: Sequence[JudgedTier], direction: Direction, party: Party, packet: Packet
    ) -> tuple[tuple[AskedTier, ...], tuple[AskedProfile, ...], Verdict]:
        walked: list[AskedTier] = []
        for tier in tiers:
            asked, verdict = _walk_tier(tier, direction, party, packet)
            walked.append(asked)
            if verdict is not None:
                return tuple(walked), (), verdict
        profiles, verdict = self._walk_profiles(direction, party, packet)
        return tuple(walked), profiles, verdict

    def _walk_profiles(
        self, direction: Direction, party: Party, packet: Packet
    ) -> tuple[tuple[AskedProfile, ...], Verdict]:
        walked: list[AskedProfile] = []
        for name in party.profiles:
            profile = self._profiles.get(name)
            if profile is None:
                walked.append(AskedProfile(name, exists=False, place=None, rules=()))
                return tuple(walked), missing_verdict(direction, name)
            rules, decisive = _walk_rules(profile.rules[direction], packet)
            walked.append(AskedProfile(name, exists=True, place=profile.place, rules=rules))
            if decisive is not None and decisive.action is not Action.PASS:
                return tuple(walked), profile_verdict(direction, profile, decisive)
        return tuple(walked), no_profile_verdict(direction)


def _asked_staged(proposal: Proposal, tiers: Iterable[AskedTier], verdict: Verdict, *, changes: bool) -> AskedStaged:
    policy, added = proposal.policy, proposal.added
    rules: tuple[AskedRule, ...] | None = None
    if added is not None:
        name = (added.kind, added.namespace, added.name)
        asked = (asked for tier in tiers for asked in tier.policies)
        rules = next((one.rules for one in asked if (one.kind, one.namespace, one.name) == name), None)
    return AskedStaged(
        policy.kind,
        policy.namespace,
        policy.name,
        policy.place,
        proposal.action,
        proposal.judged.tier,
        rules,
        verdict,
        changes,
    )


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
