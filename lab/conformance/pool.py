# SPDX-License-Identifier: Apache-2.0
"""Harnesses kept between scenarios: a lab is built once for a topology and a dataplane, then only policy changes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dataplanes.api import Accelerator, Dataplane
from lab.conformance.evidence import DATAPLANE, SIDECAR, Told, unmet
from lab.conformance.harness import Harness
from lab.conformance.judged import combined_name
from lab.conformance.playing import play
from lab.conformance.results import Results
from lab.conformance.scenario import Entry, LoadedScenario, Scenario
from lab.conformance.states import State
from lab.conformance.watching import watch
from lab.errors import DataplaneError, HostError, NoLabError
from lab.oracle import PartialOracle
from lab.policy.resources import Resources
from lab.traffic.tracked import Tracked

if TYPE_CHECKING:
    from lab.oracle.verdict import Verdict
    from lab.traffic.capture import Recorder
    from lab.traffic.prober import Observation

__all__ = ["Outcome", "Pool", "Ready"]

KEPT_LABS = 4
"""Labs open at a time; each holds namespaces, descriptors and socket buffers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario gave: results with what both ends saw, or a plugin's own error.

    ``unmet`` tells, a sentence each, what evidence should have been there and was not.
    """

    results: Results
    observations: tuple[Observation, ...] = ()
    error: DataplaneError | None = None
    unmet: tuple[str, ...] = ()
    tracked: Mapping[str, tuple[Tracked, ...]] = field(default_factory=dict)
    """What each node's conntrack held when the conversations of a scenario were over."""
    moments: tuple[str, ...] = ()
    """When packets fared otherwise than they must while one policy took another's place, a line each."""

    trails: tuple[tuple[str, ...], ...] = ()
    """Of each flow, where its packet was seen on its way; only where a recorder was there."""

    @property
    def conformant(self) -> bool:
        """Whether the plugins did all that is expected."""
        return self.error is None and self.results.conformant and not self.unmet

    @property
    def kinds(self) -> frozenset[str]:
        """What is wrong, so that a smaller example can be held to the same fault."""
        if self.error is not None:
            return frozenset({"error"})
        wrong = {f"{row.expected}, seen as {row.observed}" for row in self.results.wrong}
        others = {"inconclusive": self.results.inconclusive, "evidence": self.unmet}
        return frozenset(wrong | {kind for kind, found in others.items() if found})


@dataclass(frozen=True, slots=True)
class Ready:
    """A scenario of flows as it loads, and what the reference model says of each: for one who has both at hand."""

    loaded: LoadedScenario
    verdicts: Sequence[Verdict]


Past = tuple[tuple[Entry, ...], ...]
"""What was applied one after another since a lab was last without policy."""


@dataclass(slots=True)
class _Kept:
    """An open lab, and the state that it is in."""

    harness: Harness
    stack: ExitStack
    state: Past | None = None


