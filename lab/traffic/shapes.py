# SPDX-License-Identifier: Apache-2.0
"""Frames in other shapes: VLAN tags, IPv4 options, IPv6 extension headers, fragments.

Each function takes a whole valid frame, untagged, and gives whole valid frames; what the packet carries stays as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lab.errors import LabError
from lab.traffic.checksum import fold, words
from lab.traffic.packets import ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER

__all__ = [
    "FRAGMENT",
    "Extension",
    "Tag",
    "extended",
    "fragments",
    "overlapping",
    "tagged",
    "with_options",
    "with_wrong_header",
]

FRAGMENT: Final = 44
"""The number of the IPv6 header that a fragment has (RFC 8200, 4.5)."""

_MACS: Final = 12
_TAG: Final = struct.Struct("!HH")
_CUSTOMER, _SERVICE = 0x8100, 0x88A8
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_MORE: Final = 0x2000
_LONGEST_OPTIONS: Final = 40
_HEADER_CHECKSUM: Final = 10
_AUTHENTICATION: Final = 51


@dataclass(frozen=True, slots=True)
class Tag:
    """A VLAN tag (IEEE 802.1Q); ``vlan`` 0 states a priority and no VLAN. ``service``: the outer kind of two."""

    vlan: int
    priority: int = 0
    service: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """An IPv6 extension header: its number, and what follows its first two bytes; padded to what its kind asks for."""

    kind: int
    data: bytes = b""

    def packed(self, following: int) -> bytes:
        """The header in front of another one of that number."""
        if self.kind == FRAGMENT:
            return bytes((following, 0)) + self.data.ljust(6, b"\0")[:6]
        length = max(16 if self.kind == _AUTHENTICATION else 8, 2 + len(self.data) + 7 & ~7)
        units = length // 4 - 2 if self.kind == _AUTHENTICATION else length // 8 - 1
        return bytes((following, units)) + self.data.ljust(length - 2, b"\0")


def tagged(frame: bytes, *tags: Tag) -> bytes:
    """The frame with VLAN tags, the outermost first."""
    added = (_TAG.pack(_SERVICE if tag.service else _CUSTOMER, tag.priority << 13 | tag.vlan) for tag in tags)
    return frame[:_MACS] + b"".join(added) + frame[_MACS:]


def with_options(frame: bytes, options: bytes) -> bytes:
    """The IPv4 frame with options, padded by their end; raises LabError for a frame of another kind or too many."""
    _check(frame, _IPV4)
    padded = options + bytes(-len(options) & 3)
    if len(padded) > _LONGEST_OPTIONS:
        raise LabError("too many IPv4 options", value=len(options), allowed=f"{_LONGEST_OPTIONS} bytes")
    header, behind = _parted(frame, IPV4_HEADER)
    return frame[:ETHERNET_HEADER] + _ipv4(header, padded, len(behind)) + behind


def with_wrong_header(frame: bytes) -> bytes:
    """The IPv4 frame with a header whose checksum does not hold; raises LabError for a frame of another kind."""
    _check(frame, _IPV4)
    at = ETHERNET_HEADER + _HEADER_CHECKSUM
    return frame[:at] + bytes((frame[at] ^ 0x55,)) + frame[at + 1 :]


def extended(frame: bytes, *extensions: Extension) -> bytes:
    """The IPv6 frame with extension headers in this order; raises LabError for a frame of another kind."""
    _check(frame, _IPV6)
    header, behind = _parted(frame, IPV6_HEADER)
    following, added = header[6], b""
    for extension in reversed(extensions):
        added = extension.packed(following) + added
        following = extension.kind
    return frame[:ETHERNET_HEADER] + _ipv6(header, following, len(added) + len(behind)) + added + behind


def fragments(frame: bytes, size: int, ident: int = 1) -> list[bytes]:
    """The frame in fragments of ``size`` bytes behind the IP header, a multiple of 8; the last may be shorter."""
    if size % 8 or size <= 0:
        raise LabError("no such size of fragments", value=size, allowed="a multiple of 8")
    ethernet, version = frame[:ETHERNET_HEADER], 4 if frame[_MACS:ETHERNET_HEADER] == _IPV4 else 6
    _check(frame, _IPV4 if version == 4 else _IPV6)
    header, behind = _parted(frame, IPV4_HEADER if version == 4 else IPV6_HEADER)
    return [ethernet + _piece(header, piece, at, more, ident) for at, piece, more in _pieces(behind, size)]


def overlapping(frame: bytes, size: int, ident: int = 1) -> list[bytes]:
    """The fragments, and behind the first one that lies over it and the second, from its ninth byte on.

    Its bytes are others: whoever lets it overwrite what came before reads another packet than who does not (RFC 5722).
    """
    pieces = fragments(frame, size, ident)
    header, behind = _parted(frame, IPV4_HEADER if frame[_MACS:ETHERNET_HEADER] == _IPV4 else IPV6_HEADER)
    other = bytes(byte ^ 0xFF for byte in behind[8 : 8 + size])
    return [pieces[0], frame[:ETHERNET_HEADER] + _piece(header, other, 8, more=True, ident=ident), *pieces[1:]]


def _pieces(data: bytes, size: int) -> Iterator[tuple[int, bytes, bool]]:
    for at in range(0, len(data), size):
        yield at, data[at : at + size], at + size < len(data)


def _piece(header: bytes, piece: bytes, at: int, more: bool, ident: int) -> bytes:
    if len(header) == IPV4_HEADER:
        flags = at >> 3 | (_MORE if more else 0)
        changed = header[:4] + struct.pack("!HH", ident & 0xFFFF, flags) + header[8:]
        return _ipv4(changed, b"", len(piece)) + piece
    extension = Extension(FRAGMENT, struct.pack("!HI", at | more, ident)).packed(header[6])
    return _ipv6(header, FRAGMENT, len(extension) + len(piece)) + extension + piece


def _ipv4(header: bytes, options: bytes, behind: int) -> bytes:
    """The header with options, its length and checksum made anew."""
    length = IPV4_HEADER + len(options)
    changed = bytes((0x40 | length >> 2, header[1])) + struct.pack("!H", length + behind) + header[4:10]
    rest = header[12:] + options
    return changed + fold(words(changed) + words(rest)).to_bytes(2, "big") + rest


def _ipv6(header: bytes, following: int, behind: int) -> bytes:
    return header[:4] + struct.pack("!HB", behind, following) + header[7:]


def _parted(frame: bytes, header: int) -> tuple[bytes, bytes]:
    end = ETHERNET_HEADER + header
    return frame[ETHERNET_HEADER:end], frame[end:]


def _check(frame: bytes, kind: Sequence[int]) -> None:
    if frame[_MACS:ETHERNET_HEADER] != kind:
        raise LabError("a frame of another kind", value=frame[_MACS:ETHERNET_HEADER].hex(), allowed=bytes(kind).hex())
