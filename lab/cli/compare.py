# SPDX-License-Identifier: Apache-2.0
"""``policylab compare``: the same packets through several dataplanes, and where they differ."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import (
    FilePath,
    accelerator_option,
    flows_option,
    lenient_option,
    output_option,
    read_question,
    resource_arguments,
)
from lab.conformance.case import load_cases
from lab.conformance.compare import Comparison, compare_cases, compare_files
from lab.conformance.judged import Judged, combinations
from lab.errors import LabError
from lab.report.comparison import print_comparison

__all__ = ["compare"]

EXIT_NOT_CONFORMANT = 1


@click.command(short_help="Tell on which flows dataplanes differ.")
@click.argument("topology", type=FilePath(), required=False)
@resource_arguments
@click.option(
    "--dataplane", "dataplanes", multiple=True, metavar="NAME", help="One of those to be compared; repeat it."
)
@accelerator_option
@flows_option
@lenient_option
@output_option
def compare(
    topology: Path | None,
    resources: tuple[Path, ...],
    dataplanes: tuple[str, ...],
    accelerators: tuple[str, ...],
    flows_file: Path | None,
    *,
    lenient: bool,
    output: str,
) -> None:
    """Send the same flows through several dataplanes, each also with the accelerators, and tell where they differ.

    Without a TOPOLOGY the flows are those of all expectations, also of unconfirmed ones, where the model may be wrong.
    """
    judged = combinations(dict.fromkeys(dataplanes), accelerators)
    if len(judged) < 2:
        raise LabError(
            "nothing to compare",
            value=", ".join(each.name for each in judged) or "no dataplane",
            allowed="two or more --dataplane, or an --accelerator with one",
        )
    comparison = _compare(judged, topology, resources, flows_file, lenient=lenient)
    print_comparison(comparison, output)
    if comparison.differing or comparison.wrong or comparison.failures:
        raise click.exceptions.Exit(EXIT_NOT_CONFORMANT)


def _compare(
    judged: list[Judged], topology: Path | None, resources: tuple[Path, ...], flows_file: Path | None, *, lenient: bool
) -> Comparison:
    if topology is None:
        if flows_file is not None:
            raise LabError("--flows needs a topology", value=str(flows_file))
        return compare_cases(judged, load_cases())
    question = read_question(topology, resources, flows_file, lenient=lenient)
    return compare_files(judged, question.topology, question.resources, question.flows)
