# SPDX-License-Identifier: Apache-2.0
"""What ``lint`` prints: one line a finding, as compilers do, with flows that show it below."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lab.conformance.wording import flow_text
from lab.lint.finding import Finding, Findings, ShownFlow
from lab.report.terminal import say
from lab.topology.flows_file import flow_to_dict

__all__ = ["findings_to_dict", "print_findings"]

_SHOWN_FLOWS = 3


def print_findings(findings: Findings, output: str) -> None:
    """Print findings as ``table`` or ``json``; with JSON nothing else goes to stdout."""
    if output == "json":
        say(json.dumps(findings_to_dict(findings), indent=1))
        return
    lines = [line for finding in findings.findings for line in _lines(finding)]
    counts = ", ".join(f"{count} {word}" for word, count in _summary(findings).items())
    say("\n".join((*lines, counts)))


def findings_to_dict(findings: Findings) -> dict[str, object]:
    """All findings as JSON holds them."""
    return {"findings": [_finding(finding) for finding in findings.findings], "summary": _summary(findings)}


def _summary(findings: Findings) -> dict[str, int]:
    return {"warnings": findings.count("warning"), "infos": findings.count("info")}


def _finding(finding: Finding) -> dict[str, object]:
    about, place = finding.about, finding.place
    return {
        "id": finding.id,
        "severity": finding.severity,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "kind": about.kind,
        "namespace": about.namespace,
        "name": about.name,
        "direction": about.direction.value if about.direction else None,
        "rule": about.rule,
        "message": finding.message,
        "flows": [_flow(shown) for shown in finding.flows],
    }


def _flow(shown: ShownFlow) -> dict[str, object]:
    staged = {} if shown.staged is None else {"staged": _word(allowed=shown.staged)}
    flow = shown.flow
    return {**flow_to_dict(flow), "port": flow.port, "expected": _word(allowed=shown.allowed), **staged}


def _word(*, allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _lines(finding: Finding) -> Iterator[str]:
    place = f"{finding.place}: " if finding.place else ""
    yield f"{place}{finding.severity}: {finding.about}: {finding.message} [{finding.id}]"
    for shown in finding.flows[:_SHOWN_FLOWS]:
        flow = shown.flow
        verdict = _word(allowed=shown.allowed)
        staged = "" if shown.staged is None else f", then {_word(allowed=shown.staged)}"
        yield f"    {flow.source} -> {flow.destination} {flow_text(flow)} ipv{flow.family}: {verdict}{staged}"
    more = len(finding.flows) - _SHOWN_FLOWS
    if more > 0:
        yield f"    and {more} more flows (--output json has them all)"
