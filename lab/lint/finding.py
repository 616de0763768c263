# SPDX-License-Identifier: Apache-2.0
"""A finding: what is odd, where, how bad it is, and the flows that show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources import Direction
from lab.topology import Flow

__all__ = ["CATALOGUE", "About", "Finding", "Findings", "Severity", "ShownFlow"]

Severity = Literal["warning", "info"]

CATALOGUE: dict[str, str] = {
    "lint.deny-passed-over": "a Deny matches a flow that a Pass of its tier, or an earlier tier, lets through",
    "lint.direction-not-in-types": "a policy holds rules of a direction that its types leave out",
    "lint.http-without-sidecar": "a rule matches HTTP on a workload that has no sidecar to look at requests",
    "lint.label-nobody-has": "a selector tests a label that nobody carries",
    "lint.network-set-unused": "no rule's selector matches a network set",
    "lint.policy-selects-nobody": "a policy selects no workload and no host endpoint",
    "lint.port-nobody-declares": "a rule names a port that nobody declares for its protocol",
    "lint.profile-missing": "a profile is referred to that nobody defines: its endpoint is closed both ways",
    "lint.profile-unused": "no workload and no host endpoint refers to a profile",
    "lint.rule-fails-closed": "a rule holds a kind of peer or port that nobody knows, so it denies everything",
    "lint.rule-matches-nobody": "nobody in the topology is what a rule asks of one side",
    "lint.rule-never-matches": "a rule contradicts itself: no packet can ever match it",
    "lint.rule-shadowed": "rules that are asked before decide all that a rule matches",
    "lint.rule-unreachable": "a rule stands behind one of the same policy that matches everything",
    "lint.service-account-nobody-uses": "a rule names a service account that no workload runs under",
    "lint.service-without-endpoints": "a rule names a service that has no EndpointSlice with an address",
    "lint.staged-changes-verdicts": "a staged policy would change verdicts, were it enforced",
    "lint.staged-deletes-nothing": "a staged policy would delete one that is not there",
    "lint.tier-missing": "a policy is in a tier that nobody defines: it is asked after all others",
    "lint.tier-unused": "no policy is in a tier",
    "lint.untracked-one-way": "a doNotTrack policy allows packets whose answers no doNotTrack policy allows",
}
"""Every kind of finding by its id, with what it says in general."""


@dataclass(frozen=True, slots=True)
class About:
    """The resource, and where it is one of its rules, that a finding is about; rules count from 0."""

    kind: str
    namespace: str | None
    name: str
    direction: Direction | None = None
    rule: int | None = None

    def __str__(self) -> str:
        home = f"{self.namespace}/" if self.namespace else ""
        rule = (
            f" {self.direction.value} rule {self.rule}" if self.direction is not None and self.rule is not None else ""
        )
        return f"{self.kind} {home}{self.name}{rule}"


@dataclass(frozen=True, slots=True)
class ShownFlow:
    """A flow that shows what a finding says: the verdict, and what it would be were a staged policy enforced."""

    flow: Flow
    allowed: bool
    staged: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person who writes policies wants to be told; ``id`` is a key of CATALOGUE."""

    id: str
    severity: Severity
    place: Place | None
    about: About
    message: str
    flows: tuple[ShownFlow, ...] = ()

    @property
    def rank(self) -> tuple[str, int, int, str, str]:
        """The order in which findings are told: that of the files."""
        place = self.place or Place("")
        return place.file, place.line or 0, place.column or 0, self.id, self.message


@dataclass(frozen=True, slots=True)
class Findings:
    """All findings of a run, in the order of the files."""

    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)
