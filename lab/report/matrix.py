# SPDX-License-Identifier: Apache-2.0
"""The conformance matrix: expectations down, dataplanes across, as it grows and when it is complete."""

from __future__ import annotations

from collections.abc import Iterator

from lab.conformance.record import Record, Report

__all__ = ["matrix_lines", "progress_line", "verdict_lines"]

SIGNS = {"passed": "pass", "failed": "FAIL", "known-broken": "kb", "not-supported": "n/s", "skipped": "skip"}


def progress_line(record: Record) -> str:
    """One outcome, as it comes in, with what was generated for it."""
    covered = f"  {record.detail}" if record.word == "passed" and record.detail else ""
    return f"{SIGNS[record.word]:4}  {record.dataplane}  {record.expectation}{covered}"


def matrix_lines(report: Report) -> Iterator[str]:
    """What was checked, a line each, with one column for each dataplane."""
    cells = {(record.expectation, record.dataplane): SIGNS[record.word] for record in report.records}
    expectations = list(dict.fromkeys(record.expectation for record in report.records))
    widest = max([len("expectation"), *map(len, expectations)])
    columns = [(name, max(len(name), 4)) for name in report.dataplanes]
    yield "  ".join(["expectation".ljust(widest), *(name.ljust(width) for name, width in columns)]).rstrip()
    for expectation in expectations:
        shown = [cells.get((expectation, name), "-").ljust(width) for name, width in columns]
        yield "  ".join([expectation.ljust(widest), *shown]).rstrip()


def verdict_lines(report: Report) -> Iterator[str]:
    """The result of each dataplane, with its counts, and what generated flows saw of the policies' regions."""
    for name in report.dataplanes:
        yield f"{name}: {report.result(name)} ({report.counts(name)})"
        for record in report.of(name):
            if record.regions is not None:
                told = record.regions
                seen = f"{told['both_sides']} of {told['at_borders']} regions at borders seen from both sides"
                yield f"  {record.expectation}: {seen} ({told['share']:.1%}); {told['hit']} of {told['regions']} hit"
