# SPDX-License-Identifier: Apache-2.0
"""Whole Ethernet frames for flows, each with an id by which it is told from all others.

All frames have one length, and the id stands at its very end behind a magic word: whatever headers a frame
has, the receiver reads the id at one fixed place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from lab.topology import Address, Flow
from lab.traffic.checksum import crc32c, crc32c_of_word, fold, words
from lab.traffic.transport import TCP_PAYLOAD_AT, Checksum, ip_header, segment

__all__ = [
    "ETHERNET_HEADER",
    "FRAME_LENGTH",
    "ID_AT",
    "IPV4_HEADER",
    "IPV6_HEADER",
    "MAGIC",
    "TCP_PAYLOAD",
    "Template",
    "Wire",
    "template",
]

ETHERNET_HEADER: Final = 14
IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
FRAME_LENGTH: Final = 130
"""Room for the longest content, an ICMPv6 error that quotes; behind the IP header SCTP wants a multiple of 4."""
MAGIC: Final = b"\xb7lab\xd1\x0e\xf1\x0d"
ID_AT: Final = FRAME_LENGTH - 4
TCP_PAYLOAD: Final = FRAME_LENGTH - ETHERNET_HEADER - IPV4_HEADER - TCP_PAYLOAD_AT
"""Bytes that an IPv4 SYN carries; an IPv6 one carries 20 less."""

_ETHERTYPE: Final = {4: 0x0800, 6: 0x86DD}
_ID: Final = struct.Struct("!I")
_HALF: Final = struct.Struct("!H")
_CRC: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Wire:
    """One way over one wire: Ethernet addresses as 6 bytes, IP addresses of one family."""

    source_mac: bytes
    destination_mac: bytes
    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class Template:
    """A frame without id and checksum, and what is needed to finish it. Offsets count from the frame's start."""

    frame: bytes
    checksum: Checksum
    checksum_at: int
    base: int
    """The sum of words, or the CRC32c, of all that the checksum covers, with id and checksum zero."""
    id_at: int | None
    short_id_at: int | None

    def stamp(self, ident: int) -> bytes:
        """The finished frame with a 32-bit id."""
        frame = bytearray(self.frame)
        _ID.pack_into(frame, ID_AT, ident)
        if self.id_at is not None:
            _ID.pack_into(frame, self.id_at, ident)
        if self.short_id_at is not None:
            _HALF.pack_into(frame, self.short_id_at, ident & 0xFFFF)
        if self.checksum is Checksum.CRC32C:
            _CRC.pack_into(frame, self.checksum_at, self.base ^ crc32c_of_word(ident, behind=0))
        elif self.checksum is not Checksum.NONE:
            _HALF.pack_into(frame, self.checksum_at, self._internet(ident))
        return bytes(frame)

    def _internet(self, ident: int) -> int:
        total = self.base + (ident if self.id_at is None else 2 * ident)
        if self.short_id_at is not None:
            total += ident & 0xFFFF
        checksum = fold(total)
        if checksum == 0 and self.checksum is Checksum.INTERNET_NOT_ZERO:
            return 0xFFFF
        return checksum


def template(flow: Flow, wire: Wire) -> Template:
    """Build a flow's first packet for a wire; the flow's family is that of the wire's addresses."""
    version = wire.source.version
    start = ETHERNET_HEADER + (IPV4_HEADER if version == 4 else IPV6_HEADER)
    size = FRAME_LENGTH - start
    content = segment(flow, wire.source, wire.destination, size)
    header = ip_header(wire.source, wire.destination, flow.protocol, size)
    data = bytearray(content.data)
    data[size - 4 - len(MAGIC) : size - 4] = MAGIC
    frame = wire.destination_mac + wire.source_mac + _HALF.pack(_ETHERTYPE[version]) + header + bytes(data)
    return Template(
        frame=frame,
        checksum=content.checksum,
        checksum_at=start + content.checksum_at,
        base=_base(flow.protocol, wire, bytes(data), content.checksum, pseudo=content.pseudo_header),
        id_at=None if content.id_at is None else start + content.id_at,
        short_id_at=None if content.short_id_at is None else start + content.short_id_at,
    )


def _base(protocol: int, wire: Wire, data: bytes, checksum: Checksum, *, pseudo: bool) -> int:
    if checksum is Checksum.NONE:
        return 0
    if checksum is Checksum.CRC32C:
        return crc32c(data)
    covered = words(data)
    if pseudo:
        covered += words(wire.source.packed) + words(wire.destination.packed) + protocol + len(data)
    return covered
