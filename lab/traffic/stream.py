# SPDX-License-Identifier: Apache-2.0
"""A stream of packets while something changes: the same flows over and over, each packet with an id and a time.

It is sent and seen by a process of its own, so that nothing that a change does in this one stops it. A round is one
packet of each flow, the end-of-batch markers, and a look at what came out; it takes some hundred microseconds. So a
moment in which a flow fares otherwise is seen if it is longer than that, and often if it is shorter.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Final, NoReturn, Self

from lab.errors import HostError, TopologyError
from lab.fabric.lab import Lab
from lab.protocols import UDP
from lab.topology import DEFAULT_SOURCE_PORT, Flow, address_of
from lab.traffic.losses import ConntrackDrops, LossMeter
from lab.traffic.packets import ID_AT, MAGIC, Wire, frame_of
from lab.traffic.prober import one_cpu
from lab.traffic.taps import RECEIVE_BUFFER
from lab.traffic.together import together

__all__ = ["Passage", "Stream", "Watch"]

KINDS_OF_ID: Final = 64
"""Rounds whose packets have ids of their own; then they come again."""
_BEGUN: Final = "begun"
_PATIENCE_SECONDS: Final = 10.0
_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_RCVBUFFORCE: Final = 33
_ROOM: Final = 2048


@dataclass(frozen=True, slots=True)
class Watch:
    """A flow that must arrive all the time, or never.

    ``held``: it is answered once before the stream begins, so that it is established, whatever policy becomes. Only
    UDP flows can be held. Both ends are workloads or externals.
    """

    flow: Flow
    allowed: bool
    held: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of a watched flow. Times are those of the monotonic clock, in nanoseconds, before and after sending.

    ``wrong`` are the rounds, two or more in a row, in which it fared otherwise than it must; ``lone`` counts those that
    did so between two that did not. ``trouble`` tells why nothing can be said.

    A lone one says nothing of the dataplane: a packet that is under way while the kernel puts a transaction in force
    may meet rules of before and sets, maps or hooks of after (nf_tables takes its generation when a hook begins, and
    looks at it anew in each set).
    """

    watch: Watch
    rounds: int
    wrong: tuple[tuple[int, int], ...]
    trouble: str = ""
    lone: int = 0


