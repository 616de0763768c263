# SPDX-License-Identifier: Apache-2.0
"""``policylab doctor``: what this host can and cannot do, and the one command that mends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from lab.conformance.host import plugin_findings
from lab.errors import HostError
from lab.fabric.apt import APT, apt_install
from lab.fabric.finding import Finding
from lab.fabric.host import examine, fitness
from lab.fabric.host_nodes import KINDS
from lab.report.terminal import say

__all__ = ["doctor", "mending", "table"]

_CONCLUSIONS = {
    "yes": "A lab of network namespaces can work here.",
    "no": "A lab of network namespaces cannot work here.",
    "inconclusive": "Whether a lab of network namespaces can work here could not be told.",
}


@click.command(short_help="Tell what this host can and cannot do.")
@click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form of the answer."
)
@click.pass_context
def doctor(context: click.Context, output: str) -> None:
    """Tell what this host can and cannot do, and the one command that mends it.

    Ends 3 only if not even a lab of network namespaces can work here.
    """
    found = examine()
    fit = fitness(found)
    findings = [*found, *plugin_findings()]
    if output == "json":
        answer = {"fit": fit, "findings": [asdict(finding) for finding in findings], "mend": mending(findings)}
        say(json.dumps(answer, indent=2))
    else:
        say(table(findings))
        say(f"\n{_CONCLUSIONS[fit]}")
        for command in mending(findings):
            say(f"mend: {command}")
    context.exit(HostError.exit_code if fit == "no" else 0)


def mending(findings: Iterable[Finding]) -> list[str]:
    """The commands that mend what is missing, with all Debian packages in one; kinds of node have their own."""
    lacking = [finding for finding in findings if finding.state != "yes" and finding.needed_for != KINDS]
    mends = list(dict.fromkeys(finding.mend for finding in lacking if finding.mend))
    packages = dict.fromkeys(word for mend in mends if mend.startswith(APT) for word in mend.removeprefix(APT).split())
    others = [mend for mend in mends if not mend.startswith(APT)]
    return ([apt_install(*packages)] if packages else []) + others


def table(findings: Iterable[Finding]) -> str:
    """Findings as lines of columns: what, whether, needed for, what was seen."""
    rows = [(finding.name, finding.state, finding.needed_for, finding.detail) for finding in findings]
    names, states, needs = (max(len(row[column]) for row in rows) for column in range(3))
    return "\n".join(
        f"{name:<{names}}  {state:<{states}}  {needed:<{needs}}  {detail}" for name, state, needed, detail in rows
    )
