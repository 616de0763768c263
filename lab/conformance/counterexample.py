# SPDX-License-Identifier: Apache-2.0
"""From a failing scenario to what a person needs: the smallest example, its bundle, and how often it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dataplanes.api import Dataplane
from lab.conformance.bundle import CAPTURE, Bundle, write_bundle
from lab.conformance.pool import Outcome, Pool
from lab.conformance.scenario import Scenario
from lab.conformance.shrink import DEFAULT_SECONDS, shrink
from lab.errors import LabError
from lab.traffic.capture import Recorder

__all__ = ["REPEATS", "Counterexample", "investigate"]

REPEATS = 5
"""How often a counterexample is run again, to tell a fault that is always there from one that comes and goes."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest scenario found that still fails, and where its bundle lies."""

    bundle: Bundle
    directory: Path
    outcome: Outcome
    failed: int
    """How often of REPEATS it failed when run again."""
    alone: Outcome | None = None
    """What the dataplane gave without its accelerators' help; None where there are none."""


def investigate(
    pool: Pool,
    dataplane: type[Dataplane],
    bundle: Bundle,
    directory: Path,
    seconds: float = DEFAULT_SECONDS,
) -> Counterexample:
    """Shrink the bundle's scenario for ``seconds``, run it again with a recorder, and save all that explains it.

    What an earlier bundle left in ``directory`` goes.
    """
    first = pool.run(bundle.scenario, dataplane)
    fails = _same_fault(pool, dataplane, first)
    # Less traffic makes fewer counters grow, so what lacks only evidence cannot be cut down.
    whole = first.conformant or first.kinds == {"evidence"}
    kept = replace(bundle, scenario=bundle.scenario if whole else shrink(bundle.scenario, fails, seconds))
    shutil.rmtree(directory, ignore_errors=True)
    saved, failed = None, 0
    alone = None
    with pool.fresh() as fresh:  # as ``policylab replay`` will run it
        for _ in range(REPEATS):
            recorder = None if failed else Recorder()
            outcome = fresh.run(kept.scenario, dataplane, recorder, directory=directory)
            failed += not outcome.conformant
            if recorder is not None:
                saved = outcome
                write_bundle(directory, kept, outcome, fresh.evidence(kept.scenario, dataplane))
                recorder.write(directory / CAPTURE)
        if pool.accelerators:
            alone = fresh.run(replace(kept.scenario, evidence=()), dataplane, unaccelerated=True)
    assert saved is not None  # noqa: S101  (the first repetition is recorded)
    return Counterexample(kept, directory, saved, failed, alone)


def _same_fault(pool: Pool, dataplane: type[Dataplane], first: Outcome) -> Callable[[Scenario], bool]:
    """Whether a smaller scenario loads and still shows a fault of the first one's kind, in a fresh lab too.

    A dataplane may fail for what earlier candidates left behind in it, and then fails with any.
    """

    def shows(labs: Pool, candidate: Scenario) -> bool:
        try:
            return bool(labs.run(candidate, dataplane).kinds & first.kinds)
        except LabError:
            return False  # what was cut away was needed for the files to be valid

    def fails(candidate: Scenario) -> bool:
        if not shows(pool, candidate):
            return False
        with pool.fresh() as fresh:
            return shows(fresh, candidate)

    return fails
