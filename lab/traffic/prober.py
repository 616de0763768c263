# SPDX-License-Identifier: Apache-2.0
"""The verdict engine: sends the flows' packets through the lab's kernel and says what became of each.

Nothing waits for time to pass. The sender's own softirq carries a packet through the whole path, so that when
a batch's last send has returned and the end-of-batch markers are through, what has not arrived never will.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from errno import EPERM
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.topology import Flow
from lab.traffic.ends import Ends, NodePortOf
from lab.traffic.losses import ConntrackDrops, LossMeter
from lab.traffic.mmsg import InBox, OutBox, current_cpu
from lab.traffic.observation import Observation
from lab.traffic.sightings import Sightings
from lab.traffic.taps import Tap
from lab.traffic.volley import BATCH, Arrival, Batch, Volley, epochs_of, load_batches

if TYPE_CHECKING:
    from lab.traffic.capture import Recorder
    from lab.traffic.far_ends import FarLosses

__all__ = ["Observation", "Prober", "Volley", "one_cpu"]

_IDS: Final = 1 << 32


@contextmanager
def one_cpu() -> Iterator[int]:
    """Keep this thread on the CPU that it is on, so that its packets wait for no other; yields the CPU's number."""
    allowed = os.sched_getaffinity(0)
    cpu = current_cpu()
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


def _drops_of(node: NamespaceNode) -> ConntrackDrops | FarLosses:
    """Where a node loses packets, in this kernel or in its own."""
    if node.far is None:
        return ConntrackDrops(node)
    from lab.traffic.far_ends import FarLosses

    return FarLosses(node.far, node)


class Prober:
    """A context manager that owns sockets at all ends of a lab; while it is open, the ends do not answer.

    Not to be shared by threads. Packets that others send between the same ends at the same time are no
    hindrance, unless they carry an id of ours.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stack = ExitStack()
        self._next_id = 1
        self._in_boxes: dict[int, InBox] = {}
        self._out_boxes: dict[int, OutBox] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._lab.mute())
            self._ends = stack.enter_context(Ends(self._lab))
            self._drops = {name: _drops_of(node) for name, node in self._lab.nodes.items()}
            for drops in self._drops.values():
                stack.callback(drops.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def observe(self, flows: Sequence[Flow], recorder: Recorder | None = None) -> list[Observation]:
        """Send every flow's first packet; one observation for each, in order."""
        return self.fire(self.prepare(flows), recorder)

    def translate(self, forwards: Mapping[NodePortOf, Arrival], *, translated: bool) -> None:
        """Expect what comes to a node's port at another end, and with other headers where ``translated``.

        Volleys that were prepared before do not know of it.
        """
        self._ends.translate(forwards, translated=translated)

    def prepare(self, flows: Sequence[Flow]) -> Volley:
        """Build the frames; they can be fired any number of times, by this prober only.

        Raises TopologyError when an end is not in the topology or lacks an address of the flow's family.
        """
        places_of = epochs_of(flows, self._ends.arrive_at if self._ends.translated else None)
        epochs = tuple(tuple(load_batches(flows, places, self._ends.load, self._take_ids)) for places in places_of)
        return Volley(tuple(flows), epochs)

    def fire(self, volley: Volley, recorder: Recorder | None = None) -> list[Observation]:
        """Send a volley; one observation for each of its flows, in order. A recorder keeps what it saw of it."""
        watching = nullcontext() if recorder is None else recorder.watch(self._lab)
        with watching, one_cpu() as cpu:
            self._discard()
            meter = LossMeter(self._drops, cpu, self._lab.losses)
            if recorder is not None:
                recorder.note(volley)
            observations = self._fire_epochs(volley, recorder)
            losses = meter.losses()
        if losses is None:
            return observations
        reason, detail = losses
        unknown = Observation("inconclusive", reason=reason, detail=detail)
        return [unknown if seen.verdict == "deny" and seen.answer is None else seen for seen in observations]

    def _fire_epochs(self, volley: Volley, recorder: Recorder | None) -> list[Observation]:
        observations: list[Observation] = []  # in the order in which the frames are sent
        blind = {tap: f"{tap.interface} of {tap.name} is down" for tap in self._ends.taps if tap.is_down()}
        lost = {tap: tap.lost() for tap in self._ends.taps}
        for epoch in volley.epochs:
            self._lab.flush_conntrack()
            for batch in epoch:
                observations += self._fire_batch(batch, blind, lost)
                if recorder is not None:
                    recorder.collect()
        return [*map(observations.__getitem__, volley.order)]

    def _fire_batch(self, batch: Batch, blind: Mapping[Tap, str], lost: dict[Tap, int]) -> list[Observation]:
        """Send a batch and see what arrives; ``lost`` tells what taps had lost before, and does so behind it, too."""
        sightings = Sightings(batch, blind)
        boxes = {skip: self._out_box(skip) for skip in {run.sender.skip for run in batch.runs}}
        for box in boxes.values():
            box.load(batch.frames)
        for run in batch.runs:
            box = boxes[run.sender.skip]
            if run.sockaddrs:
                box.address(run.places, run.sockaddrs)
            for place, errno in run.sender.send(box, run.places):
                # A node is told at once that its own rules drop what it sends: that is a verdict, and no trouble.
                if errno != EPERM or not run.sender.skip:
                    sightings.refuse(place, errno)
        settled = self._lab.settle()
        for tap in self._ends.taps:
            sightings.collect(tap, self._in_box(tap.skip))
        now = {tap: tap.lost() for tap in self._ends.taps}
        lost_meanwhile = {tap: count - lost[tap] for tap, count in now.items() if count > lost[tap]}
        lost.update(now)
        return sightings.conclude(lost_meanwhile, settled=settled)

    def _out_box(self, skip: int) -> OutBox:
        box = self._out_boxes.get(skip)
        if box is None:
            box = self._out_boxes[skip] = OutBox(BATCH, skip)
        return box

    def _in_box(self, skip: int) -> InBox:
        box = self._in_boxes.get(skip)
        if box is None:
            box = self._in_boxes[skip] = InBox(BATCH, skip)
        return box

    def _discard(self) -> None:
        """Forget what came in before, also that an interface was down for a while."""
        for tap in self._ends.taps:
            box = self._in_box(tap.skip)
            with suppress(OSError):
                while tap.fetch(box).more:
                    pass
                tap.fetch(box)  # what was found last has its room until the next look

    def _take_ids(self, count: int) -> int:
        """Reserve ids that no other batch of this prober has, until four billion are used up."""
        if self._next_id + count > _IDS:
            self._next_id = 1
        first, self._next_id = self._next_id, self._next_id + count
        return first
