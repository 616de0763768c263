# SPDX-License-Identifier: Apache-2.0
"""Conversations: what two ends say to each other, packet by packet, as a case or a generator spells it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from lab.errors import LabError, Place
from lab.protocols import ICMP, ICMPV6, SCTP, TCP
from lab.topology import DEFAULT_SOURCE_PORT, Address, Flow, IcmpHeader, Topology, address_of
from lab.traffic.segments import FLAGS

__all__ = [
    "AGAIN",
    "CHUNKS",
    "ERRORS",
    "Conversation",
    "Line",
    "Shape",
    "address_named",
    "echo_type",
    "error_of",
    "flags_of",
    "flow_of",
]

AGAIN: Final = "again"
"""The word for the last packet of that side once more, to the byte."""

CHUNKS: Final = {
    "data": 0,
    "init": 1,
    "init-ack": 2,
    "abort": 6,
    "shutdown": 7,
    "shutdown-ack": 8,
    "cookie-echo": 10,
    "cookie-ack": 11,
    "shutdown-complete": 14,
}
"""SCTP's chunks (RFC 9260, 3.2), by what they are called in a conversation."""

ERRORS: Final = {
    "unreachable": {4: IcmpHeader(3, 3), 6: IcmpHeader(1, 4)},
    "too-big": {4: IcmpHeader(3, 4), 6: IcmpHeader(2, 0)},
    "time-exceeded": {4: IcmpHeader(11, 0), 6: IcmpHeader(3, 0)},
    "parameter-problem": {4: IcmpHeader(12, 0), 6: IcmpHeader(4, 0)},
}
"""ICMP errors about a conversation, by word and family (RFC 792, RFC 4443)."""

_ECHO: Final = {"request": {4: 8, 6: 128}, "reply": {4: 0, 6: 129}}
_ODDITIES: Final = ("overlap", "first_only", "later_only", "wrong_checksum", "wrong_header_checksum")
_DATA: Final = "data"
_DATA_FLAGS: Final = FLAGS["psh"] | FLAGS["ack"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is out of the ordinary about a packet; the default is nothing.

    ``fragments`` is their size in bytes behind the IP header; ``overlap`` sends one of them twice with other bytes;
    ``first_only`` keeps all but the first back, ``later_only`` the first. ``options`` are IPv4 options, ``extensions``
    numbers of IPv6 extension headers in their order. ``payload`` is how many bytes of data there are.
    ``wrong_header_checksum`` is that of IPv4's own header.
    """

    fragments: int | None = None
    overlap: bool = False
    first_only: bool = False
    later_only: bool = False
    options: bytes = b""
    extensions: tuple[int, ...] = ()
    payload: int | None = None
    wrong_checksum: bool = False
    wrong_header_checksum: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One packet of a conversation.

    ``back``: against the direction in which the conversation was opened. ``by`` names an end that speaks in place of
    the one whose turn it is, with its own address. ``forged``: an error about a packet that was never sent. ``step``
    counts the policies in force from 0. ``source`` is whose address the packet bears in place of its sender's,
    ``destination`` where it is addressed in place of the other end: the name of an end, or an address as text.
    """

    word: str
    back: bool = False
    step: int = 0
    by: str | None = None
    forged: bool = False
    source: str | None = None
    destination: str | None = None
    expect: bool | None = None
    """Whether it must come through, as it was written by hand; None: nobody wrote it."""
    shape: Shape = field(default_factory=Shape)

    def __str__(self) -> str:
        said = f"{'answer' if self.back else 'send'} {self.word}"
        shaped = "" if self.shape == Shape() else f" ({self._shaped()})"
        told = (("by", self.by), ("with the address", self.source), ("addressed to", self.destination))
        return said + shaped + "".join(f" {word} {of}" for word, of in told if of) + " forged" * self.forged

    def _shaped(self) -> str:
        shape = self.shape
        numbers = {"fragments": shape.fragments, "payload": shape.payload}
        told = [f"{name} {number}" for name, number in numbers.items() if number is not None]
        told += [f"{name} {value}" for name, value in (("options", shape.options.hex()),) if value]
        told += [f"extensions {' '.join(map(str, shape.extensions))}"] if shape.extensions else []
        return ", ".join([*told, *(name for name in _ODDITIES if getattr(shape, name))])


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who talks to whom by which protocol (``opening`` is the first packet's flow), and what is said."""

    opening: Flow
    lines: tuple[Line, ...]
    untracked: tuple[str, ...] = ()
    """Nodes whose conntrack must know nothing of it when all is said."""
    place: Place | None = field(default=None, compare=False)

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination port in the direction of its opening; 0 where the protocol has none."""
        return self.opening.source_port or DEFAULT_SOURCE_PORT, self.opening.port or 0


def address_named(text: str, family: int, topology: Topology) -> Address | None:
    """The address that an end has in a family, or that a text is; None where there is none."""
    end = topology.end(text)
    if end is not None:
        return address_of(end, family)
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if address.version == family else None


def error_of(line: Line, family: int) -> IcmpHeader | None:
    """Type and code of the ICMP error that a line is; None when it is none."""
    found = ERRORS.get(line.word)
    return None if found is None else found[family]


def echo_type(line: Line, family: int) -> int:
    """The ICMP type of an echo; raises LabError for a word that is no echo's."""
    found = _ECHO.get(line.word)
    if found is None:
        raise LabError("nothing that ICMP says", value=line.word, allowed=", ".join((*_ECHO, *ERRORS, AGAIN)))
    return found[family]


def flags_of(line: Line) -> int:
    """TCP flags by their names with + between them; ``data`` is psh+ack with a payload, ``none`` is none at all.

    Raises LabError for anything else.
    """
    if line.word == _DATA:
        return _DATA_FLAGS
    names = [] if line.word == "none" else line.word.split("+")
    if unknown := [name for name in names if name not in FLAGS]:
        raise LabError("no flag of TCP", value=unknown[0], allowed=f"{_DATA}, {AGAIN}, none, or {'+'.join(FLAGS)}")
    return sum({FLAGS[name] for name in names})


def flow_of(conversation: Conversation, line: Line) -> Flow:
    """The packet of a line as a flow of its own: what policy is asked where no state answers for it.

    Raises LabError for a word that the conversation's protocol does not have.
    """
    opening = conversation.opening
    source, destination = opening.source, opening.destination
    ports = (opening.source_port or DEFAULT_SOURCE_PORT, opening.port)
    if line.back:
        source, destination = destination, source
    flow = replace(opening, source=line.by or source, destination=destination, place=conversation.place)
    icmp = ICMP if opening.family == 4 else ICMPV6
    error = error_of(line, opening.family)
    if error is not None:
        return replace(flow, protocol=icmp, icmp=error, port=None, source_port=None)
    if opening.protocol == icmp:
        return flow if line.word == AGAIN else replace(flow, icmp=IcmpHeader(echo_type(line, opening.family), 0))
    _check_word(opening.protocol, line)
    if ports[1] is None:
        return flow
    first, second = reversed(ports) if line.back else ports
    return replace(flow, source_port=first, port=second)


def _check_word(protocol: int, line: Line) -> None:
    if line.word == AGAIN:
        return
    if protocol == TCP:
        flags_of(line)
    elif line.word not in (CHUNKS if protocol == SCTP else (_DATA,)):
        allowed = (*CHUNKS, AGAIN) if protocol == SCTP else (_DATA, AGAIN)
        raise LabError("nothing that this protocol says", value=line.word, allowed=", ".join((*allowed, *ERRORS)))
