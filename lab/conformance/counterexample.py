# SPDX-License-Identifier: Apache-2.0
"""From a failing scenario to what a person needs: the smallest example, its bundle, and how often it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dataplanes.api import Dataplane
from lab.conformance.bundle import CAPTURE, Bundle, write_bundle
from lab.conformance.pool import Outcome, Pool
from lab.conformance.scenario import Scenario
from lab.conformance.shrink import shrink
from lab.errors import LabError
from lab.traffic.capture import Recorder

__all__ = ["REPEATS", "Counterexample", "investigate"]

REPEATS = 5
"""How often a counterexample is run again, to tell a fault that is always there from one that comes and goes."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest scenario found that still fails, and where its bundle lies."""

    bundle: Bundle
    title: str
    directory: Path
    outcome: Outcome
    failed: int
    """How often of REPEATS it failed when run again."""


def investigate(pool: Pool, dataplane: type[Dataplane], bundle: Bundle, title: str, directory: Path) -> Counterexample:
    """Shrink the bundle's scenario, run it again with a recorder, and save all that explains it."""
    first = pool.run(bundle.scenario, dataplane)
    smallest = bundle.scenario if first.conformant else shrink(bundle.scenario, _same_fault(pool, dataplane, first))
    kept = replace(bundle, scenario=smallest)
    runs = []
    for _ in range(REPEATS):
        recorder = Recorder()
        runs.append((pool.run(smallest, dataplane, recorder, directory=directory), recorder))
    failures = [run for run in runs if not run[0].conformant]
    outcome, recorder = (failures or runs)[-1]
    write_bundle(directory, kept, outcome, pool.evidence(smallest, dataplane))
    recorder.write(directory / CAPTURE)
    return Counterexample(kept, title, directory, outcome, len(failures))


def _same_fault(pool: Pool, dataplane: type[Dataplane], first: Outcome) -> Callable[[Scenario], bool]:
    """Whether a smaller scenario loads and still shows a fault of the first one's kind."""

    def fails(candidate: Scenario) -> bool:
        try:
            return bool(pool.run(candidate, dataplane).kinds & first.kinds)
        except LabError:
            return False  # what was cut away was needed for the files to be valid

    return fails
