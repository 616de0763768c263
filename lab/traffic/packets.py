# SPDX-License-Identifier: Apache-2.0
"""Whole Ethernet frames for flows, each with an id by which it is told from all others.

All frames have one length, and the id stands at its very end behind a magic word: whatever headers a frame
has, the receiver reads the id at one fixed place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from lab.topology import DEFAULT_SOURCE_PORT, Address, Flow
from lab.traffic.checksum import crc32c, crc32c_of_word, fold, words
from lab.traffic.transport import TCP_PAYLOAD_AT, Checksum, Segment, ip_header, segment

__all__ = [
    "ETHERNET_HEADER",
    "FRAME_LENGTH",
    "ID_AT",
    "IPV4_HEADER",
    "IPV6_HEADER",
    "MAGIC",
    "TCP_PAYLOAD",
    "Stamp",
    "Wire",
    "frame_of",
    "group_mac",
    "stamp_of",
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
_EVERYBODY: Final = IPv4Address("255.255.255.255")
_ID: Final = struct.Struct("!I")
_HALF: Final = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class Wire:
    """One way over one wire: Ethernet addresses as 6 bytes, IP addresses of one family."""

    source_mac: bytes
    destination_mac: bytes
    source: Address
    destination: Address


def group_mac(destination: Address) -> bytes | None:
    """The Ethernet address of a group or of everybody (RFC 1112, 6.4; RFC 2464, 7); None for an address of one."""
    if destination == _EVERYBODY:
        return b"\xff" * 6
    if not destination.is_multicast:
        return None
    if destination.version == 6:
        return b"\x33\x33" + destination.packed[12:]
    return b"\x01\x00\x5e" + bytes((destination.packed[1] & 0x7F,)) + destination.packed[2:]


Stamp = Callable[[int, int, int], bytes]
"""Makes a whole frame of a 32-bit id, a source port and a destination port."""


def frame_of(flow: Flow, wire: Wire, ident: int) -> bytes:
    """A flow's first packet on a wire; the flow's family is that of the wire's addresses."""
    return stamp_of(flow, wire)(ident, flow.source_port or DEFAULT_SOURCE_PORT, flow.port or 0)


def stamp_of(flow: Flow, wire: Wire) -> Stamp:
    """What makes the first packets of all flows that differ from this one in their ports only."""
    version = wire.source.version
    start = ETHERNET_HEADER + (IPV4_HEADER if version == 4 else IPV6_HEADER)
    size = FRAME_LENGTH - start
    content = segment(flow, wire.source, wire.destination, size)
    header = ip_header(wire.source, wire.destination, flow.protocol, size)
    data = bytearray(content.data)
    data[size - 4 - len(MAGIC) : size - 4] = MAGIC
    frame = wire.destination_mac + wire.source_mac + _HALF.pack(_ETHERTYPE[version]) + header + bytes(data)
    base = _base(flow.protocol, wire, bytes(data), content.checksum, pseudo=content.pseudo_header)
    return _KINDS[content.checksum](frame, start, content, base)


# What follows is called for every single packet: each kind of segment has a way of its own, without a question in it.
# ``base`` is the sum of words, or the CRC32c, of all that the checksum covers, with id, ports and checksum zero.


def _plain(frame: bytes, start: int, content: Segment, base: int) -> Stamp:  # noqa: ARG001 - as the others are called
    most = frame[:ID_AT]
    return lambda ident, source_port, port: most + _ID.pack(ident)  # noqa: ARG005 - there are no ports


def _internet(frame: bytes, start: int, content: Segment, base: int) -> Stamp:
    if not content.has_ports:
        return _icmp(frame, start + content.checksum_at, base, with_id=content.short_id_at is not None)
    if content.id_at is None:
        return _udp(frame, start, start + content.checksum_at, base)
    return _tcp(frame, start, start + content.checksum_at, base)


def _tcp(frame: bytes, start: int, checksum_at: int, base: int) -> Stamp:
    """Ports, the sequence number, which is the id, and behind others the checksum."""
    head, middle, tail = frame[:start], frame[start + 8 : checksum_at], frame[checksum_at + 2 : ID_AT]
    pack = struct.Struct(f"!{len(head)}sHHI{len(middle)}sH{len(tail)}sI").pack

    def stamp(ident: int, source_port: int, port: int) -> bytes:
        checksum = fold(base + source_port + port + 2 * ident)
        return pack(head, source_port, port, ident, middle, checksum, tail, ident)

    return stamp


def _udp(frame: bytes, start: int, checksum_at: int, base: int) -> Stamp:
    """Ports, the length, and the checksum, where zero means that there is none."""
    head, middle, tail = frame[:start], frame[start + 4 : checksum_at], frame[checksum_at + 2 : ID_AT]
    pack = struct.Struct(f"!{len(head)}sHH{len(middle)}sH{len(tail)}sI").pack

    def stamp(ident: int, source_port: int, port: int) -> bytes:
        checksum = fold(base + source_port + port + ident) or 0xFFFF
        return pack(head, source_port, port, middle, checksum, tail, ident)

    return stamp


def _icmp(frame: bytes, checksum_at: int, base: int, *, with_id: bool) -> Stamp:
    """The checksum, and behind it the identifier of what has one."""
    head, tail = frame[:checksum_at], frame[checksum_at + 4 : ID_AT]
    second = int.from_bytes(frame[checksum_at + 2 : checksum_at + 4], "big")
    pack = struct.Struct(f"!{len(head)}sHH{len(tail)}sI").pack

    def stamp(ident: int, source_port: int, port: int) -> bytes:  # noqa: ARG001 - there are no ports
        short = ident & 0xFFFF if with_id else 0
        return pack(head, fold(base + ident + short), second + short, tail, ident)

    return stamp


def _sctp(frame: bytes, start: int, content: Segment, base: int) -> Stamp:
    """Ports, the tag, and the CRC32c, the least significant byte first."""
    checksum_at = start + content.checksum_at
    head, middle, tail = frame[:start], frame[start + 4 : checksum_at], frame[checksum_at + 4 : ID_AT]
    pack = struct.Struct(f"!{len(head)}sHH{len(middle)}s4s{len(tail)}sI").pack
    of_ports, of_id = crc32c_of_word(FRAME_LENGTH - start - 4), crc32c_of_word(0)

    def stamp(ident: int, source_port: int, port: int) -> bytes:
        checksum = base ^ of_ports(source_port << 16 | port) ^ of_id(ident)
        return pack(head, source_port, port, middle, checksum.to_bytes(4, "little"), tail, ident)

    return stamp


_KINDS: Final[Mapping[Checksum, Callable[[bytes, int, Segment, int], Stamp]]] = {
    Checksum.NONE: _plain,
    Checksum.INTERNET: _internet,
    Checksum.INTERNET_NOT_ZERO: _internet,
    Checksum.CRC32C: _sctp,
}


def _base(protocol: int, wire: Wire, data: bytes, checksum: Checksum, *, pseudo: bool) -> int:
    if checksum is Checksum.NONE:
        return 0
    if checksum is Checksum.CRC32C:
        return crc32c(data)
    covered = words(data)
    if pseudo:
        covered += words(wire.source.packed) + words(wire.destination.packed) + protocol + len(data)
    return covered
