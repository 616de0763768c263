# SPDX-License-Identifier: Apache-2.0
"""Results on the terminal: JSON for programs, one aligned line a flow for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from lab.conformance.results import Results, Row
from lab.conformance.wording import decision_text, flow_text
from lab.report.terminal import say

__all__ = ["print_results", "table_lines"]

HEADINGS = ("from", "to", "flow", "family", "expected", "observed", "", "decided by")


def print_results(results: Results, output: str) -> None:
    """Print results as ``table`` or ``json``; with JSON nothing else goes to stdout."""
    if output == "json":
        say(json.dumps(results.to_dict(), indent=1))
        return
    counts = ", ".join(f"{count} {word}" for word, count in results.summary().items())
    say("\n".join((*table_lines([_cells(row) for row in results.rows], HEADINGS), counts)))


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
