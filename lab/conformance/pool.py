# SPDX-License-Identifier: Apache-2.0
"""Harnesses kept between scenarios: a lab is built once for a topology and a dataplane, then only policy changes."""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dataplanes.api import Dataplane, Evidence
from lab.conformance.harness import Harness
from lab.conformance.results import Results
from lab.conformance.scenario import Entry, LoadedScenario, Scenario
from lab.errors import DataplaneError
from lab.oracle import Oracle
from lab.policy.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.traffic.capture import Recorder
    from lab.traffic.prober import Observation

__all__ = ["Outcome", "Pool"]

KEPT_LABS = 4
"""Labs open at a time; each holds namespaces, descriptors and socket buffers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario gave: results with what both ends saw, or the dataplane's own error."""

    results: Results
    observations: tuple[Observation, ...] = ()
    error: DataplaneError | None = None

    @property
    def conformant(self) -> bool:
        """Whether the dataplane did all that the oracle expects."""
        return self.error is None and self.results.conformant

    @property
    def kinds(self) -> frozenset[str]:
        """What is wrong, so that a smaller example can be held to the same fault."""
        if self.error is not None:
            return frozenset({"error"})
        wrong = {f"{row.expected}, seen as {row.observed}" for row in self.results.wrong}
        return frozenset(wrong | ({"inconclusive"} if self.results.inconclusive else set()))


State = tuple[tuple[Entry, ...], ...]
"""What was applied one after another since a lab was last without policy."""


@dataclass(slots=True)
class _Kept:
    """An open lab, and the state that it is in."""

    harness: Harness
    stack: ExitStack
    state: State | None = None


class Pool:
    """A context manager that owns the labs of one run."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._close(next(iter(self._open)))

    def run(
        self,
        scenario: Scenario,
        dataplane: type[Dataplane],
        recorder: Recorder | None = None,
        directory: Path | None = None,
    ) -> Outcome:
        """Apply what was before, then the resources; send the flows and compare them with the oracle.

        With a ``directory`` the scenario is written there first, and the outcome's places point into its files; a
        recorder keeps the packets on their way. Raises LabError when it does
        not load, HostError when the lab cannot be had; a failing dataplane is an outcome.
        """
        loaded = scenario.load(directory)
        verdicts = Oracle(loaded.topology, loaded.resources).verdicts(loaded.flows)
        name = _name(scenario, dataplane)
        try:
            harness = self._harness(loaded, dataplane, name).harness
            self._bring_to(scenario, loaded, self._open[name])
        except DataplaneError as error:
            self._discard(name)
            return Outcome(Results.of(loaded.flows, verdicts), error=error)
        seen = harness.observe(loaded.flows, recorder)
        return Outcome(Results.of(loaded.flows, verdicts, [each.verdict for each in seen]), tuple(seen))

    def evidence(self, scenario: Scenario, dataplane: type[Dataplane]) -> Mapping[str, Evidence]:
        """Counters and rulesets of the lab in which a scenario just ran; empty when its dataplane failed."""
        kept = self._open.get(_name(scenario, dataplane))
        return {} if kept is None else kept.harness.evidence()

    def forget(self, scenario: Scenario, dataplane: type[Dataplane]) -> None:
        """Close the lab of a scenario's topology, if it is open: the next one there begins in a fresh lab."""
        self._discard(_name(scenario, dataplane))

    @staticmethod
    def _bring_to(scenario: Scenario, loaded: LoadedScenario, kept: _Kept) -> None:
        """Apply what the lab has not seen yet; from the beginning, when what it has seen is not how this begins."""
        wanted: State = ((), *scenario.before, scenario.resources)
        done = len(kept.state) if kept.state is not None and kept.state == wanted[: len(kept.state)] else 0
        if done == len(wanted):
            done = 0  # the same again is a repetition, and begins where the first did
        for resources in (Resources(), *loaded.before, loaded.resources)[done:]:
            kept.harness.apply(resources)
        kept.state = wanted

    def _harness(self, loaded: LoadedScenario, dataplane: type[Dataplane], name: tuple[str, str]) -> _Kept:
        if name not in self._open:
            while len(self._open) >= KEPT_LABS:
                self._close(next(iter(self._open)))
            with ExitStack() as stack:
                harness = stack.enter_context(Harness(loaded.topology, dataplane))
                self._open[name] = _Kept(harness, stack.pop_all())
        self._open.move_to_end(name)
        return self._open[name]

    def _discard(self, name: tuple[str, str]) -> None:
        """Close a lab whose dataplane failed: its state is not to be built upon."""
        if name in self._open:
            self._close(name)

    def _close(self, name: tuple[str, str]) -> None:
        self._open.pop(name).stack.close()


def _name(scenario: Scenario, dataplane: type[Dataplane]) -> tuple[str, str]:
    """Scenarios of one topology share a lab, whatever files they were read from."""
    return json.dumps(scenario.topology, sort_keys=True), dataplane.name