class Pool:
    """A context manager that owns the labs of one run; in all of them are the same accelerators."""

    def __init__(self, accelerators: Sequence[type[Accelerator]] = ()) -> None:
        self.accelerators = tuple(accelerators)
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
        *,
        unaccelerated: bool = False,
    ) -> Outcome:
        """Apply what was before, then the resources; send the flows and compare them with the oracle.

        With a ``directory`` the scenario is written there first, and the outcome's places point into its files; a
        recorder keeps the packets on their way; ``unaccelerated``, the accelerators are suspended meanwhile. Raises
        LabError when it does not load, NoLabError when the lab cannot be had; a failing plugin is an outcome.
        """
        loaded = scenario.load(directory)
        if loaded.conversations:
            return self._play(scenario, loaded, dataplane, recorder)
        if loaded.watched:
            return self._watch(scenario, loaded, dataplane, recorder)
        now = loaded.state
        verdicts = PartialOracle(loaded.topology, now.resources, now.known).verdicts(loaded.flows)
        return self._send(scenario, Ready(loaded, verdicts), dataplane, recorder, unaccelerated=unaccelerated)

    def run_ready(self, scenario: Scenario, ready: Ready, dataplane: type[Dataplane]) -> Outcome:
        """The same for a scenario of flows that needs neither be loaded nor judged."""
        return self._send(scenario, ready, dataplane)

    def _send(
        self,
        scenario: Scenario,
        ready: Ready,
        dataplane: type[Dataplane],
        recorder: Recorder | None = None,
        *,
        unaccelerated: bool = False,
    ) -> Outcome:
        """Bring the lab to the scenario's state, and send its flows."""
        loaded, verdicts = ready.loaded, ready.verdicts
        name = _name(scenario, dataplane)
        try:
            harness = self._harness(loaded, dataplane, name).harness
            self._bring_to(scenario, loaded, self._open[name])
            before = _told(harness) if scenario.evidence else {}
            with harness.unaccelerated() if unaccelerated else nullcontext():
                seen = harness.observe(loaded.flows, recorder)
            lacking = unmet(scenario.evidence, before, _told(harness)) if scenario.evidence else ()
        except DataplaneError as error:
            self._discard(name)
            return Outcome(Results.of(loaded.flows, verdicts), error=error)
        results = Results.of(loaded.flows, verdicts, [each.verdict for each in seen])
        return Outcome(results, tuple(seen), unmet=lacking)

    def _play(
        self, scenario: Scenario, loaded: LoadedScenario, dataplane: type[Dataplane], recorder: Recorder | None
    ) -> Outcome:
        """Play conversations through all states, from the beginning."""
        name = _name(scenario, dataplane)
        try:
            kept = self._harness(loaded, dataplane, name)
            kept.state = None
            kept.harness.apply(Resources())
            played = play(kept.harness, loaded.conversations, loaded.states, recorder)
        except DataplaneError as error:
            self._discard(name)
            return Outcome(Results(()), error=error)
        return Outcome(played.results, played.observations, unmet=played.unmet, tracked=played.tracked)

    def _watch(
        self, scenario: Scenario, loaded: LoadedScenario, dataplane: type[Dataplane], recorder: Recorder | None
    ) -> Outcome:
        """Change from the last policy before to the one of the scenario, and watch."""
        name = _name(scenario, dataplane)
        *earlier, old = (State(Resources(), loaded.topology), *loaded.before)
        try:
            kept = self._harness(loaded, dataplane, name)
            kept.state = None
            for state in (*earlier, old):
                kept.harness.apply(state.resources, state.known)
            number = len(loaded.before)
            states = ((f"policy {number}" if number else "no policy", old), ("the last policy", loaded.state))
            with nullcontext() if recorder is None else recorder.watch(kept.harness.lab):
                seen = watch(kept.harness, loaded.watched, states)
        except DataplaneError as error:
            self._discard(name)
            return Outcome(Results(()), error=error)
        return Outcome(seen.results, seen.observations, moments=tuple(seen.moments))

    def lab(self, scenario: Scenario, dataplane: type[Dataplane]) -> Harness:
        """The lab of a scenario's topology, in whatever state it is; the next ``run`` there begins from none."""
        kept = self._harness(scenario.load(), dataplane, _name(scenario, dataplane))
        kept.state = None
        return kept.harness

    def fresh(self) -> Pool:
        """Another pool with the same accelerators and no labs yet."""
        return Pool(self.accelerators)

    def name_of(self, dataplane: type[Dataplane]) -> str:
        """What is judged, in one word: ``iptables``, or ``iptables+xdp`` with an accelerator before it."""
        return combined_name(dataplane.name, [each.name for each in self.accelerators])

    def evidence(self, scenario: Scenario, dataplane: type[Dataplane]) -> Told:
        """Counters and rulesets of the lab in which a scenario just ran; empty when a plugin failed."""
        kept = self._open.get(_name(scenario, dataplane))
        return {} if kept is None else _told(kept.harness)

    def forget(self, scenario: Scenario, dataplane: type[Dataplane]) -> None:
        """Close the lab of a scenario's topology, if it is open: the next one there begins in a fresh lab."""
        self._discard(_name(scenario, dataplane))

    @staticmethod
    def _bring_to(scenario: Scenario, loaded: LoadedScenario, kept: _Kept) -> None:
        """Apply what the lab has not seen yet; from the beginning, when what it has seen is not how this begins."""
        wanted: Past = (*scenario.before, scenario.resources)
        states = loaded.states
        if wanted[0]:  # else it begins without policy by itself, and an apply takes long on an emulated machine
            wanted, states = ((), *wanted), (State(Resources(), loaded.topology), *states)
        done = len(kept.state) if kept.state is not None and kept.state == wanted[: len(kept.state)] else 0
        if done == len(wanted):
            done = 0  # the same again is a repetition, and begins where the first did
        for each in states[done:]:
            kept.harness.apply(each.resources, each.known)
        kept.state = wanted

    def _harness(self, loaded: LoadedScenario, dataplane: type[Dataplane], name: tuple[str, str]) -> _Kept:
        if name not in self._open:
            while len(self._open) >= KEPT_LABS:
                self._close(next(iter(self._open)))
            with ExitStack() as stack:
                try:
                    harness = stack.enter_context(Harness(loaded.topology, dataplane, self.accelerators))
                except HostError as error:
                    raise NoLabError(
                        error.what,
                        place=error.place,
                        value=error.value,
                        allowed=error.allowed,
                        next_step=error.next_step,
                    ) from error
                self._open[name] = _Kept(harness, stack.pop_all())
        self._open.move_to_end(name)
        return self._open[name]

    def _discard(self, name: tuple[str, str]) -> None:
        """Close a lab whose dataplane failed: its state is not to be built upon."""
        if name in self._open:
            self._close(name)

    def _close(self, name: tuple[str, str]) -> None:
        self._open.pop(name).stack.close()


def _told(harness: Harness) -> Told:
    of_dataplanes = {(node, DATAPLANE): told for node, told in harness.evidence().items()}
    of_sidecars = {(name.replace("/", "."), SIDECAR): told for name, told in harness.sidecars().items()}
    return of_dataplanes | of_sidecars | dict(harness.acceleration())


def _name(scenario: Scenario, dataplane: type[Dataplane]) -> tuple[str, str]:
    """Scenarios of one topology share a lab, whatever files they were read from."""
    return json.dumps(scenario.topology, sort_keys=True), dataplane.name
