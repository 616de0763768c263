# SPDX-License-Identifier: Apache-2.0
"""What every benchmark reports: medians with their range, and ratios of what was measured side by side.

Only ratios carry over from one machine or day to the next; so the things compared take turns, round by round, and a
ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import sched_getaffinity
from statistics import median
from typing import Any, Final, Self

from lab.errors import LabError

__all__ = ["LEAST_ROUNDS", "BenchResult", "Row", "Spread", "describe_host", "interleave", "ratio"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, smallest and largest of a sample."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of at least one value."""
        sample = list(values)
        return cls(median(sample), min(sample), max(sample))

    def to_dict(self) -> dict[str, float]:
        """The spread as results print it."""
        return {"median": self.median, "min": self.min, "max": self.max}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, in ``unit``; ``details`` are further fields of its row, such as its size.

    Rows with the same ``line`` and different ``series`` are one thing measured in several ways: plots show them side
    by side.
    """

    line: str
    unit: str
    spread: Spread
    details: Mapping[str, Any] = field(default_factory=dict)
    series: str = ""

    @property
    def what(self) -> str:
        """What was measured, in which way."""
        return f"{self.line}, {self.series}" if self.series else self.line

    def to_dict(self) -> dict[str, Any]:
        """The row as results print it."""
        ways = {"line": self.line, "series": self.series} if self.series else {}
        return {"what": self.what, "unit": self.unit, **ways, **self.details, **self.spread.to_dict()}


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The outcome of one benchmark: rows, and ratios by name."""

    benchmark: str
    host: str
    rounds: int
    rows: tuple[Row, ...]
    ratios: Mapping[str, Spread]

    def to_dict(self) -> dict[str, Any]:
        """The result in the project's benchmark format."""
        return {
            "benchmark": self.benchmark,
            "host": self.host,
            "rounds": self.rounds,
            "rows": [row.to_dict() for row in self.rows],
            "ratios": {name: spread.to_dict() for name, spread in self.ratios.items()},
        }

    def table(self) -> Iterator[str]:
        """The same for people, line by line."""
        yield f"bench {self.benchmark}: {self.rounds} interleaved rounds on {self.host}"
        lines = [(row.what, row.spread, row.unit) for row in self.rows]
        lines += [(name, spread, "times") for name, spread in self.ratios.items()]
        width = max(len(what) for what, _, _ in lines)
        yield f"{'':{width}}  {'median':>12}  {'min':>12}  {'max':>12}"
        for what, spread, unit in lines:
            figures = "  ".join(f"{_readable(value):>12}" for value in (spread.median, spread.min, spread.max))
            yield f"{what:{width}}  {figures}  {unit}"


LEAST_ROUNDS: Final = 5
"""Fewer say little of how far figures go apart."""


def interleave(
    rounds: int, measured: Mapping[str, Callable[[], float]], until: float = math.inf
) -> dict[str, list[float]]:
    """Measure all things once a round, so many rounds; each callable does its work and returns the figure.

    Every other round runs backwards, so that what comes after what evens out. The figures are by name, in the
    order of the rounds. After ``until`` (of ``time.monotonic``) no round begins, once there are LEAST_ROUNDS.
    """
    if rounds < 1:
        raise LabError("no round to measure", value=rounds, allowed="1 or more")
    figures: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(rounds):
        if turn >= LEAST_ROUNDS and time.monotonic() > until:
            break
        names = list(measured)[:: 1 if turn % 2 == 0 else -1]
        for name in names:
            figures[name].append(measured[name]())
    return figures


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """How many times larger one thing is than the other, round by round."""
    return Spread.of(high / low for high, low in zip(over, under, strict=True))


def describe_host() -> str:
    """The machine in a few words, without its name."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, {len(sched_getaffinity(0))} CPUs, Python {platform.python_version()}"


def _readable(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
