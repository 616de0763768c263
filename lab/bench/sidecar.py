# SPDX-License-Identifier: Apache-2.0
"""Sidecars and sockets side by side: by TCP, in the map, accelerated, and redirected without conditions.

Loads take turns on all arms, round by round. Each is sent twice: as fast as answers come, for answers a second and what
each takes; and at half of what plain TCP manages, at fixed times, for latencies in which no stall is left out. All
of it runs ahead of whatever else the machine has to do.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import geometric_mean, mean, median
from tempfile import TemporaryDirectory
from typing import Final

from lab.bench.priority import ahead_of_others
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.bench.sidecar_arms import ARMS, PORTS, Arm, Cell, Figures, Running, Way, open_arm
from lab.bench.sidecar_load import Load, Outcome, Protocol, compiled_load
from lab.errors import HostError
from lab.topology import Topology
from lab.topology.load import load_topology

__all__ = ["CELLS", "FULL", "run"]

_SIZES: Final = (64, 1024, 16384, 131072, 1 << 20)
_CONNECTIONS: Final = (1, 16, 256)
_SECONDS: Final = 0.1
_TRIAL_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 3.0
_SLICES: Final = 3
"""In a round each arm has so many turns of so many seconds: what else the machine does then hits all of them."""
_SLICES_OF_RATIOS: Final = 6
"""The same where ratios are asked for: what is judged by one number is worth twice the time."""
_PART_OF_PLAIN: Final = 0.5

_CHOSEN: Final[tuple[tuple[Way, Protocol, int, int], ...]] = (
    ("loopback", "tcp", 64, 1),
    ("loopback", "tcp", 64, 16),
    ("veth", "tcp", 64, 1),
    ("veth", "tcp", 64, 16),
    ("veth", "tcp", 16384, 16),
    ("veth", "stream", 65536, 1),
    ("envoy", "tcp", 64, 1),
    ("envoy", "tcp", 64, 16),
    ("envoy", "tcp", 16384, 16),
    ("envoy", "stream", 16384, 1),
    ("envoy", "http1", 64, 1),
    ("envoy", "http1", 64, 16),
    ("envoy", "http1", 16384, 16),
    ("envoy", "http1", 1 << 20, 1),
    ("envoy", "http2", 64, 16),
)
CELLS: Final = tuple(Cell(way, Load(protocol, size, number)) for way, protocol, size, number in _CHOSEN)
"""What is measured unless everything is asked for: it ends within 15 minutes."""

_WAYS: Final[Mapping[Way, tuple[Protocol, ...]]] = {
    "loopback": ("tcp",),
    "veth": ("tcp", "stream"),
    "envoy": ("tcp", "stream", "http1", "http2"),
}
FULL: Final = tuple(
    Cell(way, Load(protocol, size, number))
    for way, protocols in _WAYS.items()
    for protocol in protocols
    for size in _SIZES
    for number in _CONNECTIONS
)
"""All that there is to measure, for hours: the slowest cell (1 MiB x256 through Envoys) took 93 s a round."""

# The ratios that are asked for, each of answers a second: the geometric mean over these cells.
_RATIOS: Final[Mapping[str, tuple[Cell, ...]]] = {
    "plain_loopback": (Cell("loopback", Load("tcp", 64, 1)),),
    "plain_veth": (Cell("veth", Load("tcp", 64, 1)),),
    "envoy_http": (Cell("envoy", Load("http1", 64, 16)),),
    "envoy_tcp": (Cell("envoy", Load("tcp", 64, 16)), Cell("envoy", Load("tcp", 16384, 16))),
}


def run(rounds: int = 7, cells: Sequence[Cell] = CELLS, told: Callable[[str], None] = lambda _: None) -> BenchResult:
    """Measure so many rounds of these cells on every arm; ``told`` hears after each cell how far it is.

    Raises HostError where there is no Envoy, no C compiler, or what the accelerator needs is missing.
    """
    binary = compiled_load()
    topology = _topology()
    with ahead_of_others(), ExitStack() as stack:
        arms = {name: stack.enter_context(open_arm(name, topology, binary)) for name in ARMS}
        courses = []
        begun = time.monotonic()
        for number, cell in enumerate(cells, start=1):
            courses.append(_Course(cell, arms, rounds))
            left = (time.monotonic() - begun) / number * (len(cells) - number) / 60
            told(f"{number} of {len(cells)}: {cell.name}; about {left:.0f} minutes to go")
    return BenchResult("sidecar", describe_host(), rounds, tuple(_rows(courses)), dict(_ratios(courses)))


class _Course:
    """One cell on all arms, measured as it is made: figures and latencies of each arm, in the order in which they came.

    An arm that fails is named in ``failed`` and has no figures; only the naive one may.
    """

    def __init__(self, cell: Cell, arms: Mapping[str, Arm], rounds: int) -> None:
        self.cell = cell
        self.figures: dict[str, list[Figures]] = defaultdict(list)
        self.latencies: dict[str, list[Outcome]] = defaultdict(list)
        self.rates: dict[str, list[float]] = {}
        self.failed: str | None = None
        with ExitStack() as stack:
            running = {name: stack.enter_context(arm.running(cell)) for name, arm in arms.items()}
            trial = running["plain"].measure(_TRIAL_SECONDS).rate
            self._due = trial * _PART_OF_PLAIN
            # Each connection has its turn a few times in a slice, also where that takes long.
            self._seconds = min(max(_SECONDS, 4 * cell.load.connections / max(trial, 1)), _MOST_SECONDS)
            measured = {name: partial(self._measure, name, each) for name, each in running.items()}
            turns = _SLICES_OF_RATIOS if any(cell in asked for asked in _RATIOS.values()) else _SLICES
            figures = interleave(rounds * turns, measured)
        for name, slices in figures.items():
            if name != self.failed:
                self.rates[name] = [mean(slices[place : place + turns]) for place in range(0, len(slices), turns)]

    @property
    def has_latencies(self) -> bool:
        """Whether there are answers to wait for."""
        return self.cell.load.protocol != "stream"

    def _measure(self, name: str, running: Running) -> float:
        if name == self.failed:
            return 0
        try:
            figures = running.measure(self._seconds)
            if self.has_latencies:
                self.latencies[name].append(running.latencies(self._seconds, self._due))
        except HostError:
            if name != "naive":
                raise
            self.failed = name
            return 0
        self.figures[name].append(figures)
        return figures.rate


def _rows(courses: Sequence[_Course]) -> Iterator[Row]:
    for course in courses:
        load = course.cell.load
        cell = {"way": course.cell.way, "protocol": load.protocol, "size": load.size, "connections": load.connections}
        for arm, rates in course.rates.items():
            figures = course.figures[arm]
            details: dict[str, float | str] = {
                **cell,
                "arm": arm,
                **({"failed": course.failed} if course.failed else {}),
                "cpu_us": round(median(each.cpu for each in figures), 2),
                "stack_bytes": round(median(each.stack_bytes for each in figures)),
                "map_bytes": round(median(each.map_bytes for each in figures)),
            }
            if course.has_latencies:
                seen = course.latencies[arm]
                details |= {
                    "p50_us": median(each.p50 for each in seen),
                    "p99_us": median(each.p99 for each in seen),
                    "p999_us": seen[-1].p999,
                }
            unit = "requests/s" if course.has_latencies else "writes/s"
            yield Row(course.cell.name, unit, Spread.of(rates), details, arm)


def _ratios(courses: Sequence[_Course]) -> Iterator[tuple[str, Spread]]:
    by_cell = {course.cell: course for course in courses}
    for arm in ("sockmap", "naive", "joined"):
        for name, cells in _RATIOS.items():
            asked = [by_cell[cell] for cell in cells if cell in by_cell and arm in by_cell[cell].rates]
            if len(asked) == len(cells):
                yield f"{arm}.{name}", _over_plain([course.rates for course in asked], arm)
        done = [course for course in courses if arm in course.rates]
        if waiting := [course for course in done if course.has_latencies]:
            yield f"{arm}.p99", Spread.of(_slower(course, arm) for course in waiting)
        if done:
            yield f"{arm}.cpu", Spread.of(_costlier(course, arm) for course in done)


def _over_plain(rates: Sequence[Mapping[str, Sequence[float]]], arm: str) -> Spread:
    """Round by round, the geometric mean over cells of how many times plain's answers."""
    rounds = zip(*(zip(each[arm], each["plain"], strict=True) for each in rates), strict=True)
    return Spread.of(geometric_mean(high / low for high, low in each) for each in rounds)


