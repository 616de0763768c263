# SPDX-License-Identifier: Apache-2.0
"""Markers on the wire between this kernel and a machine: what has come in before one was sent before it.

They are frames of an EtherType that no protocol stack has ears for. Their path is shared with all packets between
the two kernels, first in, first out: the card's queue, the emulator, the tap.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Final

from lab.fabric.node import Node

__all__ = ["MARK_SECONDS", "Markers"]

MARK_SECONDS: Final = 30.0
"""For a marker to come through; an emulated machine needs milliseconds, on a busy host a second. It is given up then,
and what has not arrived is inconclusive."""

# For local experiments (IEEE 802).
_ETHERTYPE: Final = 0x88B5
_MARKER: Final = struct.Struct("!6s6sHQ36x")
_ROOM: Final = 128


class Markers:
    """Sends and awaits markers at one end of the wire to a machine."""

    def __init__(self, host: Node, interface: str, to: bytes, own: bytes) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((interface, _ETHERTYPE))
        self._socket.setblocking(False)
        self._head = to + own

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, number: int) -> None:
        """Send the marker with this number; it waits behind all that has been sent on the interface."""
        self._socket.send(_MARKER.pack(self._head[:6], self._head[6:], _ETHERTYPE, number))

    def wait(self, number: int) -> bool:
        """Wait for the marker with this number from the other end; False when it does not come."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        deadline = time.monotonic() + MARK_SECONDS
        while not self._seen(number):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
        return True

    def _seen(self, number: int) -> bool:
        """Take out what has come, markers of earlier rounds included."""
        try:
            while True:
                frame, (_, _, kind, *_) = self._socket.recvfrom(_ROOM)
                if kind != socket.PACKET_OUTGOING and _MARKER.unpack_from(frame)[3] == number:
                    return True
        except BlockingIOError:
            return False
