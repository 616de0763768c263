# SPDX-License-Identifier: Apache-2.0
"""What a flooded machine keeps: a connection that is none of the flood's, on the same interface, while it lasts.

All of it happens on one CPU and ahead of what else the machine does: the flood first, as packets from a wire come, the
connection in what is left.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Final

from lab.errors import DataplaneError
from lab.fabric.lab import Lab
from lab.traffic.flood import Flood, Spent
from lab.traffic.prober import one_cpu

__all__ = ["RATE", "Kept", "flooded"]

_SECONDS: Final = 0.8
"""Less than a second, of which the kernel keeps a twentieth for those who wait."""
_PORT: Final = 8080
_REQUEST: Final = bytes(4096)
RATE: Final = 250_000
"""Packets a second, the same for every way: what it takes to drop them is no longer there for others.

Even the slowest can drop so many: at more, what the connection keeps would be what the scheduler leaves it.
"""
_LATE: Final = 5.0
_FLOOD, _CONNECTION = 2, 1
"""Priorities of SCHED_FIFO: other work on this CPU waits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Megabytes a second of answers to requests of 4 KB, how long one takes in milliseconds, what the flood managed.

    The latency is that of the answer that is on its way at any moment: a long one counts for as long as it lasts, as
    it would for others who ask meanwhile.
    """

    megabytes: float
    milliseconds: float
    flood: Spent

    @classmethod
    def of(cls, answers: list[float], flood: Spent) -> Kept:
        """What is kept when answers took so many seconds each."""
        busy = max(sum(answers), 1e-9)
        return cls(len(answers) * len(_REQUEST) / 1e6 / busy, sum(each * each for each in answers) / busy * 1e3, flood)


def flooded(lab: Lab, client: str, node: str, flood: Flood | None) -> Kept:
    """Flood a node for a second while a client asks a server there for as much as it can get.

    Without a flood it gets what there is to get.
    """
    # A process of its own: a thread would share the interpreter's lock with the connection, and come too late.
    ours, theirs = Pipe(duplex=False)
    sender = get_context("fork").Process(target=partial(_send, lab, node, flood, theirs), daemon=True)

    def begin() -> None:
        sender.start()
        theirs.close()
        ours.recv()

    with one_cpu(), _ahead(_CONNECTION), ours, theirs:
        try:
            answers = _answers(lab, client, node, begin)
            spent = Spent(*ours.recv())
        except EOFError as error:
            raise DataplaneError("a flood ended before its time", place=node) from error
        finally:
            if sender.is_alive():
                sender.join()
    if not answers:
        raise DataplaneError("a connection got nothing through while its node was flooded", place=node)
    return Kept.of(answers, spent)


def _answers(lab: Lab, client: str, node: str, begin: Callable[[], None]) -> list[float]:
    """The seconds that each answer took, from when the flood begins, for as long as it is to last."""
    address = next(str(each) for each in lab.upstream(node).addresses if each.version == 4)
    with lab.nodes[node].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((address, _PORT))
        listener.listen()
        with lab.hosts[client].socket(socket.AF_INET, socket.SOCK_STREAM) as own:
            own.settimeout(_LATE)
            own.connect((address, _PORT))
            begin()
            server = threading.Thread(target=partial(_serve, listener))
            server.start()
            answers = _ask(own)
        server.join()
    return answers


def _send(lab: Lab, node: str, flood: Flood | None, done: Connection) -> None:
    """Say that it begins, send the flood, and tell what that took."""
    with _ahead(_FLOOD):
        done.send("begins")
        if flood is None:
            time.sleep(_SECONDS)
            spent = Spent(0, _SECONDS, 0.0)
        else:
            spent = flood.send(lab.upstream(node), round(RATE * _SECONDS), _SECONDS, RATE)
    done.send(astuple(spent))


@contextmanager
def _ahead(priority: int) -> Iterator[None]:
    """Let this thread, and those that it starts, run ahead of what else the machine does, where that is permitted."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def _ask(own: socket.socket) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        start = time.perf_counter()
        own.sendall(_REQUEST)
        left = len(_REQUEST)
        while left:
            try:
                got = len(own.recv(left))
            except TimeoutError:
                return took
            if not got:
                return took
            left -= got
        took.append(time.perf_counter() - start)
    return took
