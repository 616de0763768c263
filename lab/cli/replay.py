# SPDX-License-Identifier: Apache-2.0
"""``policylab replay``: run a saved counterexample again."""

from __future__ import annotations

from pathlib import Path

import click

from dataplanes.registry import load_accelerator, load_dataplane
from lab.cli.options import FilePath
from lab.conformance.apart import Apart
from lab.conformance.bundle import read_bundle
from lab.conformance.failure import grid
from lab.conformance.judged import combined_name
from lab.conformance.pool import Outcome, Pool
from lab.conformance.scenario import Scenario
from lab.report.terminal import say

__all__ = ["replay"]

EXIT_NOT_CONFORMANT = 1


@click.command(short_help="Run a saved counterexample again.")
@click.argument("bundle", type=FilePath())
@click.option("--dataplane", "dataplane_name", metavar="NAME", help="Judge this one instead of the bundle's own.")
@click.option("--times", type=click.IntRange(min=1), default=1, show_default=True, help="How often to run it.")
def replay(bundle: Path, dataplane_name: str | None, times: int) -> None:
    """Run the counterexample in a BUNDLE again; end 1 when it still fails."""
    saved = read_bundle(bundle)
    dataplane = load_dataplane(dataplane_name or saved.dataplane)
    failed = 0
    before = [load_accelerator(name) for name in saved.accelerators]
    say(f"{saved.expectation} with {combined_name(dataplane.name, saved.accelerators)}")
    with Apart(lambda: Pool(before)) as apart:
        for _ in range(times):
            outcome = apart.call(_again, saved.scenario, dataplane_name or saved.dataplane)
            failed += not outcome.conformant
            if outcome.error is not None:
                say(f"a plugin failed: {outcome.error}")
            for reason in outcome.unmet:
                say(f"evidence: {reason}")
            for line in grid(outcome):
                say(line)
    say(f"failed {failed} of {times} times")
    if failed:
        raise click.exceptions.Exit(EXIT_NOT_CONFORMANT)


def _again(pool: Pool, scenario: Scenario, dataplane: str) -> Outcome:
    return pool.run(scenario, load_dataplane(dataplane))
