# SPDX-License-Identifier: Apache-2.0
"""Holds cases and generated scenarios against a dataplane, and tells of what fails."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from dataplanes.api import Dataplane
from lab.conformance.bundle import Bundle
from lab.conformance.case import Case, ExpectedFlow
from lab.conformance.conversations import spoken
from lab.conformance.counterexample import Failing, investigate
from lab.conformance.failure import failure_text, grid
from lab.conformance.patience import Patience
from lab.conformance.pool import Outcome, Pool
from lab.conformance.scenario import Scenario
from lab.conformance.wording import decision_text, flow_text
from lab.errors import HostError

__all__ = ["Judge"]


@dataclass(frozen=True, slots=True)
class Judge:
    """Each ``hold_*`` returns None when the dataplane did what is expected, else the failure as people read it."""

    pool: Pool
    report: Path
    """Bundles are written below this directory."""
    patience: Patience = field(default_factory=Patience)

    def hold_case(self, case: Case, dataplane: type[Dataplane]) -> str | None:
        """Hold a hand-written case: its control first, then every step in the state that the earlier ones left."""
        failure = self._hold_control(case, case.control(), dataplane)
        if failure is not None:
            return failure
        for number, step in enumerate(case.steps):
            failure = self._hold_change(case, number, dataplane)
            if failure is not None:
                return failure
            if not step.flows:
                continue
            scenario = case.scenario(number, self.pool.accelerators)
            outcome = self.pool.run(scenario, dataplane)
            contradiction = _contradiction(outcome, step.flows)
            if contradiction is not None:
                return f"{case.id}: the suite contradicts itself: {contradiction}"
            if not outcome.conformant:
                return self.tell(Failing(self.bundle(scenario, dataplane, case.id), outcome), case.title, dataplane)
        return self._hold_conversations(case, dataplane)

    def _hold_change(self, case: Case, number: int, dataplane: type[Dataplane]) -> str | None:
        """Watch the change to a step; what was written by hand must be what both policies say."""
        scenario = case.watching(number)
        if scenario is None:
            return None
        outcome = self.pool.run(scenario, dataplane)
        watched = {(row.flow, row.verdict.allowed) for row in outcome.results.rows}
        for flow, written in zip(scenario.load().watched, case.steps[number].watched, strict=True):
            if outcome.error is None and (flow, written.allowed) not in watched:
                return f"{case.id}: the suite contradicts itself: {written.place}: not what both policies say"
        if outcome.conformant:
            return None
        return self.tell(Failing(self.bundle(scenario, dataplane, case.id), outcome), case.title, dataplane)

    def _hold_conversations(self, case: Case, dataplane: type[Dataplane]) -> str | None:
        """Play the conversations of a case, without policy first."""
        scenario = case.conversing()
        if scenario is None:
            return None
        failure = self._hold_control(case, case.conversing_control(), dataplane)
        if failure is not None:
            return failure
        outcome = self.pool.run(scenario, dataplane)
        contradiction = _misjudged(outcome, scenario)
        if contradiction is not None:
            return f"{case.id}: the suite contradicts itself: {contradiction}"
        if outcome.conformant:
            return None
        return self.tell(Failing(self.bundle(scenario, dataplane, case.id), outcome), case.title, dataplane)

    def bundle(
        self, scenario: Scenario, dataplane: type[Dataplane], expectation: str, seed: str | None = None
    ) -> Bundle:
        """A scenario with what it takes to run it again."""
        return Bundle(scenario, dataplane.name, expectation, seed, tuple(each.name for each in self.pool.accelerators))

    def tell(self, failing: Failing, title: str, dataplane: type[Dataplane]) -> str:
        """Find the smallest counterexample, save its bundle, and put it into words."""
        name = re.sub(r"[^A-Za-z0-9.+-]", "_", f"{self.pool.name_of(dataplane)}-{failing.bundle.expectation}")
        directory = self.report / "bundles" / name
        try:
            with self.patience.spent():
                return failure_text(title, investigate(self.pool, dataplane, failing, directory, self.patience))
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)  # half a bundle is none
            raise HostError(
                f"{title}: it fails, and the counterexample cannot be saved",
                place=str(directory),
                value=error.strerror,
                next_step="make room there, or name another directory with --report",
            ) from error

    def _hold_control(self, case: Case, scenario: Scenario | None, dataplane: type[Dataplane]) -> str | None:
        """Every flow of a case must be seen allowed without policy, or a later "denied" would prove nothing."""
        if scenario is None:
            return None
        outcome = self.pool.run(scenario, dataplane)
        if all(row.observed == "allow" for row in outcome.results.rows):
            return None
        if not outcome.conformant:
            title = f"control without policy: {case.title}"
            return self.tell(Failing(self.bundle(scenario, dataplane, case.id), outcome), title, dataplane)
        shown = "\n".join(grid(outcome))
        return f"{case.id}: its control is not open: without policy not every flow is allowed\n{shown}"


def _misjudged(outcome: Outcome, scenario: Scenario) -> str | None:
    """The first packet of a conversation of which the case's author and the model think differently."""
    conversations = scenario.load().conversations
    said = [each for step in range(len(scenario.before) + 1) for each in spoken(conversations, step)]
    for row, each in zip(outcome.results.rows, said, strict=False):  # no rows where a plugin failed
        if row.verdict.allowed is not each.line.expect:
            written = "allow" if each.line.expect else "deny"
            found = f"{row.packet} of {flow_text(each.conversation.opening)} in step {each.line.step}"
            return f"{found}: written {written}, the model says {row.expected}, by {decision_text(row)}"
    return None


def _contradiction(outcome: Outcome, expected: tuple[ExpectedFlow, ...]) -> str | None:
    """The first flow of which the case's author and the oracle think differently."""
    for row, flow in zip(outcome.results.rows, expected, strict=True):
        if row.verdict.allowed is not flow.allowed:
            written = "allow" if flow.allowed else "deny"
            return f"{flow.place}: written {written}, the oracle says {row.expected}, by {decision_text(row)}"
    return None
