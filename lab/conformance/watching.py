# SPDX-License-Identifier: Apache-2.0
"""One policy takes the place of another, back and forth, while a stream of packets looks for moments between them.

The contract: at no moment does a flow get through that both deny, nor is one cut that both allow, nor an established
one that either allows. It is each node's: nodes do not change at the same moment, so what one denies before and another
one after may get through in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from lab.conformance.harness import Harness
from lab.conformance.results import Observed, Results, Row
from lab.conformance.states import State
from lab.conformance.wording import flow_text
from lab.oracle import PartialOracle
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.policy.resources import Resources
from lab.protocols import UDP
from lab.topology import Flow, Topology, address_of
from lab.traffic.observation import Observation, Reason
from lab.traffic.stream import Passage, Stream, Watch

__all__ = ["TIMES", "Watched", "watch", "watches_of"]

TIMES: Final = 3
"""How often a change is made and taken back: a moment that is shorter than a round is seen in some of them only."""
SHOWN: Final = 6
"""Packets of a moment whose times are told, the first ones."""
_MILLISECOND: Final = 1e6

Called = tuple[str, State]
"""What is in force, and what that is called."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What comes, what the change is called, and whether all plugins are started anew before it."""

    new: State
    title: str
    restart: bool


@dataclass(slots=True)
class Watched:
    """What was seen of each watched flow; ``moments`` tell when packets fared otherwise than they must, a line each."""

    rows: tuple[Row, ...] = ()
    observations: tuple[Observation, ...] = ()
    moments: list[str] = field(default_factory=list)
    packets: int = 0
    """How many were sent meanwhile."""
    lone: int = 0
    """How many fared otherwise, each alone: they were under way when the kernel changed over."""

    @property
    def results(self) -> Results:
        """The rows as results."""
        return Results(self.rows)


def watches_of(harness: Harness, flows: Sequence[Flow], old: State, new: State) -> list[Watch]:
    """Those flows on which two policies agree, and UDP flows that the old one allows, to be held.

    Flows with a node at either end are left out, and those that change with a workload that comes or goes; so is one
    that conntrack would take for another's answer, and one that no node denies under both. Nor is one held that gets
    its node's address on its way: an answer to the address that it began with is none to conntrack.
    """
    oracles = [PartialOracle(harness.topology, each.resources, each.known) for each in (old, new)]
    before, after = (each.verdicts(flows) for each in oracles)
    found: list[Watch] = []
    taken: set[tuple[int, int, frozenset[str]]] = set()
    for flow, first, second in zip(flows, before, after, strict=True):
        pair = (flow.protocol, flow.family, frozenset({flow.source, flow.destination}))
        if pair in taken or not {flow.source, flow.destination} <= harness.lab.ports.keys():
            continue
        if flow.source == flow.destination or (first.allowed is not second.allowed and not first.allowed):
            continue
        held = first.allowed is not second.allowed
        if held and (flow.protocol != UDP or oracles[1].unknown(flow) is not None):
            continue
        if held and _is_masqueraded(flow, harness.topology, old.resources):
            continue
        if not first.allowed and not _denied_throughout(flow, oracles, harness.topology):
            continue
        taken.add(pair)
        found.append(Watch(flow, first.allowed, held=held))
    return found


def _is_masqueraded(flow: Flow, topology: Topology, resources: Resources) -> bool:
    """Whether a flow leaves a pool for no pool, and its node gives it an address of its own."""
    source, destination = (
        None if end is None else address_of(end, flow.family)
        for end in (topology.end(flow.source), topology.end(flow.destination))
    )
    pools = resources.ip_pools
    leaves = any(pool.nat_outgoing and source in pool.cidr for pool in pools if source is not None)
    return leaves and not any(destination in pool.cidr for pool in pools if destination is not None)


def _denied_throughout(flow: Flow, oracles: Sequence[PartialOracle], topology: Topology) -> bool:
    """Whether some node denies a flow under each policy: else it may pass while nodes differ."""
    return any(all(oracle.denies(flow, node) for oracle in oracles) for node in topology.nodes)


def watch(
    harness: Harness, flows: Sequence[Flow], states: tuple[Called, Called], times: int = TIMES, *, restart: bool = False
) -> Watched:
    """Change from the first policy, which must be in force, to the second, and back, and forth again.

    ``restart``: all plugins are started anew before each change, as after their process was killed.
    """
    seen: dict[Flow, list[Passage]] = {}
    moments: list[str] = []
    old, new = states
    for number in range(2 * times - 1):
        if number:
            old, new = new, old
        watches = watches_of(harness, flows, old[1], new[1])
        title = f"from {old[0]} to {new[0]}, time {number // 2 + 1}"
        passages, lines = _changed(harness, watches, _Change(new[1], title, restart))
        moments += lines
        for passage in passages:
            seen.setdefault(passage.watch.flow, []).append(passage)
    rows, observations = [], []
    for flow, met in seen.items():
        wrong = [passage for passage in met if passage.wrong]
        row, observation = _judged(flow, wrong[0] if wrong else met[0])
        rows.append(row)
        observations.append(observation)
    every = [passage for met in seen.values() for passage in met]
    packets, lone = sum(passage.rounds for passage in every), sum(passage.lone for passage in every)
    return Watched(tuple(rows), tuple(observations), moments, packets, lone)


def _changed(harness: Harness, watches: Sequence[Watch], change: _Change) -> tuple[tuple[Passage, ...], list[str]]:
    """Make a change, watched; what became of each flow, and when one fared otherwise than it must."""
    harness.lab.flush_conntrack()
    with Stream(harness.lab, watches) if watches else nullcontext() as stream:
        begun = time.monotonic_ns()
        if change.restart:
            harness.restart()
        harness.apply(change.new.resources, change.new.known)
        ended = time.monotonic_ns()
        passages = () if stream is None else stream.stop()
    return passages, [line for passage in passages for line in _told(passage, change.title, begun, ended)]


def _told(passage: Passage, title: str, begun: int, ended: int) -> Iterator[str]:
    """When the packets of a flow went the wrong way, counted from the moment that the change was asked for."""
    if not passage.wrong or passage.trouble:
        return
    flow, what = passage.watch.flow, "cut" if passage.watch.allowed else "got through"
    kind = "established " if passage.watch.held else ""
    yield (
        f"{title} (apply took {(ended - begun) / _MILLISECOND:.1f} ms): of {passage.rounds} packets of the {kind}flow "
        f"{flow.source} -> {flow.destination} {flow_text(flow)} ipv{flow.family} {len(passage.wrong)} {what}"
    )
    for first, last in passage.wrong[:SHOWN]:
        sent = f"{(first - begun) / _MILLISECOND:+.3f} and {(last - begun) / _MILLISECOND:+.3f}"
        yield f"  {what}: sent between {sent} ms"
    if len(passage.wrong) > SHOWN:
        yield f"  ... the last one {(passage.wrong[-1][1] - begun) / _MILLISECOND:+.3f} ms"


def _judged(flow: Flow, passage: Passage) -> tuple[Row, Observation]:
    allowed = passage.watch.allowed
    verdict = Verdict(allowed, DefaultDecision(None, "established" if passage.watch.held else "both-policies"))
    observation = Observation("allow", arrived=flow.destination) if allowed else Observation("deny")
    if passage.trouble:
        observation = Observation("inconclusive", reason=Reason.BACKLOG, detail=passage.trouble)
    elif passage.wrong:
        observation = Observation("deny") if allowed else Observation("allow", arrived=flow.destination)
    observed: Observed = observation.verdict
    return Row(flow, verdict, observed, "while policy changed"), observation