def _slower(course: _Course, arm: str) -> float:
    """How many times plain's 99th percentile, the median of the rounds."""
    latencies = course.latencies
    return ratio([each.p99 for each in latencies[arm]], [each.p99 for each in latencies["plain"]]).median


def _costlier(course: _Course, arm: str) -> float:
    """How many times plain's CPU a request, the median of the rounds."""
    figures = course.figures
    return ratio([each.cpu for each in figures[arm]], [each.cpu for each in figures["plain"]]).median


def _topology() -> Topology:
    """Two workloads with sidecars on a node, with a port for each load."""
    ports = ", ".join(
        f"{{name: {_port_name(protocol)}-{place}, port: {first + place}}}"
        for protocol, first in PORTS.items()
        for place in range(len(_SIZES) * len(_CONNECTIONS))
    )
    text = f"""
name: bench-sidecar
nodes: {{node-1: {{}}}}
namespaces: {{x: {{}}}}
workloads:
  x/client: {{node: node-1, sidecar: envoy}}
  x/server: {{node: node-1, sidecar: envoy, ports: [{ports}]}}
"""
    with TemporaryDirectory(prefix="policylab-") as scratch:
        file = Path(scratch, "topology.yaml")
        file.write_text(text, encoding="utf-8")
        return load_topology(file)


def _port_name(protocol: Protocol) -> str:
    return protocol if protocol in ("http1", "http2") else f"tcp-{protocol}"
