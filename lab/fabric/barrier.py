# SPDX-License-Identifier: Apache-2.0
"""Proves that packets have come to their end, without waiting for time to pass.

What a thread sends into a veth is queued on the CPU that it runs on and taken off in that order. A marker that is
sent later and has come out of a veth of the lab's own has therefore seen every earlier packet of this CPU cross one
veth too, or die; after as many rounds as the longest path has veths, none is on its way any more.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from lab.fabric import settings
from lab.fabric.messages import Interface, Up, Wire
from lab.fabric.namespace import new_namespace
from lab.fabric.netlink import Netlink
from lab.fabric.ready import wait_until_ready

__all__ = ["TIMEOUT_SECONDS", "Barrier"]

TIMEOUT_SECONDS: Final = 2.0
"""For one round, which takes some microseconds: a marker that is this late was lost."""

# For local experiments (IEEE 802): no protocol stack has ears for it.
_ETHERTYPE: Final = 0x88B5
_MARKER: Final = struct.Struct("!6s6sHQ36x")
_MTU: Final = 1500
_NEAR: Final = Interface("the barrier", "out", 32, bytes.fromhex("020000000020"))
_FAR: Final = Interface("the barrier", "in", 33, bytes.fromhex("020000000021"))


class Barrier:
    """A veth pair in a namespace of its own, held by one socket: it listens at one end and sends at the other."""

    def __init__(self, stack: ExitStack, wanted: Mapping[str, str]) -> None:
        """Make the pair, with these sysctls, in a new namespace, to which the calling thread is moved.

        The socket is closed by ``stack``.
        """
        namespace = new_namespace()
        try:
            settings.write(wanted)
            with Netlink() as netlink:
                netlink.send((Wire(_NEAR, _FAR, _MTU).message(namespace), Up(_FAR.ifindex).message()))
                wait_until_ready(netlink, (), "the barrier")
        finally:
            os.close(namespace)
        self._socket = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK))
        self._socket.bind((_FAR.name, _ETHERTYPE))
        self._count = 0

    def wait(self, hops: int) -> bool:
        """Send a marker over the pair and receive it, so many times in a row, from this thread's CPU.

        When this returns True, whatever the CPU has sent before is across ``hops`` veths, or dead. The thread must
        have stayed on its CPU in between. False: a marker was lost or took longer than TIMEOUT_SECONDS.
        """
        return all(self._round() for _ in range(hops))

    def _round(self) -> bool:
        self._count += 1
        marker = _MARKER.pack(_FAR.mac, _NEAR.mac, _ETHERTYPE, self._count)
        self._socket.sendto(marker, (_NEAR.name, 0))
        return self._seen(marker) or self._seen_late(marker)

    def _seen(self, marker: bytes) -> bool:
        """Take out what has come, stragglers of an earlier round included."""
        try:
            while self._socket.recv(_MARKER.size) != marker:
                pass
        except BlockingIOError:
            return False
        return True

    def _seen_late(self, marker: bytes) -> bool:
        # poll(2), because select(2) knows no descriptor above 1023.
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            poller.poll(left * 1000)
            if self._seen(marker):
                return True
        return False
