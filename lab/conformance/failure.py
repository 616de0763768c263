# SPDX-License-Identifier: Apache-2.0
"""How a failure reads: the rule, the flow, what was seen at both ends, the grid, and how to see it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from lab.conformance.bundle import CAPTURE
from lab.conformance.counterexample import REPEATS, Counterexample
from lab.conformance.pool import Outcome
from lab.conformance.results import Row
from lab.conformance.scenario import BEFORE, RESOURCES, TOPOLOGY
from lab.conformance.wording import decision_text, flow_text
from lab.protocols import protocol_label
from lab.topology import DEFAULT_SOURCE_PORT, Topology, address_of
from lab.topology.load import load_topology

__all__ = ["failure_text", "grid"]

GRID_ROWS = 40
"""Rows of a grid that a person still reads; the bundle holds them all."""
EXCERPT_LINES = 40
"""Lines of policy shown in a failure; a shrunk example rarely has more."""


def failure_text(title: str, example: Counterexample) -> str:
    """The whole story of a counterexample to what ``title`` claims, in the order in which one wants to know it."""
    return "\n".join(_lines(title, example))


def grid(outcome: Outcome, limit: int = GRID_ROWS) -> Iterator[str]:
    """Expected and observed side by side, wrong rows marked."""
    for row in outcome.results.rows[:limit]:
        mark = "  WRONG" if row.wrong else ""
        observed = row.observed or "nothing sent"
        packet = "" if row.packet is None else f"  {row.packet}"
        flow = f"{_ends(row)}  {flow_text(row.flow)} ipv{row.flow.family}{packet}"
        yield f"{flow}: expected {row.expected}, observed {observed}{mark}"
    left_out = len(outcome.results.rows) - limit
    if left_out > 0:
        yield f"... and {left_out} rows more"


def _lines(title: str, example: Counterexample) -> Iterator[str]:
    bundle, outcome = example.bundle, example.outcome
    yield f"FAILED {bundle.expectation}: {title}"
    yield f"dataplane {bundle.judged}"
    for number, file in enumerate(sorted((example.directory / BEFORE).glob("*.yaml")), start=1):
        yield from _section(f"policy {number}, in force before", _excerpt(file))
    yield from _section("policy", _excerpt(example.directory / RESOURCES))
    if outcome.error is not None:
        yield f"a plugin failed: {outcome.error}"
    topology = load_topology(example.directory / TOPOLOGY)
    for row, number in _shown(outcome):
        packet = [] if row.packet is None else [row.packet]
        yield from _section("flow", [_wire(row, topology), *packet])
        yield f"expected {row.expected}, because of {decision_text(row)}"
        yield f"observed {outcome.observations[number]}"
        if outcome.trails:
            behind = "" if outcome.observations[number].arrived else ", and nowhere behind"
            yield f"seen at {', '.join(outcome.trails[number]) or 'no interface'}{behind}"
    yield from (f"evidence: {reason}" for reason in outcome.unmet)
    if outcome.moments:
        yield from _section("while policy changed", list(outcome.moments))
    for node, entries in outcome.tracked.items():
        yield from (f"conntrack of {node}: {entry}" for entry in entries)
    yield from _section("grid", grid(outcome))
    yield from _section("files", _files(example))
    if example.repeats:
        yield f"failed {example.failed} of {example.repeats} times when repeated"
    if example.repeats < REPEATS:
        yield "neither made smaller nor repeated more often: earlier failures took what time a run has for that"
    if example.alone is not None:
        yield f"with its accelerators suspended it {'fails no more' if example.alone.conformant else 'fails as well'}"
    yield f"reproduce: policylab replay {shlex.quote(str(example.directory))}"


def _section(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield f"{title}:"
    yield from (f"  {line}" for line in lines)


def _excerpt(file: Path) -> Iterator[str]:
    """The policy with its line numbers, as the bundle holds it."""
    lines = file.read_text().splitlines()
    if lines in ([], ["[]"]):
        yield "(none)"
        return
    for number, line in enumerate(lines[:EXCERPT_LINES], start=1):
        yield f"{file}:{number}: {line}"
    if len(lines) > EXCERPT_LINES:
        yield f"... and {len(lines) - EXCERPT_LINES} lines more"


def _shown(outcome: Outcome) -> Iterator[tuple[Row, int]]:
    """The first row that is not as it should be, with its number."""
    for number, row in enumerate(outcome.results.rows):
        if row.wrong or row.observed == "inconclusive":
            yield row, number
            return


def _ends(row: Row) -> str:
    return f"{row.flow.source} -> {row.flow.destination}"


def _wire(row: Row, topology: Topology) -> str:
    """``x/a 198.18.1.2:31000 -> y/b 198.18.2.2:80/TCP``."""
    flow = row.flow
    ends = []
    for name, port in ((flow.source, flow.source_port or DEFAULT_SOURCE_PORT), (flow.destination, flow.port)):
        end = topology.end(name)
        address = None if end is None else address_of(end, flow.family)
        shown = f"[{address}]" if flow.family == 6 else str(address)
        ends.append(f"{name} {shown}" if flow.port is None else f"{name} {shown}:{port}")
    rest = f" {flow_text(flow)}" if flow.port is None else f"/{protocol_label(flow.protocol)}"
    return f"{ends[0]} -> {ends[1]}{rest}"


def _files(example: Counterexample) -> list[str]:
    return [
        f"capture of both ends: {example.directory / CAPTURE}",
        f"rulesets and counters: {example.directory / 'rulesets'}",
    ]