class Stream:
    """A context manager: it streams from when it is entered until ``stop``, which tells what became of each flow.

    The lab must be mute, and nobody else may use its barrier meanwhile. Raises HostError where the stream cannot
    begin, TopologyError for ends that cannot be watched.
    """

    def __init__(self, lab: Lab, watches: Sequence[Watch]) -> None:
        self._lab = lab
        self._watches = tuple(watches)
        self._child: int | None = None

    def __enter__(self) -> Self:
        for watch in self._watches:
            self._check(watch)
        ours, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _live(self._lab, self._watches, theirs, parent)
        theirs.close()
        self._child, self._link = pid, ours
        word = self._hear()
        if word != _BEGUN:
            self._end()
            raise HostError("packets cannot be streamed here", value=word, next_step="see `policylab doctor`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def stop(self) -> tuple[Passage, ...]:
        """End the stream when all that is on its way has arrived; a passage for each watch, in order."""
        with suppress(OSError):  # it is gone already: that is told below
            self._link.send("stop")
        told = self._hear()
        self._end()
        if not isinstance(told, tuple):
            raise HostError("the stream of packets broke off", value=told, next_step="see `policylab doctor`")
        return told

    def _hear(self) -> object:
        """The next word of the other process, or why there is none."""
        try:
            return self._link.recv() if self._link.poll(_PATIENCE_SECONDS) else "nothing was heard of it"
        except (EOFError, OSError):
            return "its process is gone"

    def _check(self, watch: Watch) -> None:
        ends = (watch.flow.source, watch.flow.destination)
        if not set(ends) <= self._lab.ports.keys() or any(self._lab.hosts[name].far is not None for name in ends):
            raise TopologyError("no end of a stream", value=" -> ".join(ends), allowed="workloads and externals here")
        if watch.held and watch.flow.protocol != UDP:
            raise TopologyError("only UDP flows can be held", value=watch.flow.protocol)

    def _end(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._link.close()
            self._child = None


def _live(lab: Lab, watches: Sequence[Watch], link: Connection, parent: int) -> NoReturn:
    """The life of the other process; it never returns into what called it."""
    status = 1
    try:
        with one_cpu() as cpu, ExitStack() as stack:
            streaming = _Streaming(lab, watches, cpu)
            stack.callback(streaming.close)
            streaming.hold()
            streaming.round()
            link.send(_BEGUN)
            while not link.poll(0) and os.getppid() == parent:
                streaming.round()
            passages = streaming.passages()
        link.send(passages)
        status = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, it is for the other side
        with suppress(OSError):
            link.send(repr(error))
    finally:
        os._exit(status)


class _Streaming:
    """The other process's sockets, frames and sightings."""

    def __init__(self, lab: Lab, watches: Sequence[Watch], cpu: int) -> None:
        self._lab, self._watches = lab, watches
        ends = dict.fromkeys(name for watch in watches for name in (watch.flow.source, watch.flow.destination))
        self._sockets = {name: _opened(lab, name) for name in ends}
        count = len(watches)
        self._frames = [
            [_frame(lab, watch.flow, kind * count + place) for place, watch in enumerate(watches)]
            for kind in range(KINDS_OF_ID)
        ]
        self._times: list[tuple[int, int]] = []
        self._arrived: list[list[int]] = [[] for _ in watches]
        drops = {name: ConntrackDrops(node) for name, node in lab.nodes.items() if node.far is None}
        self._meter = LossMeter(drops, cpu)
        self._unsettled = 0

    def close(self) -> None:
        """Give the sockets back."""
        together(sock.close for sock in self._sockets.values())

    def hold(self) -> None:
        """Have the flows answered that are held."""
        for watch in self._watches:
            if watch.held:
                flow = watch.flow
                answer = replace(
                    flow,
                    source=flow.destination,
                    destination=flow.source,
                    port=flow.source_port or DEFAULT_SOURCE_PORT,
                    source_port=flow.port,
                )
                for each in (flow, answer):
                    self._sockets[each.source].send(_frame(self._lab, each, (1 << 32) - 1))
                    self._lab.settle()
        self._arrivals()

    def round(self) -> None:
        """Send one packet of each flow, and see what comes out."""
        number = len(self._times)
        frames, begun = self._frames[number % KINDS_OF_ID], time.monotonic_ns()
        for watch, frame in zip(self._watches, frames, strict=True):
            with suppress(OSError):  # what was not sent does not arrive, and that is told
                self._sockets[watch.flow.source].send(frame)
        self._times.append((begun, time.monotonic_ns()))
        self._unsettled += not self._lab.settle()
        for kind, place in self._arrivals():
            # One that is late belongs to the last round that had such ids.
            self._arrived[place].append(number - (number - kind) % KINDS_OF_ID)

    def passages(self) -> tuple[Passage, ...]:
        """What there is to be told of each watch."""
        losses = self._meter.losses()
        trouble = "" if losses is None else f"{losses[0].value}: {losses[1]}"
        trouble = trouble or (f"{self._unsettled} rounds did not settle" if self._unsettled else "")
        return tuple(self._passage(watch, self._arrived[place], trouble) for place, watch in enumerate(self._watches))

    def _passage(self, watch: Watch, arrived: Sequence[int], trouble: str) -> Passage:
        rounds = range(len(self._times))
        strayed = set(rounds) - set(arrived) if watch.allowed else set(arrived)
        wrong = sorted(number for number in strayed if not strayed.isdisjoint((number - 1, number + 1)))
        # What arrived cannot be a loss.
        doubt = trouble if watch.allowed and wrong else ""
        times = tuple(self._times[number] for number in wrong)
        return Passage(watch, len(rounds), times, doubt, lone=len(strayed) - len(wrong))

    def _arrivals(self) -> Iterator[tuple[int, int]]:
        """(Round modulo KINDS_OF_ID, place of the flow) of all that has come out at the ends that it was sent to."""
        count = len(self._watches)
        found: list[tuple[int, int]] = []
        for name, sock in self._sockets.items():
            with suppress(BlockingIOError):
                while True:
                    frame = sock.recv(_ROOM)
                    kind, place = divmod(int.from_bytes(frame[ID_AT : ID_AT + 4], "big"), count)
                    ours = frame[ID_AT - len(MAGIC) : ID_AT] == MAGIC and kind < KINDS_OF_ID
                    if ours and self._watches[place].flow.destination == name:  # whatever was translated on its way
                        found.append((kind, place))
        return iter(found)


def _opened(lab: Lab, name: str) -> socket.socket:
    port = lab.ports[name]
    sock = port.host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.setblocking(False)
    sock.bind((port.interface, _ETH_P_ALL))
    return sock


def _frame(lab: Lab, flow: Flow, ident: int) -> bytes:
    port = lab.ports[flow.source]
    addresses = []
    for name in (flow.source, flow.destination):
        end = lab.topology.end(name)
        address = None if end is None else address_of(end, flow.family)
        if address is None:
            raise TopologyError("an end without an address of the flow's family", place=flow.place, value=name)
        addresses.append(address)
    return frame_of(flow, Wire(port.mac, port.gateway_mac, *addresses), ident)
