# SPDX-License-Identifier: Apache-2.0
"""An explanation as text for a person: what was asked, in order, and why what did not match did not."""

from __future__ import annotations

from collections.abc import Iterator

from lab.errors import Place
from lab.oracle.explain import (
    AskedDirection,
    AskedPolicy,
    AskedProfile,
    AskedRule,
    AskedStaged,
    AskedTier,
    Explanation,
)
from lab.oracle.verdict import Decision, RuleDecision, Verdict
from lab.protocols import protocol_label

__all__ = ["explanation_text"]

_REASONS = {
    "tier-end-deny": "the end of tier {owner}: policies of it apply, none of them decided",
    "profile": "rule {rule} of profile {owner}",
    "no-policy": "nothing: no policy is asked on the way",
    "no-profile": "the default: no policy applies or decides, and no profile has a rule that does",
    "missing-profile": "profile {owner}, which does not exist",
    "encapsulation": "the dataplane itself: workloads may not send VXLAN or IP in IP",
    "self": "nothing: what a workload sends to itself is never policed",
    "conntrack-invalid": "the dataplane itself: connection tracking calls the packet invalid",
    "failsafe": "a failsafe port, which no policy of a host endpoint closes",
    "host-endpoint-without-policy": "{owner}, which has neither policy in this direction nor profiles",
    "endpoint-to-host": "defaultEndpointToHostAction, which decides on what workloads send to their own node",
    "host-to-own-workload": "nothing: what a node sends to its own workloads is never policed",
    "no-backend": "the node port: nobody is reached behind it",
    "not-forwarded": "the node, which passes nothing on (ipForwarding: Disabled)",
    "tunnel": "the dataplane itself: VXLAN is let through between nodes, and taken from nobody else",
    "neighbour-discovery": "the dataplane itself: workloads may always look for their node",
}


def explanation_text(explanation: Explanation) -> str:
    """The whole explanation for a person to read, most important first: the flow and its verdict, then each stage.

    Lines without a trailing line break.
    """
    lines = [_flow_line(explanation), _verdict_line(explanation.verdict)]
    for direction in explanation.directions:
        lines += ["", *_direction_lines(direction)]
    return "\n".join(lines)


def _flow_line(explanation: Explanation) -> str:
    flow = explanation.flow
    what = str(protocol_label(flow.protocol))
    if flow.port is not None:
        what = f"port {flow.port}/{what}"
    if flow.icmp is not None:
        what += f" type {flow.icmp.type} code {flow.icmp.code}"
    if flow.http is not None:
        what += f", request {flow.http.method} {flow.http.path}"
    return f"{flow.source} {explanation.source} -> {flow.destination} {explanation.destination}, {what}"


def _verdict_line(verdict: Verdict) -> str:
    return f"verdict: {_spell_verdict(verdict)}"


def _spell_verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return "nothing to say, goes on"
    return f"{_word(verdict)}, decided by {_spell_decision(verdict.decided_by)}"


def _word(verdict: Verdict | None) -> str:
    return "goes on" if verdict is None else "allow" if verdict.allowed else "deny"


def _spell_decision(decision: Decision) -> str:
    where = f" at {decision.direction.value}" if decision.direction is not None else ""
    if isinstance(decision, RuleDecision):
        name = f"{decision.namespace}/{decision.name}" if decision.namespace else decision.name
        what = f"rule {decision.rule} of {decision.kind} {name} in tier {decision.tier}"
    else:
        what = _REASONS[decision.reason].format(owner=decision.owner, rule=decision.rule)
    return what + where + _at(decision.place)


def _at(place: Place | None) -> str:
    return "" if place is None else f" ({place.file}:{place.line})" if place.line is not None else f" ({place.file})"


def _direction_lines(direction: AskedDirection) -> Iterator[str]:
    yield f"{_spell_stage(direction)}{_spell_reach(direction)}: {_word(direction.verdict)}"
    for tier in direction.tiers:
        yield from _tier_lines(tier)
    for profile in direction.profiles:
        yield from _profile_lines(profile)
    yield f"  => {_spell_verdict(direction.verdict)}"
    for staged in direction.staged:
        yield from _staged_lines(staged)


def _spell_stage(direction: AskedDirection) -> str:
    if direction.direction is None:
        return direction.endpoint
    kind = "" if direction.stage == "normal" else f"{direction.stage} "
    return f"{kind}{direction.direction.value} of {direction.endpoint}"


def _spell_reach(direction: AskedDirection) -> str:
    if direction.reached:
        return ""
    return ", spared by what was accepted before; else" if direction.spared else ", not reached; had it been"


def _tier_lines(tier: AskedTier) -> Iterator[str]:
    missing = "" if tier.exists else ", which does not exist and so comes last"
    yield f"  tier {tier.name}{missing}{_at(tier.place)}"
    for policy in tier.policies:
        yield from _policy_lines(policy)
    yield f"    {_TIER_OUTCOMES[tier.outcome]}"


_TIER_OUTCOMES = {
    "no policy applies": "no policy of it applies: skipped",
    "a rule decided": "decided",
    "a rule passed": "passed on to the next tier",
    "end: deny": "no rule decided: end of tier denies",
    "end: pass": "no rule decided: end of tier passes on",
}


def _policy_lines(policy: AskedPolicy) -> Iterator[str]:
    yield f"    {policy.title}{_at(policy.place)}"
    if not policy.rules:
        yield "      no rules in this direction"
    for rule in policy.rules:
        yield from _rule_lines(rule, " " * 6)


def _staged_lines(staged: AskedStaged) -> Iterator[str]:
    yield f"  {staged.title}{_at(staged.place)}, only staged: {staged.action.value} in tier {staged.tier}"
    for rule in staged.rules or ():
        yield from _rule_lines(rule, " " * 4)
    change = "another verdict" if staged.changes else "the same verdict"
    yield f"    enforced, {change}: {_spell_verdict(staged.verdict)}"


def _profile_lines(profile: AskedProfile) -> Iterator[str]:
    yield f"  profile {profile.name}{_at(profile.place)}{'' if profile.exists else ': does not exist, denies'}"
    if profile.exists and not profile.rules:
        yield "    no rules in this direction"
    for rule in profile.rules:
        yield from _rule_lines(rule, " " * 4)


def _rule_lines(rule: AskedRule, indent: str) -> Iterator[str]:
    outcome = "matches" if rule.matched else "does not match"
    yield f"{indent}rule {rule.index} {rule.action.value}{_at(rule.place)}: {outcome}"
    for mismatch in rule.mismatches:
        yield f"{indent}  {mismatch.field} wants {mismatch.wanted}; here it is {mismatch.found}"
