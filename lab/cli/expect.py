# SPDX-License-Identifier: Apache-2.0
"""``policylab expect``: the oracle's verdicts alone."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import (
    flows_option,
    lenient_option,
    output_option,
    read_question,
    resource_arguments,
    topology_argument,
)
from lab.conformance.results import Results
from lab.oracle import Oracle
from lab.report.table import print_results

__all__ = ["expect"]


@click.command(short_help="Say what every flow must meet, without a lab.")
@topology_argument
@resource_arguments
@flows_option
@lenient_option
@output_option
def expect(topology: Path, resources: tuple[Path, ...], flows_file: Path | None, *, lenient: bool, output: str) -> None:
    """Say what every flow must meet: the oracle's verdicts, without a lab and without root."""
    question = read_question(topology, resources, flows_file, lenient=lenient)
    verdicts = Oracle(question.topology, question.resources).verdicts(question.flows)
    print_results(Results.of(question.flows, verdicts), output)
