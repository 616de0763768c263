# SPDX-License-Identifier: Apache-2.0
"""``policylab bench``: two things measured side by side in one run, as ratios."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import click

from lab.report.files import prepare_directory, write_json
from lab.report.plots import write_plots
from lab.report.terminal import complain, say

__all__ = ["bench"]

BENCHMARKS = {
    "dos": "lab.bench.dos",
    "lab": "lab.bench.fabric",
    "scale": "lab.bench.scale",
    "sidecar": "lab.bench.sidecar",
    "verdicts": "lab.bench.verdicts",
}
WITH_MORE = {"dos": "USUAL", "sidecar": "CELLS"}
"""Benchmarks that take minutes, and so tell how far they are; what as much as usual is called there. FULL is more."""

DEFAULT_REPORT = Path("policylab-report")
"""Made only when there is something to write; one that the user names is made, and tried, before the run."""


@click.command(short_help="Measure two things side by side, as ratios.")
@click.argument("what", type=click.Choice(sorted(BENCHMARKS)))
@click.option(
    "--rounds", type=click.IntRange(min=1, max=1000), default=7, show_default=True, help="Interleaved rounds."
)
@click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form of the results."
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    show_default=str(DEFAULT_REPORT),
    help="Where bench-WHAT.json and its plots (SVG) are written.",
)
@click.option("--full", is_flag=True, help=f"All there is to measure, however long: {', '.join(WITH_MORE)}.")
def bench(what: str, rounds: int, output: str, report: Path | None, *, full: bool) -> None:
    """Measure WHAT on this machine; only the ratios carry over to others."""
    if full and what not in WITH_MORE:
        raise click.UsageError(f"bench {what} measures all that it can; --full is for {', '.join(WITH_MORE)}")
    if report is not None:
        prepare_directory(report)
    module = import_module(BENCHMARKS[what])
    if what in WITH_MORE:
        result = module.run(rounds, module.FULL if full else getattr(module, WITH_MORE[what]), complain)
    else:
        result = module.run(rounds)
    told = result.to_dict()
    say(json.dumps(told, indent=1) if output == "json" else "\n".join(result.table()))
    report = report or DEFAULT_REPORT
    prepare_directory(report)
    write_json(report / f"bench-{what}.json", told)
    drawn = ", ".join(file.name for file in write_plots(told, report))
    complain(f"{report}: bench-{what}.json, {drawn}")
