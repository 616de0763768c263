# SPDX-License-Identifier: Apache-2.0
"""From the lines of a conversation to frames: what each end knows of the other, as its own stack would."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from lab.errors import LabError
from lab.protocols import ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from lab.topology import Address
from lab.traffic.conversation import AGAIN, CHUNKS, Conversation, Line, Shape, echo_type, error_of, flags_of
from lab.traffic.packets import ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, MAGIC, Wire
from lab.traffic.segments import (
    FLAGS,
    icmp_message,
    ip_frame,
    sctp_packet,
    tcp_segment,
    udp_datagram,
    with_wrong_checksum,
)
from lab.traffic.shapes import Extension, extended, fragments, overlapping, with_options, with_wrong_header

__all__ = ["Speech", "shaped"]

_FIRST_NUMBERS: Final = (0x10000000, 0x20000000)
"""Where each end's sequence numbers begin."""
_TAGS: Final = (0x706C6162, 0x6C616270)
"""What each end wants SCTP packets to it to bear; anything but zero (RFC 9260, 3.3.2)."""
_IDENTIFIER: Final = 0x706C
_PLAIN: Final = bytes((253, 0, 0, 0, 0, 0, 0, 0))
"""How protocols without a builder begin: valid if read as an IPv6 extension header (see ``transport``)."""
_QUOTED: Final = {4: IPV4_HEADER + 8, 6: 1232}
"""Bytes of a packet that an error about it quotes (RFC 792; RFC 4443, 3.1)."""
_NEXT_MTU: Final = struct.pack("!I", 1280)
_COOKIE: Final = b"lab!"
_IDENTS: Final = count(1)
"""Of packets that are cut: what never becomes whole stays in a node for half a minute, and must meet no other."""
_HEADERS: Final = {4: IPV4_HEADER, 6: IPV6_HEADER}


@dataclass(slots=True)
class _Side:
    """What one end has sent and heard of TCP.

    ``last`` is its last packet but for ICMP errors, without the Ethernet header; ``pieces`` the size of the fragments
    that it was cut into.
    """

    next: int
    heard: int = 0
    opening: bool = False
    """Whether it has said SYN, and nothing since: then SYN and ACK bear the same number (RFC 9293, 3.5)."""
    last: bytes | None = None
    pieces: int | None = None


