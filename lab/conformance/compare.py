# SPDX-License-Identifier: Apache-2.0
"""Several dataplanes, the same packets: what each did with them, and where they differ, whoever is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dataplanes.api import Capability
from lab.conformance.apart import Apart
from lab.conformance.case import Case
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.pool import Pool
from lab.conformance.results import Observed, Row
from lab.errors import DataplaneError, NoLabError
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

__all__ = ["Comparison", "Vector", "compare_cases", "compare_files"]

_Rows = Mapping[str, Sequence[Row]]
"""By case; "" where there is none."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A flow with what the oracle expects, and what each dataplane did; None where it failed altogether.

    ``case`` is the expectation that it is from; ``unconfirmed``: what the oracle says of it was never seen upstream.
    """

    row: Row
    observed: Mapping[str, Observed | None]
    case: str | None = None
    unconfirmed: bool = False

    @property
    def differs(self) -> bool:
        """Whether two dataplanes that did anything did different things."""
        return len({word for word in self.observed.values() if word is not None}) > 1

    @property
    def wrong(self) -> tuple[str, ...]:
        """The dataplanes that did what the oracle does not expect; nobody's, where it is not sure itself."""
        if self.unconfirmed:
            return ()
        return tuple(name for name, word in self.observed.items() if word not in (None, self.row.expected))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of all vectors, and how dataplanes failed that did."""

    dataplanes: tuple[str, ...]
    vectors: tuple[Vector, ...]
    failures: Mapping[str, str]

    @property
    def differing(self) -> tuple[Vector, ...]:
        """The vectors on which dataplanes differ."""
        return tuple(vector for vector in self.vectors if vector.differs)

    @property
    def wrong(self) -> tuple[Vector, ...]:
        """The vectors of which some dataplane did what the oracle does not expect."""
        return tuple(vector for vector in self.vectors if vector.wrong)

    def pairs(self) -> Mapping[tuple[str, str], int]:
        """On how many vectors each two dataplanes differ."""
        return {
            (one, other): sum(
                None not in (words := {vector.observed[one], vector.observed[other]}) and len(words) > 1
                for vector in self.vectors
            )
            for one, other in combinations(self.dataplanes, 2)
        }


def compare_files(
    judged: Sequence[Judged], topology: Topology, resources: Resources, flows: Sequence[Flow]
) -> Comparison:
    """Send the same flows through each dataplane, one after the other, each in a lab of its own."""

    def rows(each: Judged) -> _Rows:
        with Apart(lambda: Harness(topology, each.dataplane, each.accelerators)) as apart:
            return {"": apart.call(Harness.verify, resources, flows).rows}

    given, failures = _try_all(judged, rows)
    return _comparison(judged, [Vector(*pair) for pair in _side_by_side("", given, failures)], failures)


def compare_cases(judged: Sequence[Judged], cases: Sequence[Case]) -> Comparison:
    """Hold the same cases against each dataplane, as far as all of them declare what the cases need.

    Cases whose lab this host cannot have are left out.
    """
    declared = frozenset[Capability].intersection(*(each.capabilities for each in judged))
    met = [found for case in cases if (found := case.within(declared)) is not None]

    def rows(each: Judged) -> _Rows:
        with Apart(lambda: _Cases(each)) as apart:
            return {case.id: found for case in met if (found := apart.call(_Cases.rows, case)) is not None}

    given, failures = _try_all(judged, rows)
    vectors = [
        Vector(*pair, case.id, case.unconfirmed) for case in met for pair in _side_by_side(case.id, given, failures)
    ]
    return _comparison(judged, vectors, failures)


def _comparison(judged: Sequence[Judged], vectors: Sequence[Vector], failures: Mapping[str, str]) -> Comparison:
    return Comparison(tuple(each.name for each in judged), tuple(vectors), failures)


class _Cases(Pool):
    """The labs of one dataplane, in which cases are played."""

    def __init__(self, judged: Judged) -> None:
        super().__init__(judged.accelerators)
        self._dataplane = judged.dataplane

    def rows(self, case: Case) -> tuple[Row, ...] | None:
        """What a case gives, step by step; None where this host cannot have its lab.

        Raises DataplaneError when the dataplane fails.
        """
        rows: list[Row] = []
        for number in range(len(case.steps)):
            try:
                outcome = self.run(case.scenario(number), self._dataplane)
            except NoLabError:
                return None
            if outcome.error is not None:
                raise outcome.error
            rows += outcome.results.rows
        return tuple(rows)


def _try_all(
    judged: Sequence[Judged], rows: Callable[[Judged], _Rows]
) -> tuple[Mapping[str, _Rows], Mapping[str, str]]:
    """What each dataplane gave, and how those failed that did, both by name."""
    given: dict[str, _Rows] = {}
    failures: dict[str, str] = {}
    for each in judged:
        try:
            given[each.name] = rows(each)
        except DataplaneError as error:
            failures[each.name] = str(error)
    return given, failures


def _side_by_side(
    case: str, given: Mapping[str, _Rows], failures: Mapping[str, str]
) -> Iterator[tuple[Row, Mapping[str, Observed | None]]]:
    """The rows of a case with what each dataplane did; none, unless all that gave anything have played it."""
    if not given or not all(case in rows for rows in given.values()):
        return
    for same in zip(*(rows[case] for rows in given.values()), strict=True):
        seen: dict[str, Observed | None] = dict.fromkeys(failures)
        yield same[0], seen | {name: row.observed for name, row in zip(given, same, strict=True)}
