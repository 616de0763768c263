# SPDX-License-Identifier: Apache-2.0
"""The plain walk over tiers, policies, rules and profiles that explains a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
from lab.oracle.host_ahead import ahead_of_stage, without_policy
from lab.oracle.host_hooks import Hook, is_asked, tiers_at
from lab.oracle.host_stages import Progress, Ruling, Stage
from lab.oracle.packet import Packet
from lab.oracle.profiles import JudgedProfile, missing_verdict, no_profile_verdict, profile_verdict
from lab.oracle.proposals import Proposal, proposals
from lab.oracle.question import Question
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
        self._tiers = {hook: tiers_at(tiers, hook) for hook in Hook}
        self._profiles = profiles
        self._settings = settings
        self._proposals = proposals(resources, tiers)

    def explain(self, flow: Flow, question: Question) -> Explanation:
        """Every stage of the way, also those after the one at which the packet has died."""
        progress = Progress()
        walked: list[AskedDirection] = []
        for step in question.steps:
            spared, reached = progress.passes_by(step), not progress.is_dead
            if isinstance(step, Ruling):
                if spared:
                    continue
                asked = AskedDirection(None, "node", step.title, reached, spared, (), (), step.verdict)
            else:
                asked = self._stage(step, tracked=progress.is_tracked(step), reached=reached, spared=spared)
            walked.append(asked)
            if reached and not spared:
                progress.hear(step, asked.verdict)
        ends = question.packet.source.address, question.packet.destination.address
        return Explanation(flow, *ends, progress.verdict or question.otherwise, tuple(walked))

    def _stage(self, stage: Stage, *, tracked: bool, reached: bool, spared: bool) -> AskedDirection:
        tiers = self._tiers[stage.hook]
        where = (stage.direction, stage.title, stage.party.title, reached and not spared, spared)
        ahead = None
        if stage.hook is Hook.NORMAL or _applies(tiers, stage):
            ahead = ahead_of_stage(self._settings[stage.node], stage, tracked=tracked)
        if ahead is not None:
            return AskedDirection(*where, (), (), ahead)
        walked, profiles, verdict = self._walk(tiers, stage)
        return AskedDirection(*where, walked, profiles, verdict, tuple(self._staged(stage, verdict)))

    def _staged(self, stage: Stage, enforced: Verdict | None) -> Iterator[AskedStaged]:
        """What each staged policy that is about this end would have done, were it alone enforced."""
        for proposal in self._proposals:
            about = (proposal.judged, proposal.removed)
            if not any(policy is not None and is_asked(policy, stage.hook) for policy in about):
                continue
            if proposal.concerns(stage.direction, stage.party):
                tiers, _, verdict = self._walk(tiers_at(proposal.tiers(), stage.hook), stage)
                changes = _is_allowed(verdict) != _is_allowed(enforced)
                yield _asked_staged(proposal, tiers, verdict, changes=changes)

    def _walk(
        self, tiers: Sequence[JudgedTier], stage: Stage
    ) -> tuple[tuple[AskedTier, ...], tuple[AskedProfile, ...], Verdict | None]:
        direction, party, packet = stage.direction, stage.party, stage.packet
        walked: list[AskedTier] = []
        for tier in tiers:
            asked, verdict = _walk_tier(tier, direction, party, packet)
            walked.append(asked)
            if verdict is not None:
                return tuple(walked), (), verdict
        if stage.hook is not Hook.NORMAL:
            return tuple(walked), (), None
        lonely = None if any(asked.policies for asked in walked) else without_policy(stage)
        if lonely is not None:
            return tuple(walked), (), lonely
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


def _applies(tiers: Iterable[JudgedTier], stage: Stage) -> bool:
    """Whether any policy of the tiers is asked of the stage's endpoint in its direction."""
    policies = (policy for tier in tiers for policy in tier.policies)
    return any(stage.direction in policy.rules and policy.selects(stage.party) for policy in policies)


def _is_allowed(verdict: Verdict | None) -> bool:
    return verdict is None or verdict.allowed


def _asked_staged(
    proposal: Proposal, tiers: Iterable[AskedTier], verdict: Verdict | None, *, changes: bool
) -> AskedStaged:
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
