# SPDX-License-Identifier: Apache-2.0
"""Keeps the frames of a few flows as all interfaces of the lab saw them, for a failing case's pcap."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from lab.fabric.lab import Lab
from lab.fabric.node import Node
from lab.traffic.packets import FRAME_LENGTH, MAGIC
from lab.traffic.pcap import CapturedFrame, pcapng
from lab.traffic.volley import Volley

__all__ = ["Recorder"]

_ETH_P_ALL: Final = 0x0003
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_RECEIVE_BUFFER: Final = 4 << 20
_LONGEST: Final = 1 << 16
_TIMESPEC: Final = struct.Struct("=qq")
_SECOND: Final = 10**9
STAMPS_WITHIN: Final = 1.0
_MARKER: Final = bytes(12) + b"\x88\xb5" + bytes(46)
"""A frame of the EtherType for local experiments, from and to nobody."""
_ETHERNET_TYPES: Final = frozenset({1, 772})
"""ARPHRD_ETHER, ARPHRD_LOOPBACK: what is captured has an Ethernet header."""


class Recorder:
    """Keeps what every interface of every host sees, both ways, while a prober sends with it.

    Give it to a prober for the few flows that a report shows: each frame is kept once for each interface on its way.
    """

    def __init__(self) -> None:
        self._sockets: list[tuple[str, socket.socket]] = []
        self._frames: list[CapturedFrame] = []
        self._sent: Volley | None = None

    @contextmanager
    def watch(self, lab: Lab) -> Iterator[None]:
        """Listen on all interfaces of a lab for as long as the context is open."""
        # What is in the kernel of a machine is not heard here, but all that goes to it or comes from it is.
        hosts: dict[str, Node] = {name: node for name, node in lab.hosts.items() if node.far is None}
        hosts |= {"underlay": lab.underlay} if len(hosts) < len(lab.hosts) else {}
        with ExitStack() as stack:
            self._sockets = [(name, stack.enter_context(_listen(host))) for name, host in hosts.items()]
            name, sock = self._sockets[0]
            _wait_for_stamps(hosts[name], sock)
            try:
                yield
                self.collect()
            finally:
                self._sockets = []

    @property
    def frames(self) -> tuple[CapturedFrame, ...]:
        """What was collected, oldest first."""
        return tuple(sorted(self._frames, key=lambda frame: frame.time))

    def note(self, volley: Volley) -> None:
        """Remember what was sent; the prober says so."""
        self._sent = volley

    def trails(self) -> list[tuple[str, ...]]:
        """Where the packet of each flow was seen, interface by interface (``host:interface``), up to where it died.

        Answers, which quote it, are not among them.
        """
        if self._sent is None:
            return []
        seen: dict[str, list[str]] = {}
        for frame in self.frames:
            if len(frame.data) == FRAME_LENGTH:
                seen.setdefault(frame.comment, []).append(frame.interface)
        comments = (_comment(ident) for ident in self._sent.idents())
        return [tuple(dict.fromkeys(seen.get(comment, ()))) for comment in comments]

    def collect(self) -> None:
        """Take in what the interfaces have seen; the prober calls this when a batch has settled."""
        for name, sock in self._sockets:
            while (frame := _receive(name, sock)) is not None:
                self._frames.append(frame)

    def write(self, path: Path) -> None:
        """Write the frames to a pcapng file, each interface named ``host:interface``."""
        path.write_bytes(pcapng(self._frames))


def _listen(host: Node) -> socket.socket:
    sock = host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    return sock


def _wait_for_stamps(host: Node, sock: socket.socket) -> None:
    """Until frames bear the time of their arrival: the kernel turns that on in the background.

    Before, the time is that of reading. A frame on ``lo`` that was stamped before its send returned tells the
    difference. After STAMPS_WITHIN seconds times are taken as they are.
    """
    give_up = time.monotonic() + STAMPS_WITHIN
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("lo", 0))
        while time.monotonic() < give_up:
            sender.send(_MARKER)
            sent = time.time_ns()
            stamps = [frame.time for frame in iter(lambda: _receive("", sock), None)]
            if stamps and stamps[-1] <= sent:
                return


def _receive(host: str, sock: socket.socket) -> CapturedFrame | None:
    """The next frame that waits, or None; link types without an Ethernet header are passed over."""
    while True:
        try:
            data, ancillary, _, address = sock.recvmsg(_LONGEST, socket.CMSG_SPACE(_TIMESPEC.size))
        except BlockingIOError:
            return None
        interface, _, direction, hardware, _ = address
        if hardware not in _ETHERNET_TYPES:
            continue
        seconds, rest = _TIMESPEC.unpack(ancillary[0][2])
        at = data.rfind(MAGIC)
        ident = int.from_bytes(data[at + len(MAGIC) : at + len(MAGIC) + 4], "big")
        return CapturedFrame(
            interface=f"{host}:{interface}",
            time=seconds * _SECOND + rest,
            data=data,
            inbound=direction != socket.PACKET_OUTGOING,
            comment=_comment(ident) if at >= 0 else "",
        )


def _comment(ident: int) -> str:
    return f"id {ident}"
