# SPDX-License-Identifier: Apache-2.0
"""``policylab lint``: what is odd in policies."""

from __future__ import annotations

from pathlib import Path

import click

from lab.cli.options import (
    flows_option,
    lenient_option,
    output_option,
    read_policy,
    resource_arguments,
    topology_argument,
)
from lab.lint.linter import lint as find
from lab.report.findings import print_findings
from lab.topology.flows_file import load_flows
from lab.topology.load import load_topology

__all__ = ["lint"]

EXIT_WARNED = 1


@click.command(short_help="Tell what is odd in policies.")
@topology_argument
@resource_arguments
@flows_option
@click.option("--strict", is_flag=True, help="End 1 when there is a warning; default: 0 whatever is found.")
@lenient_option
@output_option
def lint(
    topology: Path, resources: tuple[Path, ...], flows_file: Path | None, *, strict: bool, lenient: bool, output: str
) -> None:
    """Tell what is odd in policies: rules that can never match or decide, names that lead nowhere, and the like.

    A warning is probably a mistake; an info is worth knowing. Ends 0 whatever is found, unless --strict is given.
    """
    loaded = load_topology(topology)
    policy = read_policy(resources, loaded, lenient=lenient)
    findings = find(loaded, policy, None if flows_file is None else load_flows(flows_file, loaded))
    print_findings(findings, output)
    if strict and findings.count("warning"):
        raise click.exceptions.Exit(EXIT_WARNED)
