# SPDX-License-Identifier: Apache-2.0
"""Flows cut into batches: what may be in the air together, in which order it is sent, and what is to be seen of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Final

from lab.protocols import ICMP, ICMPV6
from lab.topology import DEFAULT_SOURCE_PORT, Flow
from lab.traffic.packets import Stamp
from lab.traffic.taps import Sender, Tap

__all__ = ["BATCH", "Arrival", "Batch", "Load", "Run", "Volley", "epochs_of", "load_batches"]

BATCH: Final = 512
"""Frames in one batch. Should the kernel leave the work to ksoftirqd, a whole batch with its markers waits in one
CPU's backlog: it must stay well below net.core.netdev_max_backlog (1000), beyond which frames are lost."""
EPOCH: Final = 32 * BATCH
"""Frames between two flushes of conntrack, each of which goes through the whole table, however empty: each frame may be
an entry, and the smallest usual table holds 65,536."""

Tuple = tuple[int, int, str, int, str, int]
Arrival = tuple[str, int]
"""The name of an end and a port."""
_ANYBODY: Final = ""


@dataclass(frozen=True, slots=True)
class Load:
    """Flows that differ in their ports only, made ready: where they are sent, must come out, and their bytes."""

    sender: Sender
    tap: Tap
    stamp: Stamp
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
    tails: Mapping[Tap, Mapping[int, bytes]]
    """By the tap where it must come out and its id: how each frame must end, but for the id."""


@dataclass(frozen=True)
class Volley:
    """Flows made ready to be sent, any number of times; conntrack is to be empty before each epoch."""

    flows: tuple[Flow, ...]
    epochs: tuple[tuple[Batch, ...], ...]

    @cached_property
    def order(self) -> Sequence[int]:
        """The number of each flow's frame among all as they are sent."""
        order = [0] * len(self.flows)
        for number, place in enumerate(place for epoch in self.epochs for batch in epoch for place in batch.flows):
            order[place] = number
        return order

    def idents(self) -> list[int]:
        """The id of each flow's packet."""
        sent = [
            batch.first_id + number for epoch in self.epochs for batch in epoch for number in range(len(batch.flows))
        ]
        return [sent[number] for number in self.order]


def epochs_of(flows: Sequence[Flow], arrive_at: Callable[[Flow], Arrival] | None = None) -> list[list[int]]:
    """Places of flows, split so that no epoch holds two of which conntrack takes one for the other's reply.

    Nor two that address translation could make one of. Where there are no ports, nothing else is left to tell them
    apart once both have their node's address, and conntrack refuses the second. Where there are, it gives the second
    another source port, of which a rule may have an opinion: ``arrive_at``, which tells the end and the port where a
    flow comes out, says that addresses are translated.
    """
    careful, free = _parted(flows) if arrive_at is None else (list(range(len(flows))), [])
    closed: list[list[int]] = []
    filling: list[tuple[set[Tuple], list[int]]] = []
    for place in careful:
        forward, backward = _tuples(flows[place])
        guises = {*_guises(flows[place], arrive_at)}
        apart = {backward, *map(_reply_to, guises), *(each for each in guises if each[2] == _ANYBODY)}
        epoch = next((epoch for epoch in filling if forward in epoch[0] or apart.isdisjoint(epoch[0])), None)
        if epoch is None:
            filling.append(epoch := (set(), []))
        epoch[0].update((forward, *guises))
        epoch[1].append(place)
        if len(epoch[1]) == EPOCH:
            filling.remove(epoch)
            closed.append(epoch[1])
    return closed + list(_filled_up([places for _, places in filling], free))


def _parted(flows: Sequence[Flow]) -> tuple[list[int], list[int]]:
    """Places of flows that may have their reply among them, and of those that cannot: most, and without a look at each.

    A reply comes from a port that some flow goes to, and goes to one that some flow comes from.
    """
    ports = {flow.port for flow in flows}
    if None not in ports and ports.isdisjoint({flow.source_port or DEFAULT_SOURCE_PORT for flow in flows}):
        return [], list(range(len(flows)))
    source_ports = {flow.source_port or DEFAULT_SOURCE_PORT for flow in flows}
    careful: list[int] = []
    free: list[int] = []
    for place, flow in enumerate(flows):
        if flow.port is None:
            may_be = not _has_identifier(flow)
        else:
            may_be = flow.port in source_ports and (flow.source_port or DEFAULT_SOURCE_PORT) in ports
        (careful if may_be else free).append(place)
    return careful, free


