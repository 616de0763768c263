# SPDX-License-Identifier: Apache-2.0
"""What ``diff`` prints: one row a flow whose verdict changes, with both decisions."""

from __future__ import annotations

import json

from lab.conformance.results import Row, decision_to_dict
from lab.conformance.wording import decision_text, flow_text
from lab.lint.differences import Change, Differences
from lab.report.table import table_lines
from lab.report.terminal import say
from lab.topology.flows_file import flow_to_dict

__all__ = ["differences_to_dict", "print_differences"]

HEADINGS = ("from", "to", "flow", "family", "old", "new", "decided by, old", "decided by, new")


def print_differences(differences: Differences, output: str) -> None:
    """Print differences as ``table`` or ``json``; with JSON nothing else goes to stdout."""
    told = differences_to_dict(differences)
    if output == "json":
        say(json.dumps(told, indent=1))
        return
    rows = [_cells(change) for change in differences.changes]
    counts = ", ".join(f"{count} {word}" for word, count in _summary(differences).items())
    say("\n".join((*(table_lines(rows, HEADINGS) if rows else ()), counts)))


def differences_to_dict(differences: Differences) -> dict[str, object]:
    """The whole comparison as JSON holds it."""
    return {"rows": [_row(change) for change in differences.changes], "summary": _summary(differences)}


def _summary(differences: Differences) -> dict[str, int]:
    return {
        "flows": differences.compared,
        "rows": len(differences.changes),
        "opened": differences.opened,
        "closed": differences.closed,
    }


def _row(change: Change) -> dict[str, object]:
    return {
        **flow_to_dict(change.flow),
        "port": change.flow.port,
        "old": _word(allowed=change.old.allowed),
        "new": _word(allowed=change.new.allowed),
        "old_decided_by": decision_to_dict(change.old.decided_by),
        "new_decided_by": decision_to_dict(change.new.decided_by),
    }


def _word(*, allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _cells(change: Change) -> tuple[str, ...]:
    flow = change.flow
    return (
        flow.source,
        flow.destination,
        flow_text(flow),
        f"ipv{flow.family}",
        _word(allowed=change.old.allowed),
        _word(allowed=change.new.allowed),
        decision_text(Row(flow, change.old)),
        decision_text(Row(flow, change.new)),
    )