@dataclass(slots=True)
class Speech:
    """Makes the frames of one conversation, line by line; the addresses are those of its two ends."""

    conversation: Conversation
    ends: tuple[Address, Address]
    _sides: tuple[_Side, _Side] = field(default_factory=lambda: (_Side(_FIRST_NUMBERS[0]), _Side(_FIRST_NUMBERS[1])))
    _said: int = 0

    def frames(self, line: Line, wire: Wire) -> list[bytes]:
        """What is sent for a line, as it is shaped. Raises LabError for a word that makes no sense here."""
        side = self._sides[line.back]
        if line.word == AGAIN:
            if side.last is None:
                raise LabError("nothing was said before that could be said again", place=self.conversation.place)
            frame = wire.destination_mac + wire.source_mac + (b"\x08\x00" if wire.source.version == 4 else b"\x86\xdd")
            return shaped(frame + side.last, replace(line, shape=Shape(fragments=side.pieces)))
        self._said += 1
        before = (side.next, side.opening, side.last, side.pieces)
        protocol, content = self._content(line, wire)
        if line.shape.wrong_checksum:
            content = with_wrong_checksum(protocol, content)
        frame = ip_frame(wire, protocol, content)
        if error_of(line, self.conversation.opening.family) is None:
            side.last, side.pieces = frame[ETHERNET_HEADER:], line.shape.fragments
        if line.source is not None or line.destination is not None:  # somebody's, and nothing that this end has said
            side.next, side.opening, side.last, side.pieces = before
        return shaped(frame, line)

    def heard(self, line: Line) -> None:
        """The packet of a line has come to the other end, whose stack takes it for what this end has said, or not."""
        forged = line.source is not None or line.destination is not None
        if forged or line.shape.wrong_checksum or error_of(line, self.conversation.opening.family) is not None:
            return
        self._sides[not line.back].heard = self._sides[line.back].next

    def _content(self, line: Line, wire: Wire) -> tuple[int, bytes]:
        opening = self.conversation.opening
        ends = (wire.source, wire.destination)
        error = error_of(line, opening.family)
        if error is not None:
            protocol = ICMP if opening.family == 4 else ICMPV6
            word = _NEXT_MTU if line.word == "too-big" else bytes(4)
            return protocol, icmp_message(ends, protocol, (error.type, error.code), word, self._quoted(line))
        source, port = reversed(self.conversation.ports) if line.back else self.conversation.ports
        ports = (source, port)
        if opening.protocol == TCP:
            return TCP, self._tcp(line, ends, ports)
        if opening.protocol in (UDP, UDPLITE):
            return opening.protocol, udp_datagram(ends, ports, self._data(line), protocol=opening.protocol)
        if opening.protocol == SCTP:
            return SCTP, self._sctp(line, ports)
        if opening.protocol in (ICMP, ICMPV6):
            word = struct.pack("!HH", _IDENTIFIER, 1)
            kind = (echo_type(line, opening.family), 0)
            return opening.protocol, icmp_message(ends, opening.protocol, kind, word, self._data(line))
        return opening.protocol, _PLAIN + self._data(line)

    def _data(self, line: Line) -> bytes:
        """A payload that no other line of the conversation has; its end is the mark by which captures know it."""
        mark = MAGIC + self._said.to_bytes(4, "big")
        length = line.shape.payload
        if length is None:
            return mark
        return (
            mark.rjust(length, b".")[max(0, len(mark) - length) :] if length < len(mark) else mark.rjust(length, b".")
        )

    def _tcp(self, line: Line, ends: tuple[Address, Address], ports: tuple[int, int]) -> bytes:
        side, flags = self._sides[line.back], flags_of(line)
        carries = line.word == "data" or line.shape.payload is not None
        data = self._data(line) if carries else b""
        sequence = side.next - 1 if side.opening and flags & FLAGS["syn"] else side.next
        numbers = (sequence, side.heard if flags & FLAGS["ack"] else 0)
        side.next = sequence + len(data) + bool(flags & FLAGS["syn"]) + bool(flags & FLAGS["fin"])
        side.opening = flags == FLAGS["syn"]
        return tcp_segment(ends, ports, flags, numbers, data)

    def _sctp(self, line: Line, ports: tuple[int, int]) -> bytes:
        kind, own, other = CHUNKS[line.word], _TAGS[line.back], _TAGS[not line.back]
        body = b""
        if line.word in ("init", "init-ack"):
            body = struct.pack("!IIHHI", own, 1 << 16, 10, 10, 1)
            body += struct.pack("!HH4s", 7, 8, _COOKIE) if line.word == "init-ack" else b""  # the state cookie
        elif line.word == "data":
            body = struct.pack("!IHHI", self._said, 0, self._said, 0) + self._data(line)
        elif line.word == "cookie-echo":
            body = _COOKIE
        elif line.word == "shutdown":
            body = struct.pack("!I", 1)
        flags = 3 if line.word == "data" else 0  # the first and the last fragment of a message
        chunk = struct.pack("!BBH", kind, flags, 4 + len(body)) + body
        return sctp_packet(ports, 0 if line.word == "init" else other, chunk)

    def _quoted(self, line: Line) -> bytes:
        """The other end's last packet as it came here; of a forged error one that was never sent."""
        last = self._sides[not line.back].last
        if last is None:
            raise LabError("an error about a packet that was not sent", place=self.conversation.place, value=str(line))
        family = self.conversation.opening.family
        if line.forged:
            at = _HEADERS[family]
            other = int.from_bytes(last[at : at + 2], "big") ^ 0x0101
            last = last[:at] + other.to_bytes(2, "big") + last[at + 2 :]
        return last[: _QUOTED[family]]


def shaped(frame: bytes, line: Line) -> list[bytes]:
    """The frame, or the frames that it becomes, in the order in which they are sent."""
    shape = line.shape
    if shape.options:
        frame = with_options(frame, shape.options)
    if shape.extensions:
        frame = extended(frame, *(Extension(number, _extension_data(number)) for number in shape.extensions))
    if shape.wrong_header_checksum:
        frame = with_wrong_header(frame)
    if shape.fragments is None:
        return [frame]
    ident = next(_IDENTS) & 0xFFFF
    if shape.overlap:
        return overlapping(frame, shape.fragments, ident)
    pieces = fragments(frame, shape.fragments, ident)
    if shape.first_only:
        return pieces[:1]
    if shape.later_only:
        return pieces[1:]
    return pieces


def _extension_data(number: int) -> bytes:
    """What makes an extension header of a kind valid: padding for options, no segments left for routing."""
    return b"\x01\x04\0\0\0\0" if number in (0, 60) else b"\x04\0\0\0\0\0" if number == 43 else b""
