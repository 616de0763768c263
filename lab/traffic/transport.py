# SPDX-License-Identifier: Apache-2.0
"""What follows the IP header in a flow's first packet, without its id and checksum.

Each builder fills exactly the room it is given. Everything that conntrack or a firewall looks at is valid:
a packet that is thrown away as malformed would read as denied by policy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lab.protocols import ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from lab.topology import Address, Flow, IcmpHeader
from lab.traffic.checksum import fold, words

__all__ = ["TCP_PAYLOAD_AT", "Checksum", "Segment", "ip_header", "segment"]

HOP_LIMIT: Final = 64

_TCP_SYN: Final = 0x02
_TCP_WINDOW: Final = 64240
TCP_PAYLOAD_AT: Final = 20
"""Bytes of TCP header: there are no options."""

_SCTP_INIT: Final = 1
_SCTP_TAG: Final = 0x706C6162
"""The initiate tag: anything but zero (RFC 9260, 3.3.2)."""
_SCTP_WINDOW: Final = 65536
_SCTP_STREAMS: Final = 10
_SCTP_PADDING: Final = 0x8005
"""The padding parameter (RFC 4820): a receiver skips it, whatever it holds."""
_SCTP_HEADER: Final = 12
_SCTP_INIT_FIXED: Final = 20

_ECHO: Final = {ICMP: IcmpHeader(8, 0), ICMPV6: IcmpHeader(128, 0)}
"""What an ICMP flow without a type sends, by protocol."""
_ICMP_WITH_IDENTIFIER: Final = {ICMP: frozenset({0, 8, 13, 14, 15, 16, 17, 18}), ICMPV6: frozenset({128, 129})}
_ICMP_ERRORS: Final = {ICMP: frozenset({3, 4, 5, 11, 12}), ICMPV6: frozenset({1, 2, 3, 4})}
_ICMP_NEXT_MTU: Final = 1280
_ICMP_HEADER: Final = 8

_PLAIN: Final = bytes((253, 0, 0, 0, 0, 0, 0, 0))
"""How other protocols begin: read as an IPv6 extension header of any kind it is valid, and an experiment follows
(RFC 3692). "No next header" would be shorter, but conntrack calls that invalid."""


class Checksum(Enum):
    """How a segment's checksum is made."""

    NONE = "none"
    INTERNET = "internet"
    INTERNET_NOT_ZERO = "internet, where zero means that there is none"
    CRC32C = "crc32c"


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes behind the IP header. Offsets count from the segment's start; None means that there is none.

    ``pseudo_header`` tells whether the checksum covers the addresses too, ``id_at`` where a second copy of the
    packet's id (32 bits) stands, ``short_id_at`` where its lower 16 bits stand. Source and destination port, each of
    16 bits and zero here, stand at the start of a segment that ``has_ports``.
    """

    data: bytes
    checksum: Checksum = Checksum.NONE
    checksum_at: int = 0
    pseudo_header: bool = False
    id_at: int | None = None
    short_id_at: int | None = None
    has_ports: bool = False


def ip_header(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    """An IPv4 header (its flag says: do not fragment) or an IPv6 header in front of ``length`` bytes."""
    ends = source.packed + destination.packed
    if source.version == 4:
        start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, HOP_LIMIT, protocol)
        return start + fold(words(start) + words(ends)).to_bytes(2, "big") + ends
    return struct.pack("!IHBB", 6 << 28, length, protocol, HOP_LIMIT) + ends


def segment(flow: Flow, source: Address, destination: Address, size: int) -> Segment:
    """The segment of ``size`` bytes that begins the flow; the addresses are the flow's, for what quotes them."""
    if flow.protocol == TCP:
        return _tcp(size)
    if flow.protocol in (UDP, UDPLITE):
        return _udp(size, size if flow.protocol == UDP else 0)
    if flow.protocol == SCTP:
        return _sctp(size)
    if flow.protocol in _ECHO:
        return _icmp(flow.protocol, flow.icmp or _ECHO[flow.protocol], source, destination, size)
    return Segment(_PLAIN.ljust(size, b"\0"))


def _tcp(size: int) -> Segment:
    header = struct.pack("!HHIIBBHHH", 0, 0, 0, 0, TCP_PAYLOAD_AT << 2, _TCP_SYN, _TCP_WINDOW, 0, 0)
    return Segment(header.ljust(size, b"\0"), Checksum.INTERNET, 16, pseudo_header=True, id_at=4, has_ports=True)


def _udp(size: int, third: int) -> Segment:
    """UDP says its length in the third field; UDP-Lite the checksum's coverage, where 0 means everything."""
    header = struct.pack("!HHHH", 0, 0, third, 0)
    return Segment(header.ljust(size, b"\0"), Checksum.INTERNET_NOT_ZERO, 6, pseudo_header=True, has_ports=True)


def _sctp(size: int) -> Segment:
    chunk = size - _SCTP_HEADER
    init = struct.pack("!BBHIIHHI", _SCTP_INIT, 0, chunk, _SCTP_TAG, _SCTP_WINDOW, _SCTP_STREAMS, _SCTP_STREAMS, 1)
    padding = struct.pack("!HH", _SCTP_PADDING, chunk - _SCTP_INIT_FIXED)
    return Segment((bytes(_SCTP_HEADER) + init + padding).ljust(size, b"\0"), Checksum.CRC32C, 8, has_ports=True)


def _icmp(protocol: int, header: IcmpHeader, source: Address, destination: Address, size: int) -> Segment:
    error = header.type in _ICMP_ERRORS[protocol]
    rest = _icmp_word(protocol, header.type, header.code, destination)
    body = _quoted(source, destination, size - _ICMP_HEADER) if error else b""
    return Segment(
        (struct.pack("!BBH", header.type, header.code, 0) + rest + body).ljust(size, b"\0"),
        Checksum.INTERNET,
        2,
        pseudo_header=protocol == ICMPV6,
        short_id_at=4 if header.type in _ICMP_WITH_IDENTIFIER[protocol] else None,
    )


def _icmp_word(protocol: int, kind: int, code: int, gateway: Address) -> bytes:
    """The second word of an ICMP header: an MTU or a gateway where the type has one."""
    if (protocol, kind, code) == (ICMP, 3, 4) or (protocol, kind) == (ICMPV6, 2):
        return struct.pack("!I", _ICMP_NEXT_MTU)
    if (protocol, kind) == (ICMP, 5) and gateway.version == 4:
        return gateway.packed
    return bytes(4)


def _quoted(source: Address, destination: Address, size: int) -> bytes:
    """The packet that an ICMP error complains about: one that its receiver could have sent, but never has.

    It is UDP from port 0 to port 0, which no flow uses: conntrack must not take the error for a RELATED one.
    """
    length = size - (20 if source.version == 4 else 40)
    return ip_header(destination, source, UDP, length) + struct.pack("!HHHH", 0, 0, length, 0)
