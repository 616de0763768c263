# SPDX-License-Identifier: Apache-2.0
"""Any packet of a conversation, whole: what ends say to each other after the first packet, and what they never should.

``packets`` builds first packets by the thousand from templates; here each is built for itself, of any length.
"""

from __future__ import annotations

import struct
from typing import Final

from lab.protocols import ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from lab.topology import Address
from lab.traffic.checksum import crc32c, fold, words
from lab.traffic.packets import Wire
from lab.traffic.transport import ip_header

__all__ = ["FLAGS", "icmp_message", "ip_frame", "sctp_packet", "tcp_segment", "udp_datagram", "with_wrong_checksum"]

FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
"""TCP's flags (RFC 9293, 3.1; RFC 3168), by the bit that each has."""

_WINDOW: Final = 64240
_ETHERTYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
_CHECKSUM_AT: Final = {TCP: 16, UDP: 6, UDPLITE: 6, SCTP: 8, ICMP: 2, ICMPV6: 2}


def ip_frame(wire: Wire, protocol: int, content: bytes) -> bytes:
    """An Ethernet frame with an IP packet of the wire's family."""
    header = ip_header(wire.source, wire.destination, protocol, len(content))
    return wire.destination_mac + wire.source_mac + _ETHERTYPE[wire.source.version] + header + content


def tcp_segment(
    ends: tuple[Address, Address], ports: tuple[int, int], flags: int, numbers: tuple[int, int], data: bytes = b""
) -> bytes:
    """A TCP segment; ``ends`` and ``ports`` are source and destination, ``numbers`` sequence and acknowledgement."""
    sequence, acknowledged = (number & 0xFFFFFFFF for number in numbers)
    urgent = len(data) if flags & FLAGS["urg"] else 0
    header = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, _WINDOW, 0, urgent)
    return _summed(ends, TCP, header + data, _CHECKSUM_AT[TCP])


def udp_datagram(
    ends: tuple[Address, Address], ports: tuple[int, int], data: bytes, *, protocol: int = UDP, coverage: int = 0
) -> bytes:
    """A UDP datagram (RFC 768), or one of UDP-Lite (RFC 3828) of which the checksum covers ``coverage`` bytes.

    Coverage 0 is everything; else it is 8 at least, the header.
    """
    length = 8 + len(data)
    plain = struct.pack("!HHHH", *ports, length if protocol == UDP else coverage, 0) + data
    covered = plain if protocol == UDP or not coverage else plain[:coverage]
    checksum = fold(words(covered) + _pseudo(ends, protocol, length)) or 0xFFFF
    return plain[:6] + checksum.to_bytes(2, "big") + plain[8:]


def sctp_packet(ports: tuple[int, int], tag: int, chunk: bytes) -> bytes:
    """An SCTP packet with one chunk, padded to four bytes (RFC 9260, 3)."""
    plain = struct.pack("!HHII", *ports, tag, 0) + chunk + bytes(-len(chunk) & 3)
    return plain[:8] + crc32c(plain).to_bytes(4, "little") + plain[12:]


def icmp_message(
    ends: tuple[Address, Address], protocol: int, kind: tuple[int, int], word: bytes, body: bytes
) -> bytes:
    """An ICMP or ICMPv6 message of a type and code; ``word`` is the second word of its header."""
    plain = struct.pack("!BBH", *kind, 0) + word + body
    if protocol == ICMPV6:
        return _summed(ends, protocol, plain, _CHECKSUM_AT[protocol])
    return plain[:2] + fold(words(plain)).to_bytes(2, "big") + plain[4:]


def with_wrong_checksum(protocol: int, content: bytes) -> bytes:
    """What follows the IP header with a checksum that does not hold; as it is where the protocol has none."""
    at = _CHECKSUM_AT.get(protocol)
    if at is None:
        return content
    return content[:at] + bytes((content[at] ^ 0x55,)) + content[at + 1 :]


def _summed(ends: tuple[Address, Address], protocol: int, plain: bytes, at: int) -> bytes:
    checksum = fold(words(plain) + _pseudo(ends, protocol, len(plain)))
    return plain[:at] + checksum.to_bytes(2, "big") + plain[at + 2 :]


def _pseudo(ends: tuple[Address, Address], protocol: int, length: int) -> int:
    """The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1)."""
    source, destination = ends
    return words(source.packed) + words(destination.packed) + protocol + length
