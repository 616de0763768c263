# SPDX-License-Identifier: Apache-2.0
"""What a node's conntrack knows, read over ctnetlink: evidence of how a packet of a conversation was judged."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from lab.fabric.node import Node
from lab.protocols import protocol_label
from lab.topology import Address

__all__ = ["Tracked", "tracked"]

_NETLINK_NETFILTER: Final = 12
_GET: Final = 1 << 8 | 1
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET."""
_DUMP_REQUEST: Final = 0x301
_REQUEST: Final = struct.pack("=IHHIIBBH", 20, _GET, _DUMP_REQUEST, 1, 0, 0, 0, 0)
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_NFGENMSG: Final = 4
_NESTED: Final = 0x3FFF
"""What is left of an attribute's type without its flags."""

_TUPLE_ORIGINAL, _STATUS, _PROTOCOL_INFO = 1, 3, 4
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_SOURCES, _DESTINATIONS = frozenset({1, 3}), frozenset({2, 4})
_NUMBER, _SOURCE_PORT, _PORT = 1, 2, 3
_TCP_INFO, _SCTP_INFO, _STATE = 1, 3, 1
_SEEN_REPLY: Final = 2
"""IPS_SEEN_REPLY: packets went both ways."""
_TCP_STATES: Final = (
    "none",
    "syn-sent",
    "syn-recv",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
)
_ROOM: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Tracked:
    """An entry, named by the direction of its first packet; ports are 0 where the protocol has none."""

    protocol: int
    source: Address
    destination: Address
    source_port: int
    port: int
    replied: bool
    state: str
    """TCP's state as conntrack has it; empty for other protocols."""

    def __str__(self) -> str:
        ends = f"{self.source}:{self.source_port} -> {self.destination}:{self.port}"
        state = self.state or ("answered" if self.replied else "unanswered")
        return f"{protocol_label(self.protocol)} {ends} {state}"


def tracked(node: Node) -> tuple[Tracked, ...]:
    """All entries of a node. Raises OSError where the kernel has no conntrack, or does not tell."""
    with node.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.send(_REQUEST)
        return tuple(_entry(body) for body in _bodies(sock))


def _bodies(sock: socket.socket) -> Iterator[bytes]:
    while True:
        data = sock.recv(_ROOM)
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind in (_DONE, _ERROR):
                return
            yield data[_HEADER.size + _NFGENMSG : length]
            data = data[length + 3 & ~3 :]


def _entry(body: bytes) -> Tracked:
    about = _attributes(body)
    original = _attributes(about[_TUPLE_ORIGINAL])
    ends = _attributes(original[_TUPLE_IP])
    protocol = _attributes(original[_TUPLE_PROTOCOL])
    source, destination = (next(ends[key] for key in keys if key in ends) for keys in (_SOURCES, _DESTINATIONS))
    state = _attributes(_attributes(about.get(_PROTOCOL_INFO, b"")).get(_TCP_INFO, b"")).get(_STATE)
    return Tracked(
        protocol[_NUMBER][0],
        ip_address(source),
        ip_address(destination),
        int.from_bytes(protocol.get(_SOURCE_PORT, b"\0"), "big"),
        int.from_bytes(protocol.get(_PORT, b"\0"), "big"),
        bool(int.from_bytes(about[_STATUS], "big") & _SEEN_REPLY),
        "" if state is None else _TCP_STATES[state[0]],
    )


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind & _NESTED] = data[_ATTRIBUTE.size : length]
        data = data[length + 3 & ~3 :]
    return found
