# SPDX-License-Identifier: Apache-2.0
"""Results on the terminal: JSON for programs, one aligned line a flow for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.conformance.results import Results, Row
from lab.conformance.wording import decision_text, flow_text
from lab.report.terminal import complain, say

if TYPE_CHECKING:
    from lab.conformance.evidence import Growth

__all__ = ["evidence_lines", "print_results", "table_lines"]

ORDER_VIOLATED = "order.violated"
"""Told although it stands still, which is what it has to do."""
HEADINGS = ("from", "to", "flow", "family", "expected", "observed", "", "decided by")


def print_results(results: Results, output: str) -> None:
    """Print results as ``table`` or ``json``; with JSON nothing else goes to stdout.

    With a table, evidence is told on stderr.
    """
    if output == "json":
        say(json.dumps(results.to_dict(), indent=1))
        return
    counts = ", ".join(f"{count} {word}" for word, count in results.summary().items())
    say("\n".join((*table_lines([_cells(row) for row in results.rows], HEADINGS), counts)))
    for line in evidence_lines(results.evidence) if results.evidence else ():
        complain(f"evidence: {line}")


def evidence_lines(evidence: Growth) -> Iterator[str]:
    """What was counted while flows were sent: of all sidecars together, and of each accelerator on each node."""
    # Here, since what plugins are need not be loaded to judge on paper.
    from lab.conformance.evidence import INTERFACES, SIDECAR

    if sidecars := evidence.get(SIDECAR):
        grown = [each for counters in sidecars.values() for each in counters.items()]
        through, forbidden, shaken = (
            sum(count for name, count in grown if name.endswith(ending))
            for ending in ("rbac.allowed", "rbac.denied", "ssl.handshake")
        )
        carried = sum(counters["bytes"] for counters in evidence[INTERFACES].values())
        yield f"{len(sidecars)} sidecars: {through} let through, {forbidden} forbidden, {shaken} ends of TLS"
        yield f"interfaces of their workloads: {carried} bytes sent"
    for plugin in sorted(evidence.keys() - {SIDECAR, INTERFACES}):
        for node, counters in sorted(evidence[plugin].items()):
            told = [f"{name} {count}" for name, count in counters.items() if count or name == ORDER_VIOLATED]
            yield f"{node}: {plugin}: {', '.join(told) or 'nothing was counted'}"


def table_lines(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> Iterator[str]:
    """Headings and rows, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for cells in (headings, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    flow = row.flow
    return (
        flow.source,
        flow.destination,
        flow_text(flow),
        f"ipv{flow.family}",
        row.expected,
        row.observed or "-",
        "WRONG" if row.wrong else "",
        decision_text(row),
    )
