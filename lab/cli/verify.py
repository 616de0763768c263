# SPDX-License-Identifier: Apache-2.0
"""``policylab verify``: build the lab, apply, send every flow, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dataplanes.registry import load_accelerator, load_dataplane
from lab.cli.options import (
    FilePath,
    accelerator_option,
    flows_option,
    lenient_option,
    output_option,
    read_question,
    resource_arguments,
    topology_argument,
)
from lab.conformance.apart import Apart
from lab.conformance.harness import Harness
from lab.conformance.results import Results
from lab.policy.resources import Resources
from lab.report.files import prepare_directory
from lab.report.table import print_results
from lab.report.terminal import complain
from lab.topology import Flow

if TYPE_CHECKING:
    from lab.conformance.pool import Pool

__all__ = ["verify"]

EXIT_NOT_CONFORMANT = 1
SHRINK_SECONDS: Final = 20.0
"""One counterexample is all that this looks for, so it may take longer than one of many."""
DEFAULT_REPORT = Path("policylab-report")
"""Made only when there is something to write; one that the user names is made, and tried, before the run."""


@click.command(short_help="Compare a real lab with what is expected.")
@topology_argument
@resource_arguments
@click.option("--dataplane", "dataplane_name", required=True, metavar="NAME", help="The dataplane to be judged.")
@accelerator_option
@flows_option
@lenient_option
@output_option
@click.option(
    "--report",
    type=FilePath(file_okay=False),
    show_default=str(DEFAULT_REPORT),
    help="Where the bundle of a counterexample is written.",
)
def verify(
    topology: Path,
    resources: tuple[Path, ...],
    dataplane_name: str,
    accelerators: tuple[str, ...],
    flows_file: Path | None,
    *,
    lenient: bool,
    output: str,
    report: Path | None,
) -> None:
    """Send every flow through a real lab and compare what arrives with what the oracle expects."""
    question = read_question(topology, resources, flows_file, lenient=lenient)
    dataplane = load_dataplane(dataplane_name)
    before = [load_accelerator(name) for name in accelerators]
    if report is not None:
        prepare_directory(report)
    with Apart(lambda: Harness(question.topology, dataplane, before)) as apart:
        results, unproven = apart.call(_verified, question.resources, question.flows)
    print_results(results, output)
    if apart.printed:
        complain(apart.printed)
    for each in unproven:
        complain(f"policylab: accelerated in name only: {each}")
    if results.conformant:
        if unproven:
            raise click.exceptions.Exit(EXIT_NOT_CONFORMANT)
        return
    report = report or DEFAULT_REPORT
    prepare_directory(report)
    # The rest is for the one who has to mend it, and not needed (nor imported) as long as all is well.
    from lab.conformance.pool import Pool

    with Apart(lambda: Pool(before)) as labs:
        complain(labs.call(_story, (topology, resources), results, dataplane_name, report))
    raise click.exceptions.Exit(EXIT_NOT_CONFORMANT)


def _verified(harness: Harness, resources: Resources, flows: Sequence[Flow]) -> tuple[Results, tuple[str, ...]]:
    """The results, and what accelerators claim and have not done."""
    return harness.verify(resources, flows), harness.unproven


def _story(pool: Pool, files: tuple[Path, tuple[Path, ...]], results: Results, dataplane: str, report: Path) -> str:
    from lab.conformance.judge import Judge
    from lab.conformance.mismatch import tell_mismatch
    from lab.conformance.patience import Patience

    return tell_mismatch(*files, results, load_dataplane(dataplane), Judge(pool, report, Patience(each=SHRINK_SECONDS)))
