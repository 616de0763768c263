# SPDX-License-Identifier: Apache-2.0
"""Flows cut into batches: what may be in the air together, in which order it is sent, and what is to be seen of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from lab.protocols import ICMP, ICMPV6
from lab.topology import DEFAULT_SOURCE_PORT, Flow
from lab.traffic.taps import Sender, Tap

__all__ = ["BATCH", "Batch", "Load", "Run", "Volley", "epochs_of", "load_batches"]

BATCH: Final = 512
"""Frames in one batch. Should the kernel leave the work to ksoftirqd, a whole batch with its markers waits in one
CPU's backlog: it must stay well below net.core.netdev_max_backlog (1000), beyond which frames are lost."""
EPOCH: Final = 16 * BATCH
"""Frames between two flushes of conntrack: each may be an entry, and the smallest usual table holds 65,536."""

Tuple = tuple[int, int, str, int, str, int]


@dataclass(frozen=True, slots=True)
class Load:
    """One flow made ready: where it is sent, where it must come out, and its bytes."""

    sender: Sender
    tap: Tap
    stamp: Callable[[int], bytes]
    compare_from: int
    """The first byte of the frame that must come out as it went in."""
    sockaddr: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring frames of a batch that one socket sends."""

    sender: Sender
    places: range
    sockaddrs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that are sent together. All sequences run over its frames, whose ids count up from ``first_id``."""

    first_id: int
    frames: bytes
    runs: tuple[Run, ...]
    flows: tuple[int, ...]
    """The places of the frames' flows in the volley."""
    taps: tuple[Tap, ...]
    tails: tuple[bytes, ...]
    """How each frame must end, but for its id."""


@dataclass(frozen=True, slots=True)
class Volley:
    """Flows made ready to be sent, any number of times; conntrack is to be empty before each epoch."""

    flows: tuple[Flow, ...]
    epochs: tuple[tuple[Batch, ...], ...]


def epochs_of(flows: Sequence[Flow]) -> list[list[int]]:
    """Places of flows, split so that no epoch holds two flows of which conntrack takes one for the other's reply."""
    closed: list[list[int]] = []
    filling: list[tuple[set[Tuple], list[int]]] = []
    for place, flow in enumerate(flows):
        forward, backward = _tuples(flow)
        epoch = next((epoch for epoch in filling if backward not in epoch[0] or backward == forward), None)
        if epoch is None:
            filling.append(epoch := (set(), []))
        epoch[0].add(forward)
        epoch[1].append(place)
        if len(epoch[1]) == EPOCH:
            filling.remove(epoch)
            closed.append(epoch[1])
    return closed + [places for _, places in filling]


def _tuples(flow: Flow) -> tuple[Tuple, Tuple]:
    """What conntrack knows the flow by, and the same for its replies.

    Replies to ICMP requests are told by their identifier, which no two packets of an epoch share: they need no
    care, and the impossible port keeps them apart from each other's opposite.
    """
    source, destination = flow.source, flow.destination
    source_port, port = 0, 0
    if flow.protocol in (ICMP, ICMPV6):
        port = -1
    elif flow.port is not None:
        source_port, port = flow.source_port or DEFAULT_SOURCE_PORT, flow.port
    kind = (flow.protocol, flow.family)
    return (*kind, source, source_port, destination, port), (*kind, destination, port, source, source_port)


def load_batches(
    places: Sequence[int], load_of: Callable[[int], Load], take_ids: Callable[[int], int]
) -> Iterator[Batch]:
    """Build an epoch's batches, sender by sender; ``take_ids`` reserves so many ids and returns the first."""
    ranks: dict[Sender, int] = {}
    loads = [(load_of(place), place) for place in places]
    loads.sort(key=lambda pair: ranks.setdefault(pair[0].sender, len(ranks)))
    for start in range(0, len(loads), BATCH):
        yield _batch(loads[start : start + BATCH], take_ids)


def _batch(loads: Sequence[tuple[Load, int]], take_ids: Callable[[int], int]) -> Batch:
    first_id = take_ids(len(loads))
    frames = [load.stamp(ident) for ident, (load, _) in enumerate(loads, first_id)]
    return Batch(
        first_id=first_id,
        frames=b"".join(frames),
        runs=tuple(_runs([load for load, _ in loads])),
        flows=tuple(place for _, place in loads),
        taps=tuple(load.tap for load, _ in loads),
        tails=tuple(frame[load.compare_from : -4] for frame, (load, _) in zip(frames, loads, strict=True)),
    )


def _runs(loads: Sequence[Load]) -> Iterator[Run]:
    start = 0
    for sender, group in groupby(loads, key=lambda load: load.sender):
        sockaddrs = tuple(load.sockaddr for load in group)
        yield Run(sender, range(start, start + len(sockaddrs)), sockaddrs if sender.skip else ())
        start += len(sockaddrs)
