# SPDX-License-Identifier: Apache-2.0
"""Conversations that nobody wrote down, through a change of policy: each packet is held to the model of connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from hypothesis import settings

from lab.conformance.conversations import judged, spoken
from lab.conformance.drawing import Drawing
from lab.conformance.generate.talks import talks
from lab.conformance.rounds import DRAWN
from lab.conformance.scenario import Entry, Scenario
from lab.oracle import PartialOracle
from lab.protocols import SCTP, TCP
from lab.topology import Topology
from lab.traffic.conversation import error_of

__all__ = ["PROFILES", "TALKS", "TALKS_TITLE", "Talking"]

TALKS: Final = "generated.conversations"
TALKS_TITLE: Final = (
    "Whatever two ends say to each other, and however policy changes meanwhile, each packet fares as it must."
)

PROFILES: Final = {
    "dev": settings(DRAWN, max_examples=10),
    "ci": settings(DRAWN, max_examples=60, derandomize=True),
    "nightly": settings(DRAWN, max_examples=600),
}
"""By profile: how many scenarios there are, of up to ten conversations each."""

_MORE: Final = 2
"""Packets that TCP's ends still say when one was stopped."""


@dataclass(slots=True)
class Talking(Drawing):
    """One run of drawn conversations against a dataplane, and what it has seen."""

    expectation = TALKS
    title = TALKS_TITLE

    def hold(self, profile: str, topology: Topology | None) -> str | None:
        """Play as many as the profile says; None, or the failure in words."""
        return self._drawn(PROFILES[profile], talks(topology, self.dataplane.capabilities), self._check)

    def summary(self) -> str:
        """What was covered, in one line."""
        counts = ", ".join(f"{self.seen[word]} {word}" for word in ("allow", "deny"))
        return f"{self.seen['conversations']} conversations: {counts}"

    def _check(self, drawn: Scenario) -> None:
        if not drawn.conversations:
            return
        scenario = _as_stacks_talk(drawn)
        outcome = self.judge.pool.run(scenario, self.dataplane)
        self.seen["scenarios"] += 1
        self.seen["conversations"] += len(scenario.conversations)
        self.seen.update(row.expected for row in outcome.results.rows)
        if not outcome.conformant:
            self._fail(scenario, outcome)


def _as_stacks_talk(scenario: Scenario) -> Scenario:
    """The scenario without what no stack would say, answers to what was stopped: of that the model knows little.

    Where one node let out what another one stopped, connection tracking of the first looks at sequence numbers that
    nobody can know; nor is it modelled what else than INIT might begin an association. Else TCP says a little more.
    """
    loaded = scenario.load()
    oracles = [PartialOracle(loaded.topology, each.resources, each.known) for each in loaded.states]
    played = [(each, oracle) for step, oracle in enumerate(oracles) for each in spoken(loaded.conversations, step)]
    said: Counter[int] = Counter()
    kept: dict[int, int] = {}
    for (each, _), verdict in zip(played, judged(loaded.topology, played), strict=True):
        said[each.number] += 1
        opening = each.conversation.opening
        ordinary = error_of(each.line, opening.family) is None and each.line.source is None
        nodes = {
            end.node for name in (opening.source, opening.destination) if (end := loaded.topology.workloads.get(name))
        }
        more = {SCTP: 0, TCP: 0 if len(nodes) > 1 else _MORE}.get(opening.protocol)
        if more is not None and ordinary and not verdict.allowed:
            kept.setdefault(each.number, said[each.number] + more)
    conversations = tuple(
        {**entry, "packets": list(cast("Sequence[Entry]", entry["packets"]))[: kept.get(number)]}
        for number, entry in enumerate(scenario.conversations)
    )
    return replace(scenario, conversations=conversations)
