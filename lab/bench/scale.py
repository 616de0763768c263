# SPDX-License-Identifier: Apache-2.0
"""How dataplanes bear more rules: the first apply, a change of one rule, and verdicts a second, at growing sizes.

At each size the dataplanes take turns on one node: apply everything to a bare node, change one rule there and back,
send packets that get past every rule. The verdicts of every round are compared with the oracle's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import mean
from typing import Final

from dataplanes.api import Dataplane, Snapshot, SnapshotDelta
from dataplanes.registry import load_dataplane
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.bench.scale_policies import RULES_A_POLICY, Load, load_of, probes
from lab.bench.verdicts import compare
from lab.fabric.lab import Lab
from lab.oracle import Oracle
from lab.oracle.verdict import Verdict
from lab.policy.compile import Compiler
from lab.policy.resources import Policy
from lab.topology.load import load_topology
from lab.traffic.prober import Prober

__all__ = ["DATAPLANES", "SIZES", "run"]

SIZES: Final = (10, 100, 1000, 10_000)
DATAPLANES: Final = ("iptables", "nftables")
# So many packets get past so many rules in a tenth of a second to a few, whichever the dataplane.
_PACKETS: Final[Mapping[int, int]] = {10: 2000, 100: 2000, 1000: 500, 10_000: 100}
_FULL, _DELTA, _VERDICTS = "apply full", "apply delta", "verdicts"
_UNITS: Final[Mapping[str, str]] = {_FULL: "ms", _DELTA: "ms", _VERDICTS: "verdicts/s"}


def run(rounds: int, sizes: Sequence[int] = SIZES) -> BenchResult:
    """Measure so many rounds at each size.

    Ratios: how many times longer iptables takes, how many times more verdicts nftables gives, and how many times longer
    each takes for a change of one rule at the largest size than at the smallest.
    Raises DataplaneError when a verdict is not the oracle's, HostError when the host cannot hold the lab.
    """
    topology = load_topology("one-node")
    figures: dict[tuple[int, str, str], list[float]] = {}
    with Lab(topology) as lab, Prober(lab) as prober:
        for size in sizes:
            course = _Course(lab, prober, load_of(size, topology))
            interleave(rounds, {name: partial(course.measure, name) for name in DATAPLANES})
            figures |= {(size, name, what): sample for (name, what), sample in course.figures.items()}
    return BenchResult("scale", describe_host(), rounds, tuple(_rows(figures)), _ratios(figures, sizes))


def _rows(figures: Mapping[tuple[int, str, str], list[float]]) -> list[Row]:
    return [
        Row(
            f"{size} rules: {what}",
            _UNITS[what],
            Spread.of(sample),
            {"dataplane": name, "rules": size, "sets": size // RULES_A_POLICY},
            name,
        )
        for (size, name, what), sample in figures.items()
    ]


def _ratios(figures: Mapping[tuple[int, str, str], list[float]], sizes: Sequence[int]) -> dict[str, Spread]:
    slow, quick = DATAPLANES
    ratios: dict[str, Spread] = {}
    for size in sizes:
        for what, over, under in ((_FULL, slow, quick), (_DELTA, slow, quick), (_VERDICTS, quick, slow)):
            ratios[f"{what.replace(' ', '_')}.{size}"] = ratio(figures[size, over, what], figures[size, under, what])
    for name in DATAPLANES:
        smallest, largest = figures[min(sizes), name, _DELTA], figures[max(sizes), name, _DELTA]
        ratios[f"apply_delta.growth.{name}"] = ratio(largest, smallest)
    return ratios


class _Course:
    """What is measured at one size."""

    def __init__(self, lab: Lab, prober: Prober, load: Load) -> None:
        self._lab = lab
        self._prober = prober
        self._flows = probes(lab.topology)
        self._repeats = max(1, _PACKETS.get(load.rules, 100) // len(self._flows))
        self._open, self._closed = (
            Oracle(lab.topology, resources).verdicts(self._flows) for resources in (load.changed, load.resources)
        )
        compiler = Compiler(lab.topology, load.resources)
        (self._node,) = lab.nodes.values()
        self._before = compiler.snapshots()[self._node.name]
        old, new = load.policy
        self._there = self._change(compiler, new)
        self._back = self._change(compiler, old)
        self.figures: dict[tuple[str, str], list[float]] = {(name, what): [] for name in DATAPLANES for what in _UNITS}

    def _change(self, compiler: Compiler, policy: Policy) -> tuple[Snapshot, SnapshotDelta]:
        deltas = compiler.update([policy])
        return compiler.snapshots()[self._node.name], deltas[self._node.name]

    def measure(self, name: str) -> float:
        """Measure a dataplane once, from a bare node to a bare node; returns the milliseconds of the first apply."""
        with ExitStack() as stack:
            plane = load_dataplane(name)(self._node)
            stack.callback(plane.stop)
            plane.start()
            full = _timed(plane, self._before, None)
            there = _timed(plane, *self._there)
            self._verdicts(self._open, 1)
            back = _timed(plane, *self._back)
            rate = self._verdicts(self._closed, self._repeats)
        for what, figure in ((_FULL, full), (_DELTA, mean((there, back))), (_VERDICTS, rate)):
            self.figures[name, what].append(figure)
        return full

    def _verdicts(self, expected: Sequence[Verdict], repeats: int) -> float:
        """Verdicts a second of the engine alone, its frames being ready."""
        volley = self._prober.prepare(self._flows * repeats)
        start = time.perf_counter()
        seen = self._prober.fire(volley)
        spent = time.perf_counter() - start
        compare(volley.flows, list(expected) * repeats, seen)
        return len(volley.flows) / spent


def _timed(plane: Dataplane, snapshot: Snapshot, delta: SnapshotDelta | None) -> float:
    """The milliseconds of an apply."""
    start = time.perf_counter()
    plane.apply(snapshot, delta)
    return (time.perf_counter() - start) * 1000
