# SPDX-License-Identifier: Apache-2.0
"""From a failing scenario to what a person needs: the smallest example, its bundle, and how often it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dataplanes.api import Dataplane
from lab.conformance.bundle import CAPTURE, Bundle, write_bundle
from lab.conformance.patience import Patience
from lab.conformance.pool import Outcome, Pool
from lab.conformance.scenario import Scenario
from lab.conformance.shrink import shrink
from lab.errors import LabError
from lab.traffic.capture import Recorder

__all__ = ["REPEATS", "Counterexample", "Failing", "investigate"]

REPEATS: Final = 5
"""How often a counterexample is run again, to tell a fault that is always there from one that comes and goes."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A scenario with what it gave when it failed."""

    bundle: Bundle
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest scenario found that still fails, and where its bundle lies."""

    bundle: Bundle
    directory: Path
    outcome: Outcome
    failed: int
    """How often of ``repeats`` it failed when run again."""
    repeats: int
    """0: it was not run again, because there is no patience left and the plugin itself had raised an error."""
    alone: Outcome | None = None
    """What the dataplane gave without its accelerators' help; None where there are none, or where nobody looked."""


def investigate(
    pool: Pool, dataplane: type[Dataplane], failing: Failing, directory: Path, patience: Patience
) -> Counterexample:
    """Shrink a scenario, run it again with a recorder, and save all that explains it.

    Where there is no patience left, it is saved as it stands, after one repetition in the lab where it failed.
    What an earlier bundle left in ``directory`` goes.
    """
    bundle, first = failing.bundle, failing.outcome
    if first.error is not None and not patience.thorough:
        return _as_it_stands(failing, directory)
    # Less traffic makes fewer counters grow, so what lacks only evidence cannot be cut down.
    whole = first.conformant or first.kinds == {"evidence"}
    fails = _same_fault(pool, dataplane, first)
    kept = replace(bundle, scenario=bundle.scenario if whole else shrink(bundle.scenario, fails, patience.seconds))
    shutil.rmtree(directory, ignore_errors=True)
    thorough, repeats = patience.thorough, REPEATS if patience.thorough else 1
    saved, failed = None, 0
    alone = None
    with pool.fresh() if thorough else nullcontext(pool) as labs:  # a fresh one: as ``policylab replay`` will run it
        for _ in range(repeats):
            recorder = None if failed else Recorder()
            outcome = labs.run(kept.scenario, dataplane, recorder, directory=directory)
            failed += not outcome.conformant
            if recorder is not None:
                saved = outcome = replace(outcome, trails=_trails(recorder, outcome))
                write_bundle(directory, kept, outcome, labs.evidence(kept.scenario, dataplane))
                recorder.write(directory / CAPTURE)
        if pool.accelerators and thorough:
            alone = labs.run(replace(kept.scenario, evidence=()), dataplane, unaccelerated=True)
    assert saved is not None  # noqa: S101  (the first repetition is recorded)
    if not failed:  # it came and went: what was seen of it is all that there is to tell
        kept, saved = bundle, first
        write_bundle(directory, kept, saved, {})
    return Counterexample(kept, directory, saved, failed, repeats, alone)


def _trails(recorder: Recorder, outcome: Outcome) -> tuple[tuple[str, ...], ...]:
    """Where each packet was seen; requests and conversations are more than one packet, and have none."""
    trails = recorder.trails()
    single = all(row.flow.http is None and row.packet is None for row in outcome.results.rows)
    return tuple(trails) if single and len(trails) == len(outcome.results.rows) else ()


def _as_it_stands(failing: Failing, directory: Path) -> Counterexample:
    """The first outcome, saved: no packet was seen, and none would be."""
    shutil.rmtree(directory, ignore_errors=True)
    write_bundle(directory, failing.bundle, failing.outcome, {})
    Recorder().write(directory / CAPTURE)
    return Counterexample(failing.bundle, directory, failing.outcome, 0, 0)


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
