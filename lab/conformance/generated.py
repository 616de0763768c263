# SPDX-License-Identifier: Apache-2.0
"""Scenarios that nobody wrote down: drawn, sent, compared, and shrunk when a verdict is wrong."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Final

from hypothesis import Phase, reject, settings
from hypothesis.errors import Flaky, Unsatisfiable

from dataplanes.api import Capability, Dataplane
from lab.conformance.counterexample import Failing
from lab.conformance.generate import scenarios, topology_document
from lab.conformance.judge import Judge
from lab.conformance.pool import Outcome, Ready
from lab.conformance.regions import Coverage, Regions
from lab.conformance.rounds import DRAWN, NO_SEED, Rounds
from lab.conformance.scenario import Entry, Scenario
from lab.policy.load import resource_entries
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.topology.flows_file import flow_to_dict
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_policies

__all__ = ["DRAWS", "POLICIES", "PROFILES", "REQUESTS", "SHIPPED", "Draws", "Generated"]

LAB_LIFE: Final = 6
"""Scenarios that share a lab: its whole past is told with one that fails only because of it."""


@dataclass(frozen=True, slots=True)
class Draws:
    """An expectation of what is drawn: with ``sidecars`` of requests, which take longer, so they are fewer."""

    id: str
    title: str
    sidecars: bool = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the lab has to add to what a dataplane declares."""
        return frozenset({Capability.L7_HTTP}) if self.sidecars else frozenset()

    def settings(self, profile: str) -> settings:
        """As much as the profile says."""
        chosen = PROFILES[profile]
        if not self.sidecars:
            return chosen
        return settings(chosen, max_examples=max(_FEWEST_REQUESTS, chosen.max_examples // _SHARE_OF_REQUESTS))


POLICIES: Final = Draws(
    "generated.policies-and-flows",
    "Whatever policies and flows are drawn, each flow's verdict is the reference model's.",
)
REQUESTS: Final = Draws(
    "generated.policies-and-requests",
    "Whatever HTTP rules and requests are drawn, each request's verdict is the reference model's.",
    sidecars=True,
)
DRAWS: Final = (POLICIES, REQUESTS)
_SHARE_OF_REQUESTS: Final = 10
_FEWEST_REQUESTS: Final = 5
SHIPPED: Final = Draws(
    "generated.shipped-policies",
    "Under every example policy, in three-by-three, flows of all regions get the reference model's verdict.",
)
_MOST: Final = {"dev": 600, "ci": 600, "nightly": 3000}
"""Flows that are added to a drawn scenario: sending one costs little, but reading and judging it does, too."""
_MOST_OF_SHIPPED: Final = 20_000

_SHRUNK: Final = settings(
    DRAWN,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,  # one that fails is enough
)
PROFILES: Final = {
    "dev": settings(_SHRUNK, max_examples=25),
    "ci": settings(_SHRUNK, max_examples=100, derandomize=True),
    "nightly": settings(_SHRUNK, max_examples=2000),
}


class _WrongError(Exception):
    """A drawn scenario gave something other than the oracle expects."""


class _Enough(BaseException):
    """The time is over for smaller examples: no Exception, for Hypothesis, which takes minutes, catches those."""


@dataclass(slots=True)
class Generated:
    """One run of the generator against a dataplane, and what it has seen."""

    judge: Judge
    dataplane: type[Dataplane]
    draws: Draws = POLICIES
    seen: Counter[str] = field(default_factory=Counter)
    failing: list[Scenario] = field(default_factory=list)
    past: list[Scenario] = field(default_factory=list)
    """What the lab in use has seen, oldest first; some dataplanes fail only after what that left behind."""
    deadline: float = math.inf
    """Until when a smaller example is looked for; begins with the first that fails."""
    coverage: Coverage = field(default_factory=Coverage)

    def hold(self, profile: str, topology: Topology | None) -> str | None:
        """Draw as much as the profile says, in ``topology`` or in drawn ones; None, or the failure in words."""
        declared = self.dataplane.capabilities | self.draws.capabilities
        rounds = Rounds(self.draws.settings(profile))

        def check(scenario: Scenario) -> None:
            met = scenario.within(declared)
            if met is None:
                reject()
            # A smaller example is looked for among what is drawn: steering would take most of the time for it.
            self._check(*((met, Coverage(), None) if self.failing else self._steered(met, _MOST[profile])))

        try:
            rounds.check(scenarios(topology, declared, sidecars=self.draws.sidecars), check)
        except (_WrongError, _Enough, Flaky):
            # Flaky: it failed once and not again; the last failing one is told all the same.
            return self._tell(rounds.seed_text)
        except Unsatisfiable:
            pass  # the dataplane declares too little for any scenario: the summary says so
        return None

    def summary(self) -> str:
        """What was covered, in one line."""
        counts = ", ".join(f"{self.seen[word]} {word}" for word in ("allow", "deny"))
        regions = f"; {self.coverage}" if self.coverage.regions else ""
        return f"{self.seen['scenarios']} scenarios: {counts}{regions}"

    def hold_shipped(self) -> str | None:
        """Hold every policy that is shipped, in three-by-three, with flows in all regions; None, or the failure."""
        topology = load_topology("three-by-three")
        document = topology_document(topology)
        for file in shipped_policies():
            documents = tuple(resource_entries([file], topology))
            anything = Scenario(document, documents, (flow_to_dict(next(Regions.of(topology, Resources()).flows())),))
            met = anything.within(self.dataplane.capabilities)
            if met is None:
                continue
            try:
                self._check(*self._steered(met, _MOST_OF_SHIPPED))
            except _WrongError:
                return self._tell(NO_SEED, f"{self.draws.title} ({file.name})")
        return None

    def _steered(self, scenario: Scenario, most: int) -> tuple[Scenario, Coverage, Ready | None]:
        """The scenario with flows in regions that its own do not hit, and what it sees then; not so with requests."""
        if self.draws.sidecars:
            return scenario, Coverage(), None
        loaded = scenario.load()
        regions = Regions.of(loaded.topology, loaded.resources, self.dataplane.capabilities)
        missing = regions.missing(loaded.flows)
        added = _whole_ways(missing, most)
        flows = (*loaded.flows, *added)
        steered = replace(scenario, flows=(*scenario.flows, *map(flow_to_dict, added)))
        ready = Ready(replace(loaded, flows=flows), regions.oracle.verdicts(flows))
        return steered, Coverage.of(regions, flows), ready

    def _check(self, scenario: Scenario, coverage: Coverage, ready: Ready | None) -> None:
        if time.monotonic() > self.deadline:
            raise _Enough
        if len(self.past) == LAB_LIFE or any(each.topology != scenario.topology for each in self.past):
            self._leave_lab()
        pool = self.judge.pool
        outcome = pool.run_ready(scenario, ready, self.dataplane) if ready else pool.run(scenario, self.dataplane)
        self.seen["scenarios"] += 1
        self.seen.update(row.expected for row in outcome.results.rows)
        if not outcome.conformant:
            self.deadline = min(self.deadline, time.monotonic() + self.judge.patience.seconds)
            self.failing.append(self._with_past(_wrong_first(scenario, outcome)))
            self.past.append(scenario)
            self._leave_lab()
            raise _WrongError
        self.coverage.add(coverage)
        self.past.append(scenario)

    def _with_past(self, scenario: Scenario) -> Scenario:
        """The scenario, after all that its lab has seen if it does not fail in a fresh one."""
        with self.judge.pool.fresh() as fresh:
            if not fresh.run(scenario, self.dataplane).conformant:
                return scenario
        nothing: tuple[Entry, ...] = ()  # each scenario began without policy
        states = [state for each in self.past for state in (*each.before, each.resources, nothing)]
        return replace(scenario, before=(*states, *scenario.before))

    def _leave_lab(self) -> None:
        for scenario in self.past[:1]:  # all are of one topology
            self.judge.pool.forget(scenario, self.dataplane)
        self.past.clear()

    def _tell(self, seed_text: str, title: str | None = None) -> str:
        """Tell of the last failing scenario: Hypothesis ends with the smallest."""
        scenario = self.failing[-1]
        bundle = self.judge.bundle(scenario, self.dataplane, self.draws.id, seed_text)
        failing = Failing(bundle, self.judge.pool.run(scenario, self.dataplane))
        return self.judge.tell(failing, title or self.draws.title, self.dataplane)


def _whole_ways(flows: Sequence[Flow], most: int) -> list[Flow]:
    """About as many of the flows, spread evenly: all of a way or none, for its regions border on each other."""
    ways = [list(group) for _, group in groupby(flows, key=attrgetter("source", "destination", "protocol", "family"))]
    every = -(-len(flows) // most) or 1
    return [flow for way in ways[::every] for flow in way]


def _wrong_first(scenario: Scenario, outcome: Outcome) -> Scenario:
    """The same flows, in the order in which shrinking tries them alone."""
    rows = zip(scenario.flows, outcome.results.rows, strict=True)
    ordered = sorted(rows, key=lambda each: (not each[1].wrong, each[1].observed != "inconclusive"))
    return replace(scenario, flows=tuple(flow for flow, _ in ordered))
