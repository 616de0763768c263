# SPDX-License-Identifier: Apache-2.0
"""How a verdict came about: every tier, policy, rule and profile that was asked, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.oracle.conditions import Mismatch
from lab.oracle.verdict import Decision, RuleDecision, Verdict
from lab.policy.resources import Action, Direction, StagedAction
from lab.protocols import protocol_label
from lab.topology import Address, Flow

__all__ = [
    "AskedDirection",
    "AskedPolicy",
    "AskedProfile",
    "AskedRule",
    "AskedStaged",
    "AskedTier",
    "Explanation",
    "TierOutcome",
    "decision_dict",
]

TierOutcome = Literal["no policy applies", "a rule decided", "a rule passed", "end: deny", "end: pass"]


@dataclass(frozen=True, slots=True)
class AskedRule:
    """A rule that was tried; ``mismatches`` are all reasons for which it does not match, none when it does."""

    index: int
    action: Action
    place: Place | None
    mismatches: tuple[Mismatch, ...]

    @property
    def matched(self) -> bool:
        """Whether the packet met every condition."""
        return not self.mismatches

    def to_dict(self) -> dict[str, object]:
        """The rule as JSON holds it."""
        why = [{"field": m.field, "wanted": m.wanted, "found": m.found} for m in self.mismatches]
        return {"rule": self.index, "action": self.action.value, "matched": self.matched, "why": why} | _place(
            self.place
        )


@dataclass(frozen=True, slots=True)
class AskedPolicy:
    """A policy that selects the endpoint in this direction, with the rules that were tried."""

    kind: str
    namespace: str | None
    name: str
    place: Place
    rules: tuple[AskedRule, ...]

    @property
    def title(self) -> str:
        """Kind and full name, as messages say it."""
        return _title(self.kind, self.namespace, self.name)

    def to_dict(self) -> dict[str, object]:
        """The policy as JSON holds it."""
        named = {"kind": self.kind, "namespace": self.namespace, "name": self.name}
        return {**named, **_place(self.place), "rules": [rule.to_dict() for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class AskedTier:
    """A tier in its turn; ``exists`` is false when only policies name it."""

    name: str
    exists: bool
    place: Place | None
    policies: tuple[AskedPolicy, ...]
    outcome: TierOutcome

    def to_dict(self) -> dict[str, object]:
        """The tier as JSON holds it."""
        policies = [policy.to_dict() for policy in self.policies]
        return {"tier": self.name, "exists": self.exists, "outcome": self.outcome, "policies": policies} | _place(
            self.place
        )


@dataclass(frozen=True, slots=True)
class AskedProfile:
    """A profile in its turn; one that does not exist denies."""

    name: str
    exists: bool
    place: Place | None
    rules: tuple[AskedRule, ...]

    def to_dict(self) -> dict[str, object]:
        """The profile as JSON holds it."""
        rules = [rule.to_dict() for rule in self.rules]
        return {"profile": self.name, "exists": self.exists, "rules": rules} | _place(self.place)


@dataclass(frozen=True, slots=True)
class AskedStaged:
    """A staged policy that is about the endpoint in this direction, and what it alone would have made of the packet.

    ``rules`` are those of it that would have been tried at its place in the order, None if it would not have been
    asked. ``verdict`` is what the direction's would have been; ``changes`` tells whether that is another one.
    """

    kind: str
    namespace: str | None
    name: str
    place: Place
    action: StagedAction
    tier: str
    rules: tuple[AskedRule, ...] | None
    verdict: Verdict | None
    changes: bool

    @property
    def title(self) -> str:
        """Kind and full name, as messages say it."""
        return _title(self.kind, self.namespace, self.name)

    def to_dict(self) -> dict[str, object]:
        """The staged policy as JSON holds it."""
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            **_place(self.place),
            "action": self.action.value,
            "tier": self.tier,
            "asked": self.rules is not None,
            "rules": [rule.to_dict() for rule in self.rules or ()],
            **_said(self.verdict),
            "changes": self.changes,
        }


@dataclass(frozen=True, slots=True)
class AskedDirection:
    """One endpoint's policy in one direction, at one stage of the packet's way.

    ``stage`` is that of a hook (normal, apply-on-forward, pre-dnat, untracked), "request" for what a sidecar asks of
    an HTTP request, or "node" where no policy is asked and ``endpoint`` tells what decides instead; then there is no
    ``direction``. ``reached`` is false where the packet has died before, or never comes to be asked because of how it
    was accepted before (``spared``). Neither tiers nor profiles are asked of a packet on which something ahead of them
    decides. ``verdict`` is None where the stage has nothing to say of the packet, which then goes on.
    """

    direction: Direction | None
    stage: str
    endpoint: str
    reached: bool
    spared: bool
    tiers: tuple[AskedTier, ...]
    profiles: tuple[AskedProfile, ...]
    verdict: Verdict | None
    staged: tuple[AskedStaged, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The direction as JSON holds it."""
        return {
            "direction": None if self.direction is None else self.direction.value,
            "stage": self.stage,
            "endpoint": self.endpoint,
            "reached": self.reached,
            "spared": self.spared,
            "tiers": [tier.to_dict() for tier in self.tiers],
            "profiles": [profile.to_dict() for profile in self.profiles],
            "staged": [staged.to_dict() for staged in self.staged],
            **_said(self.verdict),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A flow, its verdict, and every stage at which policy was or would have been asked."""

    flow: Flow
    source: Address
    destination: Address
    verdict: Verdict
    directions: tuple[AskedDirection, ...]

    def to_dict(self) -> dict[str, object]:
        """The whole explanation as JSON holds it."""
        return {
            "flow": _flow_dict(self.flow),
            "addresses": {"from": str(self.source), "to": str(self.destination)},
            "verdict": _word(self.verdict),
            "decided_by": decision_dict(self.verdict.decided_by),
            "directions": [direction.to_dict() for direction in self.directions],
        }


def decision_dict(decision: Decision) -> dict[str, object]:
    """What decided, in the words of the design's ``decided_by``."""
    direction = decision.direction.value if decision.direction is not None else None
    if isinstance(decision, RuleDecision):
        named = {"tier": decision.tier, "kind": decision.kind, "namespace": decision.namespace, "name": decision.name}
        return {"direction": direction, **named, "rule": decision.rule} | _place(decision.place)
    details = {"owner": decision.owner, "rule": decision.rule}
    known = {key: value for key, value in details.items() if value is not None}
    return {"direction": direction, "default": decision.reason, **known} | _place(decision.place)


def _said(verdict: Verdict | None) -> dict[str, object]:
    """A stage's verdict and what decided it, nulls where it has nothing to say."""
    if verdict is None:
        return {"verdict": None, "decided_by": None}
    return {"verdict": _word(verdict), "decided_by": decision_dict(verdict.decided_by)}


def _word(verdict: Verdict) -> str:
    return "allow" if verdict.allowed else "deny"


def _title(kind: str, namespace: str | None, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _place(place: Place | None) -> dict[str, object]:
    return {} if place is None else {"file": place.file, "line": place.line}


def _flow_dict(flow: Flow) -> dict[str, object]:
    spelled: dict[str, object] = {
        "from": flow.source,
        "to": flow.destination,
        "protocol": protocol_label(flow.protocol),
        "port": flow.port,
        "family": f"ipv{flow.family}",
    }
    if flow.source_port is not None:
        spelled["source_port"] = flow.source_port
    if flow.icmp is not None:
        spelled["icmp"] = {"type": flow.icmp.type, "code": flow.icmp.code}
    if flow.http is not None:
        spelled["http"] = {"method": flow.http.method, "path": flow.http.path}
    return spelled
