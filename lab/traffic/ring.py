# SPDX-License-Identifier: Apache-2.0
"""A receive ring of an AF_PACKET socket: the kernel puts frames where they are read, with no call for any of them.

Source: the kernel's Documentation/networking/packet_mmap.rst, version 2 of the ring.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from lab.traffic.mmsg import BODY_AT, SLOT
from lab.traffic.packets import FRAME_LENGTH, ID_AT

__all__ = ["Ring"]

SLOTS: Final = 1024
"""Two batches, should all of them come to one end, and what others send meanwhile has room, too."""
_BLOCK: Final = 1 << 14
"""Bytes that the kernel allocates in one piece: a small one is always to be had."""

_SOL_PACKET: Final = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_TPACKET_V2: Final = 1
_STATISTICS: Final = struct.Struct("=II")
_OFFSET: Final = 66
"""Where a frame's Ethernet header begins: the IP header stands at a multiple of 16 behind the ring's own 68 bytes."""
_ROOM: Final = SLOT - _OFFSET
_STATUS, _LENGTH = 0, 1
"""Which words of a slot tell whose it is, and how long the frame was."""
_KERNELS: Final = 0
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Ring:
    """What waits at one socket; what ``fetch`` finds stays readable until it is called again."""

    expected_length = FRAME_LENGTH
    _slot: Final = struct.Struct(f"!{_OFFSET + BODY_AT}x{ID_AT - BODY_AT}sI{_ROOM - FRAME_LENGTH}x")

    def __init__(self, sock: socket.socket) -> None:
        """Give the socket a ring; it must not be bound yet."""
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        blocks, slots = SLOTS * SLOT // _BLOCK, SLOTS
        _allocate(sock, struct.pack("=IIII", _BLOCK, blocks, SLOT, slots))
        self._socket = sock
        self._map = mmap.mmap(sock.fileno(), slots * SLOT)
        self._memory = memoryview(self._map)
        words = self._memory.cast("I")
        self._states = words[_STATUS :: SLOT // 4]
        self._lengths = words[_LENGTH :: SLOT // 4]
        self._free = memoryview(bytes(4 * slots)).cast("I")
        self._slots, self._first, self.count = slots, 0, 0
        self._announced, self.lost, self.more = 0, 0, False

    def fetch(self) -> None:
        """Give the slots that were read back, and look for what has come since.

        ``count`` tells then how many frames there are, ``more`` whether others are there besides, and ``lost`` for how
        many there was no room since the ring was made.
        """
        end = self._first + self.count
        self._states[self._first : end] = self._free[: self.count]
        self._first = end % self._slots
        # Each look sets the kernel's own counts back; it counts what it dropped among what came.
        came, dropped = _STATISTICS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        self.lost += dropped
        self._announced += came - dropped
        # Another CPU may count a frame before it has filled the frame's slot.
        states = self._states[self._first : self._first + self._announced].tolist()
        self.count = states.index(_KERNELS) if _KERNELS in states else len(states)
        self._announced -= self.count
        self.more = self._announced > 0

    def lengths(self) -> list[int]:
        """How long each frame was on the wire."""
        return self._lengths[self._first : self._first + self.count].tolist()

    def frames(self) -> Iterator[tuple[bytes, int]]:
        """What stands between ``BODY_AT`` and the id, and the id, of each frame."""
        return self._slot.iter_unpack(self._memory[self._first * SLOT : (self._first + self.count) * SLOT])

    def whole(self, place: int) -> bytes:
        """A frame as it was received, as far as there was room."""
        length = min(self._lengths[self._first + place], _ROOM)
        start = (self._first + place) * SLOT + _OFFSET
        return bytes(self._memory[start : start + length])

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._states, self._lengths, self._memory):
            view.release()
        self._map.close()


def _allocate(sock: socket.socket, request: bytes) -> None:
    """Have the kernel make the ring; it waits for a grace period, in which Python's own call would stop all threads."""
    if _libc.setsockopt(sock.fileno(), _SOL_PACKET, _PACKET_RX_RING, request, len(request)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
