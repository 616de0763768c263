# SPDX-License-Identifier: Apache-2.0
"""Plays conversations in a lab through all of a scenario's states, and compares each packet with the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.conformance.conversations import Spoken, judged, spoken
from lab.conformance.harness import Harness
from lab.conformance.results import Results, Row
from lab.conformance.states import State
from lab.oracle import PartialOracle
from lab.topology import address_of
from lab.traffic.conversation import Conversation
from lab.traffic.observation import Observation
from lab.traffic.player import Player
from lab.traffic.tracked import Tracked

if TYPE_CHECKING:
    from lab.traffic.capture import Recorder

__all__ = ["Played", "play"]


@dataclass(frozen=True, slots=True)
class Played:
    """A row and an observation for each packet, in the order in which they were sent.

    ``tracked`` is what each node's conntrack held at the end, ``unmet`` what it should not have held.
    """

    results: Results
    observations: tuple[Observation, ...]
    tracked: Mapping[str, tuple[Tracked, ...]]
    unmet: tuple[str, ...]


def play(
    harness: Harness, conversations: Sequence[Conversation], states: Sequence[State], recorder: Recorder | None
) -> Played:
    """Apply one state after another, and say under each what belongs there; conntrack is emptied before the first."""
    watching = nullcontext() if recorder is None else recorder.watch(harness.lab)
    played: list[tuple[Spoken, PartialOracle]] = []
    seen: list[Observation] = []
    with Player(harness.lab) as player, watching:
        for step, state in enumerate(states):
            harness.apply(state.resources, state.known)
            if not step:  # only now: until rules are there that look at connections, none are tracked
                player.begin(dict(enumerate(conversations)))
            oracle = PartialOracle(harness.topology, state.resources, state.known)
            for each in spoken(conversations, step):
                played.append((each, oracle))
                seen.append(player.say(each.number, each.line))
                if recorder is not None:
                    recorder.collect()
        tracked = player.tracked()
    verdicts = judged(harness.topology, played)
    rows = tuple(
        Row(each.flow, verdict, told.verdict, str(each.line))
        for (each, _), verdict, told in zip(played, verdicts, seen, strict=True)
    )
    return Played(Results(rows), tuple(seen), tracked, tuple(_wrongly_tracked(harness, conversations, tracked)))


def _wrongly_tracked(
    harness: Harness, conversations: Sequence[Conversation], tracked: Mapping[str, Sequence[Tracked]]
) -> Iterator[str]:
    for conversation in conversations:
        flow, ends = conversation.opening, (conversation.opening.source, conversation.opening.destination)
        addresses = {address_of(end, flow.family) for name in ends if (end := harness.topology.end(name)) is not None}
        for node in conversation.untracked:
            for entry in tracked[node]:
                if entry.protocol == flow.protocol and {entry.source, entry.destination} == addresses:
                    yield f"{node}: conntrack knows {entry}, which must not be tracked"
