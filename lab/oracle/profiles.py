# SPDX-License-Identifier: Apache-2.0
"""Profiles: asked in the endpoint's order once all tiers have passed a packet on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.errors import Place
from lab.oracle.packet import Packet
from lab.oracle.rules import JudgedRule, judged_rules
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.oracle.world import Party
from lab.policy.resources import Action, Direction, Profile, Resources
from lab.topology import Topology

__all__ = [
    "JudgedProfile",
    "judged_profiles",
    "missing_verdict",
    "no_profile_verdict",
    "profile_verdict",
    "profiles_verdict",
]

_DEFAULT_ALLOW = "projectcalico-default-allow"
"""A profile that Calico has ready for host endpoints (HostEndpoint reference)."""
_ALLOW_ALL = (JudgedRule(0, Action.ALLOW, None, ()),)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedProfile:
    """A profile ready to be asked."""

    name: str
    place: Place | None
    rules: Mapping[Direction, tuple[JudgedRule, ...]]


def judged_profiles(topology: Topology, resources: Resources) -> dict[str, JudgedProfile]:
    """All profiles by name: those of namespaces allow everything, those of service accounts have no rules."""
    found = {_DEFAULT_ALLOW: JudgedProfile(_DEFAULT_ALLOW, None, dict.fromkeys(Direction, _ALLOW_ALL))}
    for namespace in topology.namespaces.values():
        name = f"kns.{namespace.name}"
        found[name] = JudgedProfile(name, namespace.place, dict.fromkeys(Direction, _ALLOW_ALL))
        for account in namespace.service_accounts:
            name = f"ksa.{namespace.name}.{account}"
            found[name] = JudgedProfile(name, namespace.place, dict.fromkeys(Direction, ()))
    found |= {profile.name: _judged(profile) for profile in resources.profiles}
    return found


def _judged(profile: Profile) -> JudgedProfile:
    rules = {
        Direction.INGRESS: judged_rules(profile.ingress, None),
        Direction.EGRESS: judged_rules(profile.egress, None),
    }
    return JudgedProfile(profile.name, profile.place, rules)


def profiles_verdict(
    profiles: Mapping[str, JudgedProfile], party: Party, direction: Direction, packet: Packet
) -> Verdict:
    """What a party's profiles say: the first rule that decides; a missing profile denies, and so does none deciding."""
    for name in party.profiles:
        profile = profiles.get(name)
        if profile is None:
            return missing_verdict(direction, name)
        for rule in profile.rules[direction]:
            if rule.action is not Action.LOG and all(condition.holds(packet) for condition in rule.conditions):
                if rule.action is Action.PASS:
                    break  # this profile has not matched, the next one is tried
                return profile_verdict(direction, profile, rule)
    return no_profile_verdict(direction)


def profile_verdict(direction: Direction, profile: JudgedProfile, rule: JudgedRule) -> Verdict:
    """What a matching rule of a profile says."""
    decision = DefaultDecision(direction, "profile", profile.name, rule.index, rule.place)
    return Verdict(rule.action is Action.ALLOW, decision)


def missing_verdict(direction: Direction, name: str) -> Verdict:
    """A profile that nobody defined denies everything."""
    return Verdict(False, DefaultDecision(direction, "missing-profile", name))


def no_profile_verdict(direction: Direction) -> Verdict:
    """No profile, or none of them with a rule that decides."""
    return Verdict(False, DefaultDecision(direction, "no-profile"))
