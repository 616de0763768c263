# SPDX-License-Identifier: Apache-2.0
"""Captures as pcapng (draft-ietf-opsawg-pcapng): one file, many named interfaces, nanosecond times."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["CapturedFrame", "pcapng"]

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_VERSION: Final = (1, 0)
_LENGTH_UNKNOWN: Final = -1

LINKTYPE_ETHERNET: Final = 1
_NO_LIMIT: Final = 0
_OPTION_END: Final = 0
_OPTION_COMMENT: Final = 1
_OPTION_INTERFACE_NAME: Final = 2
_OPTION_TIME_RESOLUTION: Final = 9
_OPTION_PACKET_FLAGS: Final = 2
_NANOSECONDS: Final = bytes((9,))
_INBOUND, _OUTBOUND = 1, 2


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame on one interface; ``time`` in nanoseconds since 1970, ``inbound`` from that interface's own view."""

    interface: str
    time: int
    data: bytes
    inbound: bool
    comment: str = ""


def pcapng(frames: Iterable[CapturedFrame]) -> bytes:
    """A whole pcapng file of the frames, oldest first; interfaces are numbered as they first appear."""
    ordered = sorted(frames, key=lambda frame: frame.time)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(frame.interface for frame in ordered))}
    return b"".join(_blocks(ordered, numbers))


def _blocks(frames: list[CapturedFrame], numbers: dict[str, int]) -> Iterator[bytes]:
    yield _block(_SECTION_HEADER, struct.pack("=IHHq", _BYTE_ORDER_MAGIC, *_VERSION, _LENGTH_UNKNOWN))
    for name in numbers:
        options = _option(_OPTION_INTERFACE_NAME, name.encode()) + _option(_OPTION_TIME_RESOLUTION, _NANOSECONDS)
        head = struct.pack("=HHI", LINKTYPE_ETHERNET, 0, _NO_LIMIT)
        yield _block(_INTERFACE_DESCRIPTION, head + options + _option(_OPTION_END))
    for frame in frames:
        yield _packet(frame, numbers[frame.interface])


def _packet(frame: CapturedFrame, number: int) -> bytes:
    length = len(frame.data)
    head = struct.pack("=IIIII", number, frame.time >> 32, frame.time & 0xFFFFFFFF, length, length)
    comment = _option(_OPTION_COMMENT, frame.comment.encode()) if frame.comment else b""
    flags = _option(_OPTION_PACKET_FLAGS, struct.pack("=I", _INBOUND if frame.inbound else _OUTBOUND))
    return _block(_ENHANCED_PACKET, head + _padded(frame.data) + comment + flags + _option(_OPTION_END))


def _block(kind: int, body: bytes) -> bytes:
    """A block says its length, frame included, before and behind its body, so that a file can be read backwards."""
    length = 12 + len(body)
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)


def _option(code: int, value: bytes = b"") -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
