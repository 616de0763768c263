# SPDX-License-Identifier: Apache-2.0
"""The end-of-batch barrier: proof that what this CPU has sent is through, instead of waiting for it.

A CPU works its packet backlog off in order. A marker that is sent after a batch on the same CPU therefore comes
back only when everything before it has been carried one veth further; k markers, each sent when the one before
is back, prove that every packet has made k crossings or is dead.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Final

__all__ = ["MARKER_TYPE", "Barrier"]

MARKER_TYPE: Final = 0x88B5
"""The EtherType for local experiments (IEEE 802, table of public EtherTypes)."""
TIMEOUT_SECONDS: Final = 2.0
"""A marker normally needs microseconds; after this long the batch is not known to be through."""


class Barrier:
    """Markers over a veth pair of the lab's own, which no policy touches."""

    def __init__(self, sender: socket.socket, receiver: socket.socket, frame_head: bytes) -> None:
        self._sender = sender
        self._receiver = receiver
        self._head = frame_head + struct.pack("!H", MARKER_TYPE)
        self._count = 0

    def wait(self, hops: int) -> bool:
        """Whether all that this thread's CPU sent before has made ``hops`` crossings; False after TIMEOUT_SECONDS."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        return all(self._round(deadline) for _ in range(hops))

    def close(self) -> None:
        """Close both sockets."""
        self._sender.close()
        self._receiver.close()

    def _round(self, deadline: float) -> bool:
        """Send one marker and wait for its return; an older one that comes late is passed over."""
        self._count += 1
        marker = self._head + struct.pack("!Q", self._count)
        self._sender.send(marker)
        while True:
            try:
                if self._receiver.recv(len(marker), socket.MSG_DONTWAIT) == marker:
                    return True
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                select.select([self._receiver], [], [], left)
