# SPDX-License-Identifier: Apache-2.0
"""What a flooded machine keeps: a connection that is none of the flood's, on the same interface, while it lasts."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from lab.errors import DataplaneError
from lab.fabric.lab import Lab
from lab.traffic.flood import Flood, Spent
from lab.traffic.prober import one_cpu

__all__ = ["Kept", "flooded"]

_SECONDS: Final = 1.0
_PORT: Final = 8080
_REQUEST: Final = bytes(4096)
_RATE: Final = 1_000_000
"""Packets a second, the same for every way: what it takes to drop them is no longer there for others."""
_LATE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Megabytes a second of answers to requests of 4 KB, the median answer's milliseconds, what the flood managed."""

    megabytes: float
    milliseconds: float
    flood: Spent


def flooded(lab: Lab, client: str, node: str, flood: Flood | None) -> Kept:
    """Flood a node for a second while a client asks a server there for as much as it can get, all on one CPU.

    Without a flood it gets what there is to get.
    """
    with one_cpu():
        return _flooded(lab, client, node, flood)


def _flooded(lab: Lab, client: str, node: str, flood: Flood | None) -> Kept:
    """Do it with all threads where this one is: what dropping takes, the connection has not."""
    address = next(str(each) for each in lab.upstream(node).addresses if each.version == 4)
    spent: list[Spent] = []
    with lab.nodes[node].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((address, _PORT))
        listener.listen()
        server = threading.Thread(target=partial(_serve, listener))
        server.start()
        with lab.hosts[client].socket(socket.AF_INET, socket.SOCK_STREAM) as own:
            own.settimeout(_LATE)
            own.connect((address, _PORT))
            sender = threading.Thread(target=lambda: spent.append(_send(lab, node, flood)))
            sender.start()
            answered = _ask(own, sender)
        sender.join()
        server.join()
    if not answered:
        raise DataplaneError("a connection got nothing through while its node was flooded", place=node)
    bytes_got = len(answered) * len(_REQUEST)
    return Kept(bytes_got / 1e6 / max(sum(answered), 1e-9), median(answered) * 1e3, spent[0])


def _send(lab: Lab, node: str, flood: Flood | None) -> Spent:
    """Send ahead of all other work of this CPU, as packets from a wire come: they wait for no process."""
    if flood is None:
        time.sleep(_SECONDS)
        return Spent(0, _SECONDS, 0.0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return flood.send(lab.upstream(node), _RATE, _SECONDS, _RATE)


def _serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def _ask(own: socket.socket, sender: threading.Thread) -> list[float]:
    """The seconds that each answer took, for as long as the flood lasts."""
    took: list[float] = []
    while sender.is_alive():
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
