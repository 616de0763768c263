# SPDX-License-Identifier: Apache-2.0
"""Wait until interfaces carry packets: the kernel brings the first-opened end of a veth up a moment later."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Collection
from typing import Final

from lab.errors import HostError

__all__ = ["wait_until_up"]

TIMEOUT_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.0005
_GETLINK, _NEWLINK, _DONE = 18, 16, 3
_DUMP: Final = 0x301
_IFLA_OPERSTATE, _UP = 16, 6
_RECEIVE: Final = 1 << 18


def wait_until_up(channel: socket.socket, indexes: Collection[int]) -> None:
    """Poll the operational state (RFC 2863) of interfaces until all are up; raises HostError when they stay down."""
    waiting = set(indexes)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        waiting -= _up(channel)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise HostError(
                "interfaces of the lab did not come up", value=sorted(waiting), next_step="see `policylab doctor`"
            )
        time.sleep(POLL_SECONDS)  # between two looks at a condition


def _up(channel: socket.socket) -> set[int]:
    """The indexes of all interfaces of the namespace that are up."""
    channel.send(struct.pack("=IHHIIBxxxiII", 32, _GETLINK, _DUMP, 0, 0, socket.AF_UNSPEC, 0, 0, 0))
    up: set[int] = set()
    while True:
        data = channel.recv(_RECEIVE)
        at = 0
        while at < len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == _DONE:
                return up
            if kind == _NEWLINK and _operstate(data, at + 32, at + length) == _UP:
                up.add(struct.unpack_from("=i", data, at + 20)[0])
            at += length + 3 & ~3


def _operstate(data: bytes, at: int, end: int) -> int:
    """The state among a link message's attributes."""
    while at < end:
        length, kind = struct.unpack_from("=HH", data, at)
        if kind == _IFLA_OPERSTATE:
            return data[at + 4]
        at += length + 3 & ~3
    return 0
