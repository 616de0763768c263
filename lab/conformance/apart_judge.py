# SPDX-License-Identifier: Apache-2.0
"""A judge whose plugins run apart: whatever they do to their process is the failure of one expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from lab.conformance.apart import CALL_SECONDS, Apart
from lab.conformance.case import Case
from lab.conformance.changing import CHANGES, Changing
from lab.conformance.generated import SHIPPED, Draws, Generated
from lab.conformance.harness import Harness
from lab.conformance.judge import Judge
from lab.conformance.judged import Judged
from lab.conformance.pool import Pool
from lab.conformance.promises import PROMISES
from lab.conformance.talking import TALKS, Talking
from lab.errors import DataplaneError
from lab.topology import Topology
from lab.topology.load import load_topology

__all__ = ["MAX_LOSSES", "ApartJudge", "Drawn"]

MAX_LOSSES: Final = 3
"""A plugin that ends or hangs its process so often is not asked again: a run is to end."""

Result = TypeVar("Result")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of generated scenarios: how many there were, what they covered, and the failure, if there is one."""

    scenarios: int
    covered: str
    failure: str | None
    regions: Mapping[str, float] | None = None
    """What was seen of the policies' regions, as the report holds it."""


class ApartJudge:
    """A context manager; ``hold_*`` answers None, or the failure as people read it."""

    def __init__(self, judged: Judged, report: Path, call_seconds: float = CALL_SECONDS) -> None:
        self._judged = judged
        self._report = report
        self._losses = 0
        self._apart = Apart(self._begin, call_seconds)
        self._hurried = call_seconds / 3  # for one that has been lost before: if it hangs, it is to be told soon

    def __enter__(self) -> Self:
        """Begin; raises HostError when this host cannot run what is judged, DataplaneError when it does not start."""
        self._apart.call(_begun)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apart.__exit__(kind, error, trace)

    def hold_case(self, case: Case) -> str | None:
        """Hold a hand-written case."""
        try:
            return self._call(_hold_case, case)
        except DataplaneError as error:
            return self._story(case.id, case.title, error)

    def hold_generated(self, draws: Draws, profile: str, topology: Topology | None) -> Drawn:
        """Hold as many generated scenarios of that kind as the profile says."""
        try:
            return self._call(_hold_generated, draws, profile, topology)
        except DataplaneError as error:
            return Drawn(1, "", self._story(draws.id, "some generated scenario", error))

    def hold_shipped(self) -> Drawn:
        """Hold every policy that is shipped, with flows in all its regions."""
        try:
            return self._call(_hold_shipped)
        except DataplaneError as error:
            return Drawn(1, "", self._story(SHIPPED.id, SHIPPED.title, error))

    def hold_changes(self, profile: str, topology: Topology | None) -> Drawn:
        """Hold as many courses of changes as the profile says."""
        try:
            return self._call(_hold_changes, profile, topology)
        except DataplaneError as error:
            return Drawn(1, "", self._story(CHANGES, "some generated change", error))

    def hold_talks(self, profile: str, topology: Topology | None) -> Drawn:
        """Hold as many drawn conversations as the profile says."""
        try:
            return self._call(_hold_talks, profile, topology)
        except DataplaneError as error:
            return Drawn(1, "", self._story(TALKS, "some generated conversation", error))

    def hold_promise(self, promise: str) -> str | None:
        """Hold a promise of the contract, by its id."""
        title = next(each.title for each in PROMISES if each.id == promise)
        try:
            return self._call(_hold_promise, promise)
        except DataplaneError as error:
            return self._story(promise, title, error)

    def _story(self, expectation: str, title: str, error: DataplaneError) -> str:
        return f"FAILED {expectation}: {title}\ndataplane {self._judged.name}\na plugin failed: {error}"

    def _call(self, function: Callable[Concatenate[_Seat, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        if self._losses == MAX_LOSSES:
            raise DataplaneError(f"not asked any more, after it ended or hung its process {MAX_LOSSES} times")
        try:
            return self._apart.call(function, *args, **kwargs)
        finally:
            if not self._apart.alive:
                self._losses += 1
                self._apart.limit = self._hurried

    @contextmanager
    def _begin(self) -> Iterator[_Seat]:
        """Try whether anything can be had here at all, and open the pool of labs."""
        with Harness(load_topology("one-node"), self._judged.dataplane, self._judged.accelerators):
            pass
        with Pool(self._judged.accelerators) as pool:
            yield _Seat(Judge(pool, self._report), self._judged)


@dataclass(frozen=True, slots=True)
class _Seat:
    """What works in the process of the plugins."""

    judge: Judge
    judged: Judged


def _begun(seat: _Seat) -> None:
    """Nothing: that there is a seat is the answer."""


def _hold_case(seat: _Seat, case: Case) -> str | None:
    return seat.judge.hold_case(case, seat.judged.dataplane)


def _hold_promise(seat: _Seat, promise: str) -> str | None:
    return next(each for each in PROMISES if each.id == promise).broken(seat.judged)


def _hold_changes(seat: _Seat, profile: str, topology: Topology | None) -> Drawn:
    changing = Changing(seat.judge, seat.judged.dataplane)
    failure = changing.hold(profile, topology)
    return Drawn(changing.seen["courses"], changing.summary(), failure)


def _hold_talks(seat: _Seat, profile: str, topology: Topology | None) -> Drawn:
    talking = Talking(seat.judge, seat.judged.dataplane)
    failure = talking.hold(profile, topology)
    return Drawn(talking.seen["scenarios"], talking.summary(), failure)


def _hold_generated(seat: _Seat, draws: Draws, profile: str, topology: Topology | None) -> Drawn:
    run = Generated(seat.judge, seat.judged.dataplane, draws)
    return _drawn(run, run.hold(profile, topology))


def _hold_shipped(seat: _Seat) -> Drawn:
    run = Generated(seat.judge, seat.judged.dataplane, SHIPPED)
    return _drawn(run, run.hold_shipped())


def _drawn(run: Generated, failure: str | None) -> Drawn:
    regions = run.coverage.to_dict() if run.coverage.regions else None
    return Drawn(run.seen["scenarios"], run.summary(), failure, regions)
