# SPDX-License-Identifier: Apache-2.0
"""sendmmsg and recvmmsg on buffers that are laid out once: hundreds of frames for one system call."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from errno import EAGAIN
from typing import Final

from lab.traffic.packets import ETHERNET_HEADER, FRAME_LENGTH, ID_AT

__all__ = ["BODY_AT", "SLOT", "InBox", "OutBox", "current_cpu"]

SLOT: Final = 256
"""Bytes kept of a received frame: an ICMPv6 error that quotes one of our frames whole has 184."""
BODY_AT: Final = ETHERNET_HEADER + 8
"""Frames are compared from the IPv6 source address on: what stands before it may change on the way."""
_MSG_DONTWAIT: Final = 0x40
_SOCKADDR_ROOM: Final = 28
"""Bytes of a sockaddr_in6, the longest address that is sent to."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_libc.recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]


def current_cpu() -> int:
    """The CPU that this thread runs on at this moment."""
    return int(_libc.sched_getcpu())


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    """A message, and the length that the kernel writes behind it."""

    _fields_ = (("message", _MsgHdr), ("length", ctypes.c_uint))


class _Vector:
    """One buffer of equal slots, and the two arrays that describe it to the kernel."""

    def __init__(self, count: int, stride: int, offset: int, length: int) -> None:
        self.count = count
        self.buffer = ctypes.create_string_buffer(count * stride)
        self._iovecs = (_IoVec * count)()
        self.headers = (_MMsgHdr * count)()
        start, iovecs = ctypes.addressof(self.buffer), ctypes.addressof(self._iovecs)
        for place, (iovec, header) in enumerate(zip(self._iovecs, self.headers, strict=True)):
            iovec.base, iovec.length = start + place * stride + offset, length
            header.message.iov, header.message.iov_length = iovecs + place * ctypes.sizeof(_IoVec), 1

    def at(self, place: int) -> int:
        """The address of a slot's header."""
        return ctypes.addressof(self.headers) + place * ctypes.sizeof(_MMsgHdr)


class OutBox:
    """Room for a batch of frames; ``skip`` bytes of each are left out, because the socket makes them itself."""

    def __init__(self, count: int, skip: int = 0) -> None:
        self._vector = _Vector(count, FRAME_LENGTH, skip, FRAME_LENGTH - skip)
        self._names = ctypes.create_string_buffer(count * _SOCKADDR_ROOM)

    def load(self, frames: bytes) -> None:
        """Put frames, one behind the other, into the first slots."""
        ctypes.memmove(self._vector.buffer, frames, len(frames))

    def address(self, places: range, sockaddrs: Sequence[bytes]) -> None:
        """Say where each frame goes, for a socket that is bound to no interface."""
        for place, name in zip(places, sockaddrs, strict=True):
            header = self._vector.headers[place].message
            header.name, header.name_length = ctypes.addressof(self._names) + place * _SOCKADDR_ROOM, len(name)
            ctypes.memmove(header.name, name, len(name))

    def cut(self, places: range) -> tuple[bytes, list[bytes]]:
        """The frames in these slots, whole and one behind the other, and where each goes, if that was said."""
        names = []
        for place in places:
            length = self._vector.headers[place].message.name_length
            names.append(bytes(memoryview(self._names)[place * _SOCKADDR_ROOM : place * _SOCKADDR_ROOM + length]))
        frames = memoryview(self._vector.buffer)[places.start * FRAME_LENGTH : places.stop * FRAME_LENGTH]
        return bytes(frames), names

    def send(self, descriptor: int, places: range) -> Iterator[tuple[int, int]]:
        """Send the frames in these slots, each once; yields (place, errno) for those that the kernel refused."""
        place = places.start
        while place < places.stop:
            sent = _libc.sendmmsg(descriptor, self._vector.at(place), places.stop - place, 0)
            if sent > 0:
                place += sent
                continue
            yield place, ctypes.get_errno()
            place += 1


class InBox:
    """Room for what one call can fetch from a socket that leaves ``skip`` bytes of each frame's start away.

    Whatever ``skip`` is, a frame of ours has its id at the same place of its slot.
    """

    _slot: Final = struct.Struct(f"!{BODY_AT}x{ID_AT - BODY_AT}sI{SLOT - FRAME_LENGTH}x")

    def __init__(self, count: int, skip: int = 0) -> None:
        self._at = skip
        self._vector = _Vector(count, SLOT, skip, SLOT - skip)
        self._memory = memoryview(self._vector.buffer).cast("B")
        words = memoryview(self._vector.headers).cast("B").cast("I")
        stride = ctypes.sizeof(_MMsgHdr) // 4
        self._lengths = words[_MMsgHdr.length.offset // 4 :: stride]
        self.expected_length = FRAME_LENGTH - skip
        self.count = 0

    def fetch(self, descriptor: int) -> None:
        """Fill the slots with what waits at the socket, without waiting for more; ``count`` of them are filled then."""
        got: int = _libc.recvmmsg(descriptor, self._vector.at(0), self._vector.count, _MSG_DONTWAIT, None)
        self.count = max(got, 0)
        if got < 0 and (error := ctypes.get_errno()) != EAGAIN:
            raise OSError(error, os.strerror(error))

    def put(self, frames: deque[tuple[int, bytes]]) -> None:
        """Fill the slots with frames that another kernel's box has had, taken off their front."""
        self.count = min(len(frames), self._vector.count)
        for place in range(self.count):
            length, content = frames.popleft()
            start = place * SLOT + self._at
            self._memory[start : start + len(content)] = content
            self._lengths[place] = length

    @property
    def more(self) -> bool:
        """Whether further frames may be waiting: there was no room left."""
        return self.count == self._vector.count

    def lengths(self) -> list[int]:
        """The length of each frame."""
        lengths: list[int] = self._lengths[: self.count].tolist()
        return lengths

    def frames(self) -> Iterator[tuple[bytes, int]]:
        """What stands between ``BODY_AT`` and the id, and the id, of each frame."""
        return self._slot.iter_unpack(self._memory[: self.count * SLOT])

    def whole(self, place: int) -> bytes:
        """A frame as it was received, as far as there was room."""
        start = place * SLOT + self._at
        return bytes(self._memory[start : min(start + self._lengths[place], (place + 1) * SLOT)])
