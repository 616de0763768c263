# SPDX-License-Identifier: Apache-2.0
"""Ends in the kernel of a machine: their sockets are there, what they send and have seen comes over in batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lab.fabric.machine.far import Far, FarObject
from lab.fabric.node import Node
from lab.traffic.losses import ConntrackDrops, backlog_drops
from lab.traffic.mmsg import InBox, OutBox
from lab.traffic.observation import Observation
from lab.traffic.packets import ETHERNET_HEADER
from lab.traffic.taps import FrameTap, SocketSender, SocketTap, frame_tap, raw_sender, raw_tap
from lab.traffic.volley import BATCH

__all__ = ["FarLosses", "FarSender", "FarTap", "far_frames", "far_raw_sender", "far_raw_tap"]


# --- on the machine ------------------------------------------------------------------------------------------------


class TapThere:
    """On a machine: a tap with a box for what it has seen."""

    def __init__(self, tap: SocketTap | FrameTap) -> None:
        self._tap = tap
        self._box = InBox(BATCH, tap.skip)

    def skip(self) -> int:
        """Bytes of a frame's start that are left away."""
        return self._tap.skip

    def fetch(self) -> list[tuple[int, bytes]]:
        """Length and content of all frames that wait; the error of the socket as OSError."""
        frames: list[tuple[int, bytes]] = []
        more = True
        while more:
            catch = self._tap.fetch(self._box)
            frames += [(length, catch.whole(place)) for place, length in enumerate(catch.lengths())]
            more = catch.more
        return frames

    def lost(self) -> int:
        """How many packets it has dropped."""
        return self._tap.lost()

    def is_down(self) -> bool:
        """Whether its interface is down."""
        return self._tap.is_down()

    def sender(self) -> SocketSender:
        """A sender that uses the same socket."""
        return SocketSender(self._tap.name, self._tap.socket, 0)

    def close(self) -> None:
        """Give the socket back."""
        self._tap.close()


class SenderThere:
    """On a machine: a sender with a box for what it is to send."""

    def __init__(self, sender: SocketSender) -> None:
        self._sender = sender
        self._box = OutBox(BATCH, sender.skip)

    def send(self, frames: bytes, sockaddrs: Sequence[bytes], count: int) -> list[tuple[int, int]]:
        """Send frames that stand one behind the other; the places of those that were refused, with the errno."""
        self._box.load(frames)
        if sockaddrs:
            self._box.address(range(count), sockaddrs)
        return list(self._sender.send(self._box, range(count)))

    def close(self) -> None:
        """Give the socket back."""
        self._sender.close()


class LossesThere:
    """On a machine: where its node loses packets."""

    def __init__(self, node: Node) -> None:
        self._conntrack = ConntrackDrops(node)

    def conntrack(self) -> int:
        """What conntrack has dropped."""
        return self._conntrack.read()

    def backlog(self) -> int:
        """What the only CPU that is used there had no room for."""
        return backlog_drops(min(os.sched_getaffinity(0)))

    def close(self) -> None:
        """Give the socket back."""
        self._conntrack.close()


def frames_there(name: str, host: Node, interface: str) -> TapThere:
    """See and send frames on an interface of a host that is on this machine."""
    return TapThere(frame_tap(name, host, interface))


def sender_of(tap: TapThere) -> SenderThere:
    """Send by the socket of a tap."""
    return SenderThere(tap.sender())


def raw_tap_there(name: str, node: Node, version: int, protocol: int) -> TapThere:
    """See what the node on this machine accepts."""
    return TapThere(raw_tap(name, node, version, protocol))


def raw_sender_there(name: str, node: Node, version: int) -> SenderThere:
    """Send from the node on this machine."""
    return SenderThere(raw_sender(name, node, version))


# --- here ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FarTap:
    """A tap on a machine."""

    name: str
    skip: int
    interface: str | None
    allowed: Observation
    there: FarObject
    _waiting: deque[tuple[int, bytes]] = field(default_factory=deque)

    def fetch(self, box: InBox) -> InBox:
        """What waits there, put into a box as far as it has room."""
        if not self._waiting:
            self._waiting.extend(self.there.fetch())
        box.put(self._waiting)
        return box

    def lost(self) -> int:
        """How many packets it has dropped since it was opened."""
        return int(self.there.lost())

    def is_down(self) -> bool:
        """Whether its interface is down."""
        return bool(self.there.is_down())

    def close(self) -> None:
        """See nothing any more."""
        self.there.close()


@dataclass(frozen=True, slots=True, eq=False)
class FarSender:
    """A sender on a machine."""

    name: str
    skip: int
    there: FarObject

    def send(self, box: OutBox, places: range) -> Iterator[tuple[int, int]]:
        """Send what lies in these slots; yields (place, errno) of what could not be sent."""
        frames, sockaddrs = box.cut(places)
        for place, errno in self.there.send(frames, sockaddrs if self.skip else [], len(places)):
            yield places[place], errno

    def close(self) -> None:
        """Send nothing any more."""
        self.there.close()


class FarLosses:
    """Where a node that is a machine loses packets."""

    def __init__(self, far: Far, node: Node) -> None:
        self._there = far.make(LossesThere, node)

    def read(self) -> int:
        """What conntrack has dropped there."""
        return int(self._there.conntrack())

    def backlog(self) -> int:
        """What its CPU had no room for."""
        return int(self._there.backlog())

    def close(self) -> None:
        """Give the socket there back."""
        self._there.close()


def far_frames(far: Far, name: str, host: Node, interface: str) -> tuple[FarTap, FarSender]:
    """See and send frames on an interface of a host on a machine; both are closed with the tap."""
    there = far.make(frames_there, name, host, interface)
    return FarTap(name, 0, interface, _allowed(name), there), FarSender(name, 0, far.make(sender_of, there))


def far_raw_tap(far: Far, name: str, node: Node, version: int, protocol: int) -> FarTap:
    """See what a node that is a machine accepts of one protocol."""
    there = far.make(raw_tap_there, name, node, version, protocol)
    return FarTap(name, int(there.skip()), None, _allowed(name), there)


def far_raw_sender(far: Far, name: str, node: Node, version: int) -> FarSender:
    """Send IP packets from a node that is a machine."""
    return FarSender(name, ETHERNET_HEADER, far.make(raw_sender_there, name, node, version))


def _allowed(name: str) -> Observation:
    return Observation("allow", arrived=name)
