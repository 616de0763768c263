# SPDX-License-Identifier: Apache-2.0
"""What ``compare`` prints: how often dataplanes differ from one another and from the model, and on which flows."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lab.conformance.compare import Comparison, Vector
from lab.conformance.results import decision_to_dict
from lab.conformance.wording import decision_text, flow_text
from lab.report.table import table_lines
from lab.report.terminal import say
from lab.topology.flows_file import flow_to_dict

__all__ = ["comparison_to_dict", "print_comparison"]


def print_comparison(comparison: Comparison, output: str) -> None:
    """Print a comparison as ``table`` or ``json``; with JSON nothing else goes to stdout."""
    if output == "json":
        say(json.dumps(comparison_to_dict(comparison), indent=1))
    else:
        say("\n".join(_lines(comparison)))


def comparison_to_dict(comparison: Comparison) -> dict[str, object]:
    """The whole comparison as JSON holds it; ``rows`` are the flows that somebody should look at."""
    return {
        "dataplanes": list(comparison.dataplanes),
        "failures": dict(comparison.failures),
        "rows": [_row(vector) for vector in comparison.vectors if vector.differs or vector.wrong],
        "differences": [{"between": list(pair), "flows": flows} for pair, flows in comparison.pairs().items()],
        "summary": _summary(comparison),
    }


def _summary(comparison: Comparison) -> dict[str, int]:
    return {
        "flows": len(comparison.vectors),
        "differing": len(comparison.differing),
        "mismatches": len(comparison.wrong),
        "failed": len(comparison.failures),
    }


def _row(vector: Vector) -> dict[str, object]:
    origin = {} if vector.case is None else {"case": vector.case, "unconfirmed": vector.unconfirmed}
    return {
        **flow_to_dict(vector.row.flow),
        "port": vector.row.flow.port,
        "expected": vector.row.expected,
        "observed": dict(vector.observed),
        "decided_by": decision_to_dict(vector.row.verdict.decided_by),
        **origin,
    }


def _lines(comparison: Comparison) -> Iterator[str]:
    names = comparison.dataplanes
    yield from table_lines(list(_matrix(comparison)), ("flows that differ", *names, "the model"))
    for name, failure in comparison.failures.items():
        yield f"{name} failed: {failure}"
    rows = [_cells(vector, names) for vector in comparison.vectors if vector.differs or vector.wrong]
    if rows:
        yield ""
        yield from table_lines(rows, ("from", "to", "flow", "family", "expected", *names, "", "decided by"))
    yield ", ".join(f"{count} {word}" for word, count in _summary(comparison).items())


def _matrix(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    pairs = comparison.pairs()
    for name in comparison.dataplanes:
        against = [
            "-" if name == other else str(pairs.get((name, other), pairs.get((other, name))))
            for other in comparison.dataplanes
        ]
        yield (name, *against, str(sum(name in vector.wrong for vector in comparison.vectors)))


def _cells(vector: Vector, names: tuple[str, ...]) -> tuple[str, ...]:
    flow = vector.row.flow
    doubt = "unconfirmed" if vector.unconfirmed else ""
    mark = " ".join(filter(None, ("DIFFER" if vector.differs else "WRONG", doubt, vector.case)))
    return (
        flow.source,
        flow.destination,
        flow_text(flow),
        f"ipv{flow.family}",
        vector.row.expected,
        *(vector.observed[name] or "failed" for name in names),
        mark,
        decision_text(vector.row),
    )
