# SPDX-License-Identifier: Apache-2.0
"""Whether a packet came out whole, however it was cut: a node may put fragments together and cut them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lab.traffic.packets import ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER
from lab.traffic.shapes import FRAGMENT

__all__ = ["Seen", "whole"]

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_MORE_4, _OFFSET_4 = 0x2000, 0x1FFF
_EXTENSIONS: Final = frozenset({0, 43, 60})
"""Hop-by-hop options, routing, destination options: they may stand ahead of the fragment header, and behind it."""

Span = tuple[bytes, bytes]
"""A packet as it is compared: addresses, extension headers and protocol; the bytes behind them."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A packet, or a fragment of one: ``offset`` in bytes, and whether more follows."""

    addresses: bytes
    before: bytes
    """Extension headers ahead of the fragment header, each behind its number."""
    protocol: int
    offset: int
    more: bool
    data: bytes


class Seen(Enum):
    """What came out of what was sent."""

    NOTHING = "nothing"
    PART = "a part"
    WHOLE = "all of it"


def whole(sent: Sequence[bytes], received: Iterable[bytes], skip: int) -> Seen:
    """Compare frames with what a tap received, which leaves the first ``skip`` bytes of a frame away.

    Addresses and all that is behind the IP header must be the same; that of a node's IPv6 tap has no header.
    Of another packet than this nothing is said.
    """
    wanted = _spans(piece for frame in sent if (piece := _piece(frame)))
    if skip > ETHERNET_HEADER:
        return Seen.WHOLE if any(data in received for _, data in wanted) else Seen.NOTHING
    padding = sent[0][:ETHERNET_HEADER] if skip else b""
    got = _spans(piece for data in received if (piece := _piece(padding + data)))
    if not wanted or not got:
        return Seen.NOTHING
    ours = [span for span in got if span[0] in {key for key, _ in wanted}]
    if any(span in wanted for span in ours):
        return Seen.WHOLE
    known = b"".join(data for _, data in wanted)
    return Seen.PART if any(data and data in known for _, data in ours) else Seen.NOTHING


def _spans(pieces: Iterable[_Piece]) -> list[Span]:
    """Each packet put together as far as it is there."""
    found: list[Span] = []
    cut: dict[tuple[bytes, bytes, int], dict[int, bytes]] = {}
    for piece in pieces:
        if not piece.offset and not piece.more:
            found.append(_span(piece.addresses, piece.before, piece.protocol, piece.data))
        else:
            cut.setdefault((piece.addresses, piece.before, piece.protocol), {})[piece.offset] = piece.data
    return found + [_span(*key, b"".join(data for _, data in sorted(parts.items()))) for key, parts in cut.items()]


def _span(addresses: bytes, before: bytes, protocol: int, data: bytes) -> Span:
    """Wherever the fragment header stood, extension headers are the same."""
    headers, following, at = (before, protocol, 0) if len(addresses) == 8 else _walked(data, protocol, 0, before)
    return addresses + headers + bytes((following,)), data[at:]


def _piece(frame: bytes) -> _Piece | None:
    kind, packet = frame[12:ETHERNET_HEADER], frame[ETHERNET_HEADER:]
    if kind == _IPV4 and len(packet) >= IPV4_HEADER:
        return _piece_4(packet)
    if kind == _IPV6 and len(packet) >= IPV6_HEADER:
        return _piece_6(packet)
    return None


def _piece_4(packet: bytes) -> _Piece:
    """Options are left out: routers write into them."""
    header, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    flags = int.from_bytes(packet[6:8], "big")
    return _Piece(
        packet[12:IPV4_HEADER], b"", packet[9], (flags & _OFFSET_4) * 8, bool(flags & _MORE_4), packet[header:length]
    )


def _piece_6(packet: bytes) -> _Piece:
    end = IPV6_HEADER + int.from_bytes(packet[4:6], "big")
    before, following, at = _walked(packet, packet[6], IPV6_HEADER, b"")
    if following != FRAGMENT:
        return _Piece(packet[8:IPV6_HEADER], before, following, 0, False, packet[at:end])
    place = int.from_bytes(packet[at + 2 : at + 4], "big")
    return _Piece(packet[8:IPV6_HEADER], before, packet[at], place & ~7, bool(place & 1), packet[at + 8 : end])


def _walked(data: bytes, following: int, at: int, headers: bytes) -> tuple[bytes, int, int]:
    """Go past the extension headers from ``at`` on: them with those before, what follows them, and where."""
    while following in _EXTENSIONS and at + 8 <= len(data):
        length = (data[at + 1] + 1) * 8
        headers += bytes((following,)) + data[at + 1 : at + length]
        following, at = data[at], at + length
    return headers, following, at