def _filled_up(epochs: Iterable[list[int]], free: list[int]) -> Iterator[list[int]]:
    """The epochs with as many of the others as they have room for, and further ones for the rest."""
    start = 0
    for epoch in epochs:
        room = EPOCH - len(epoch)
        yield epoch + free[start : start + room]
        start += room
    for at in range(start, len(free), EPOCH):
        yield free[at : at + EPOCH]


def _tuples(flow: Flow) -> tuple[Tuple, Tuple]:
    """What conntrack knows the flow by, and the same for its replies.

    Replies to ICMP requests are told by their identifier, which no two packets of an epoch share: they need no
    care, and the impossible port keeps them apart from each other's opposite.
    """
    source, destination = flow.source, flow.destination
    source_port, port = 0, 0
    if _has_identifier(flow):
        port = -1
    elif flow.port is not None:
        source_port, port = flow.source_port or DEFAULT_SOURCE_PORT, flow.port
    kind = (flow.protocol, flow.family)
    return (*kind, source, source_port, destination, port), (*kind, destination, port, source, source_port)


def _has_identifier(flow: Flow) -> bool:
    """Whether conntrack looks at the identifier of ICMP: to it, that of the other family is but a number."""
    return (flow.protocol, flow.family) in ((ICMP, 4), (ICMPV6, 6))


def _guises(flow: Flow, arrive_at: Callable[[Flow], Arrival] | None) -> Iterator[Tuple]:
    """What conntrack may know a flow by once addresses were translated: from anybody, and to anybody."""
    if _has_identifier(flow) or (flow.port is not None and arrive_at is None):
        return
    source_port = 0 if flow.port is None else flow.source_port or DEFAULT_SOURCE_PORT
    destination, port = (flow.destination, 0) if arrive_at is None else arrive_at(flow)
    yield flow.protocol, flow.family, _ANYBODY, source_port, destination, port
    if arrive_at is not None:
        yield flow.protocol, flow.family, flow.source, source_port, _ANYBODY, port


def _reply_to(known: Tuple) -> Tuple:
    return (*known[:2], known[4], known[5], known[2], known[3])


def load_batches(
    flows: Sequence[Flow], places: Iterable[int], load_of: Callable[[Flow], Load], take_ids: Callable[[int], int]
) -> Iterator[Batch]:
    """Build an epoch's batches, sender by sender; ``take_ids`` reserves so many ids and returns the first."""
    by_sender: dict[Sender, list[_Loaded]] = {}
    before: Load | None = None
    for place in places:
        flow = flows[place]
        load = load_of(flow)
        if load is not before:  # most flows are sent as the one before
            before, append = load, by_sender.setdefault(load.sender, []).append
        append((load, flow, place))
    loaded = [each for sent_by_one in by_sender.values() for each in sent_by_one]
    for start in range(0, len(loaded), BATCH):
        yield _batch(loaded[start : start + BATCH], take_ids)


_Loaded = tuple[Load, Flow, int]
"""With the flow's place in the volley."""


def _batch(loaded: Sequence[_Loaded], take_ids: Callable[[int], int]) -> Batch:
    first_id = take_ids(len(loaded))
    frames: list[bytes] = []
    tails: dict[Tap, dict[int, bytes]] = {}
    before: Load | None = None
    for ident, (load, flow, _) in enumerate(loaded, first_id):
        if load is not before:
            before, stamp, compare_from = load, load.stamp, load.compare_from
            expected = tails.setdefault(load.tap, {})
        frame = stamp(ident, flow.source_port or DEFAULT_SOURCE_PORT, flow.port or 0)
        frames.append(frame)
        expected[ident] = frame[compare_from:-4]
    loads, _, places = zip(*loaded, strict=True)
    return Batch(
        first_id=first_id,
        frames=b"".join(frames),
        runs=tuple(_runs(loads)),
        flows=places,
        taps=tuple([load.tap for load in loads]),
        tails=tails,
    )


def _runs(loads: Sequence[Load]) -> Iterator[Run]:
    start = 0
    for sender, group in groupby(loads, key=attrgetter("sender")):
        sent = list(group)
        sockaddrs = tuple(load.sockaddr for load in sent) if sender.skip else ()
        yield Run(sender, range(start, start + len(sent)), sockaddrs)
        start += len(sent)
