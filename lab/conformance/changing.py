# SPDX-License-Identifier: Apache-2.0
"""Policy that changes step by step, as nobody wrote it down: what is seen during each step, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import settings

from dataplanes.api import DataplaneError
from lab.conformance.drawing import Drawing
from lab.conformance.generate.courses import Course, Edit, courses
from lab.conformance.harness import Harness
from lab.conformance.pool import Outcome
from lab.conformance.results import Results
from lab.conformance.rounds import DRAWN
from lab.conformance.scenario import Entry, Scenario
from lab.conformance.states import State
from lab.conformance.watching import watch
from lab.errors import LabError
from lab.oracle import PartialOracle
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

__all__ = ["CHANGES", "CHANGES_TITLE", "COURSES", "Changing"]

CHANGES: Final = "generated.changes"
CHANGES_TITLE: Final = "However policy changes step by step, at no moment does a flow fare otherwise than it must."
LAB_LIFE: Final = 6
"""Courses that share a lab, where a topology is given."""
WATCHED: Final = 16
"""Flows that are watched during a step; the rounds of more take longer."""

COURSES: Final = {
    "dev": (settings(DRAWN, max_examples=3), 6),
    "ci": (settings(DRAWN, max_examples=16, derandomize=True), 8),
    "nightly": (settings(DRAWN, max_examples=150), 20),
}
"""By profile: how many courses there are, and of how many steps."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a course, by its number from 1 on."""

    number: int
    edit: Edit

    def __str__(self) -> str:
        restarted = ", started anew before" if self.edit.restart else ""
        return f"step {self.number} ({self.edit.what}{restarted})"


@dataclass(slots=True)
class Changing(Drawing):
    """One run of courses against a dataplane, and what it has seen."""

    expectation = CHANGES
    title = CHANGES_TITLE

    def hold(self, profile: str, topology: Topology | None) -> str | None:
        """Run as many courses as the profile says; None, or the failure in words."""
        chosen, most = COURSES[profile]
        drawn = courses(topology, self.dataplane.capabilities, most)
        return self._drawn(chosen, drawn.filter(lambda course: bool(course.flows)), self._check)

    def summary(self) -> str:
        """What was covered, in one line."""
        seen = self.seen
        lone = f", {seen['lone']} of them astray alone" if seen["lone"] else ""
        return f"{seen['courses']} courses: {seen['steps']} steps, {seen['packets']} packets meanwhile{lone}"

    def _check(self, course: Course) -> None:
        self.seen["courses"] += 1
        blank = Scenario(course.topology, (), course.flows)
        flows, now = blank.load().flows, blank
        harness = self.judge.pool.lab(blank, self.dataplane)
        harness.apply(Resources())
        for number, edit in enumerate(course.edits, start=1):
            scenario = replace(now, resources=edit.resources, before=(*now.before, now.resources))
            try:
                scenario.load()
            except LabError:
                continue  # halfway between two states that load there may be one that does not
            self._step(harness, scenario, flows, _Step(number, edit))
            now = scenario
        self._arrive_again(harness, now, course.again, flows)
        if self.seen["courses"] % LAB_LIFE == 0:
            self.judge.pool.forget(blank, self.dataplane)  # it keeps all plugins that were dropped without ``stop``

    def _arrive_again(
        self, harness: Harness, end: Scenario, path: Sequence[tuple[Entry, ...]], flows: Sequence[Flow]
    ) -> None:
        """What was reached step by step is what is reached by other paths: at once, and in another order."""
        for way in ((end.resources,), (*path[:-1], end.resources)):
            harness.apply(Resources())
            scenario = replace(end, before=(*end.before, end.resources), resources=())
            for resources in way:
                scenario = replace(scenario, before=(*scenario.before, scenario.resources), resources=resources)
                try:
                    state = scenario.load().state
                except LabError:
                    scenario = replace(scenario, before=scenario.before[:-1], resources=scenario.before[-1])
                    continue
                self._apply(harness, scenario, state)
            self._grid(harness, scenario, flows)

    def _apply(self, harness: Harness, scenario: Scenario, state: State) -> None:
        try:
            harness.apply(state.resources, state.known)
        except DataplaneError as error:
            self._fail(scenario, Outcome(Results(()), error=error))

    def _step(self, harness: Harness, scenario: Scenario, flows: Sequence[Flow], step: _Step) -> None:
        self.seen["steps"] += 1
        loaded = scenario.load()
        states = (("what was in force", loaded.before[-1]), (str(step), loaded.state))
        places = [(self.seen["steps"] + number) % len(flows) for number in range(0, len(flows), _pace(flows))]
        try:
            seen = watch(harness, [flows[place] for place in places], states, 1, restart=step.edit.restart)
        except DataplaneError as error:
            self._fail(scenario, Outcome(Results(()), error=error))
        self.seen["packets"] += seen.packets
        self.seen["lone"] += seen.lone
        if not seen.results.conformant:
            watched = replace(scenario, flows=(), watched=tuple(scenario.flows[place] for place in places))
            self._fail(watched, Outcome(seen.results, seen.observations, moments=tuple(seen.moments)))
        self._grid(harness, scenario, flows)

    def _grid(self, harness: Harness, scenario: Scenario, flows: Sequence[Flow]) -> None:
        state = scenario.load().state
        verdicts = PartialOracle(harness.topology, state.resources, state.known).verdicts(flows)
        seen = harness.observe(flows)
        results = Results.of(flows, verdicts, [each.verdict for each in seen])
        if not results.conformant:
            self._fail(scenario, Outcome(results, tuple(seen)))


def _pace(flows: Sequence[Flow]) -> int:
    """Every how many flows one is watched: not all can be, as a round of many takes long."""
    return max(1, len(flows) // WATCHED)
