# SPDX-License-Identifier: Apache-2.0
"""``policylab conformance``: the main job, every expectation held against every dataplane."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from dataplanes.api import Accelerator, Dataplane
from dataplanes.registry import dataplane_names, load_accelerator, load_dataplane
from lab.cli.options import FilePath, accelerator_option
from lab.conformance.apart import CALL_SECONDS, Apart
from lab.conformance.choice import Choice
from lab.conformance.generate import scenarios
from lab.conformance.harness import Harness
from lab.conformance.judged import combinations
from lab.conformance.record import Record, Report, worst
from lab.conformance.run import Request, run_conformance
from lab.fabric.machine.kernels import KERNELS
from lab.report.files import prepare_directory, write_json
from lab.report.matrix import matrix_lines, progress_line, verdict_lines
from lab.report.terminal import say
from lab.topology import Topology
from lab.topology.load import load_topology

__all__ = ["conformance"]

EXIT_NOT_CONFORMANT = 1
_JOBS_A_CPU = 2
"""While one waits for the kernel, which takes half of the time, another one works."""
_MOST_JOBS = 8


@click.command(short_help="Hold dataplanes to every expectation; the main job.")
@click.option(
    "--dataplane", "dataplanes", multiple=True, metavar="NAME", help="A dataplane to judge; default: all installed."
)
@accelerator_option
@click.option(
    "--topology",
    type=FilePath(),
    help="Generate policies and flows in this topology, in place of generated ones.",
)
@click.option(
    "--profile",
    type=click.Choice(["dev", "ci", "nightly"]),
    help="How much to generate; default: ci where CI is set in the environment, else dev.",
)
@click.option(
    "--report",
    type=FilePath(file_okay=False),
    default=Path("policylab-report"),
    show_default=True,
    help="Where report.json, junit.xml and the bundles of what failed are written.",
)
@click.option("--level", type=click.Choice(["core", "extended"]), help="Only expectations of this level; default: all.")
@click.option(
    "--only",
    metavar="WORDS",
    help="Only expectations whose ids hold these words, with and, or, not between them.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    type=click.Choice(list(KERNELS)),
    help="Run in a virtual machine with this Debian kernel (repeatable), in place of this host's kernel.",
)
@click.option(
    "--call-seconds",
    type=click.FloatRange(min=1),
    default=CALL_SECONDS,
    show_default=True,
    help="A plugin that takes longer for one call (start, apply, stop, ...) hangs.",
)
@click.option(
    "--tests",
    multiple=True,
    type=FilePath(),
    help="With --kernel: pytest files of a checkout that are run in each machine, too (repeatable).",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="How many processes hold expectations, each in labs of its own; default: two a CPU, at most 8.",
)
@click.option("--allow-partial", is_flag=True, help="End 0 when a core capability is merely not declared.")
def conformance(
    dataplanes: tuple[str, ...],
    accelerators: tuple[str, ...],
    topology: Path | None,
    profile: str | None,
    report: Path,
    level: str | None,
    only: str | None,
    kernels: tuple[str, ...],
    call_seconds: float,
    tests: tuple[Path, ...],
    jobs: int | None,
    allow_partial: bool,
) -> None:
    """Hold dataplanes to every expectation, with real packets, and print the matrix.

    Each is judged alone, and once more with all accelerators that are named: they may change no verdict.
    With --kernel the matrix has a column for each dataplane on each kernel; there an accelerator is judged by itself,
    before the last dataplane that is named, and by what proves that it was at work.
    """
    names = dataplanes or dataplane_names()
    if only is not None:
        Choice(only).check([each.name for each in combinations(names, accelerators)])
    given = None if topology is None else load_topology(topology)
    scenarios(given)  # a topology in which nothing can be asked says so now
    before = [*map(load_accelerator, accelerators)]
    for name in names:
        dataplane = load_dataplane(name)
        if not kernels:
            _try(given or load_topology("one-node"), dataplane, before, call_seconds)
    prepare_directory(report)
    chosen = profile or ("ci" if os.environ.get("CI") else "dev")
    jobs = jobs or (1 if kernels else min(_JOBS_A_CPU * len(os.sched_getaffinity(0)), _MOST_JOBS))
    request = Request(tuple(names), accelerators, chosen, topology, level, only, call_seconds, jobs)
    if tests and not kernels:
        raise click.UsageError("--tests are run in machines: name a --kernel")
    result = (
        _on_kernels(kernels, request, tests, report) if kernels else run_conformance(request, report.resolve(), _tell)
    )
    say("\n".join(("", *matrix_lines(result), "", *verdict_lines(result))))
    say(f"report: {report}")
    verdict = worst([result.result(name) for name in result.dataplanes])
    if verdict == "failure" or (verdict == "partial" and not allow_partial):
        raise click.exceptions.Exit(EXIT_NOT_CONFORMANT)


def _on_kernels(kernels: tuple[str, ...], request: Request, tests: tuple[Path, ...], directory: Path) -> Report:
    # Neither needed nor imported where the host's own kernel is judged.
    from lab.conformance.kernel_jobs import FilesRun, requests_of
    from lab.conformance.kernel_matrix import run_on_kernels

    result = run_on_kernels(kernels, [*requests_of(request), *map(FilesRun, tests)], request.profile, directory, say)
    write_json(directory / "report.json", result.to_dict())
    return result


def _try(
    topology: Topology, dataplane: type[Dataplane], accelerators: Sequence[type[Accelerator]], call_seconds: float
) -> None:
    """Build one lab: a host that cannot hold it says so once, and not in every expectation."""
    with Apart(lambda: Harness(topology, dataplane, accelerators), call_seconds) as apart:
        apart.call(Harness.evidence)


def _tell(record: Record) -> None:
    """Show an outcome as it comes, a failure with its whole story."""
    say(progress_line(record))
    if record.word == "failed":
        say(f"\n{record.detail}\n")
