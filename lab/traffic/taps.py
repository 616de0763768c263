# SPDX-License-Identifier: Apache-2.0
"""The sockets at a lab's ends: where packets go in, and where they are seen to come out.

A workload or external sends and sees whole frames on its own interface. A node is different: AF_PACKET sees a
packet before INPUT and sends behind OUTPUT, so a node sends and sees through raw IP sockets.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from os import strerror
from typing import Final, Protocol

from lab.fabric.node import Node
from lab.topology import Address
from lab.traffic.mmsg import InBox, OutBox
from lab.traffic.observation import Observation
from lab.traffic.packets import ETHERNET_HEADER, IPV6_HEADER
from lab.traffic.ring import Ring

__all__ = [
    "LOOPBACK",
    "RECEIVE_BUFFER",
    "Catch",
    "FrameTap",
    "Sender",
    "SocketSender",
    "SocketTap",
    "Tap",
    "frame_sender",
    "frame_tap",
    "raw_sender",
    "raw_tap",
]

LOOPBACK: Final = 1
"""The index of ``lo``: the first interface of every network namespace."""
RECEIVE_BUFFER: Final = 8 << 20
"""Bytes: several batches of small packets, each of which the kernel counts as about a kilobyte."""

_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
"""SK_MEMINFO_VARS; the last of them counts what the socket had no room for."""
_SIOCGIFFLAGS: Final = 0x8913
_IFREQ: Final = struct.Struct("=16sh22x")
_IFF_UP: Final = 1


class Catch(Protocol):
    """Frames that came in at a tap. Whatever its ``skip`` is, one of ours has its id at the same place."""

    @property
    def count(self) -> int:
        """How many they are."""
        ...

    @property
    def more(self) -> bool:
        """Whether further ones may be waiting already."""
        ...

    @property
    def expected_length(self) -> int:
        """How long one of ours is here."""
        ...

    def lengths(self) -> list[int]:
        """The length of each frame."""
        ...

    def frames(self) -> Iterator[tuple[bytes, int]]:
        """What stands between ``BODY_AT`` and the id, and the id, of each frame."""
        ...

    def whole(self, place: int) -> bytes:
        """A frame as it was received, as far as there was room."""
        ...


class Tap(Protocol):
    """Where packets are seen to come out at an end; it leaves ``skip`` bytes of each frame's start away."""

    @property
    def name(self) -> str:
        """The end."""
        ...

    @property
    def skip(self) -> int:
        """Bytes of a frame's start that are left away."""
        ...

    @property
    def interface(self) -> str | None:
        """The interface that it is bound to; None for a raw IP socket."""
        ...

    @property
    def allowed(self) -> Observation:
        """What there is to say of a packet that arrived here as it should; one for all of them."""
        ...

    def fetch(self, box: InBox) -> Catch:
        """What has come, without waiting for more; a box lends room to it, and both are good until the next fetch."""
        ...

    def lost(self) -> int:
        """How many packets it has dropped since it was opened."""
        ...

    def is_down(self) -> bool:
        """Whether its interface is down, so that nothing can arrive there."""
        ...

    def close(self) -> None:
        """See nothing any more."""
        ...


class Sender(Protocol):
    """Where packets go in at an end; it makes ``skip`` bytes of each frame's start itself."""

    @property
    def name(self) -> str:
        """The end."""
        ...

    @property
    def skip(self) -> int:
        """Bytes of a frame's start that are left away."""
        ...

    def send(self, box: OutBox, places: range) -> Iterator[tuple[int, int]]:
        """Send what lies in these slots; yields (place, errno) of what could not be sent."""
        ...

    def close(self) -> None:
        """Send nothing any more."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SocketTap:
    """A raw IP socket in this kernel."""

    name: str
    socket: socket.socket
    skip: int
    allowed: Observation
    interface: None = None

    def fetch(self, box: InBox) -> InBox:
        """What waits, put into a box."""
        box.fetch(self.socket.fileno())
        return box

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()

    def lost(self) -> int:
        """How many packets the socket has dropped since it was opened."""
        memory = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(memory)[-1])

    def is_down(self) -> bool:
        """It is bound to no interface."""
        return False


@dataclass(frozen=True, slots=True, eq=False)
class FrameTap:
    """An AF_PACKET socket in this kernel, with its ring."""

    name: str
    socket: socket.socket
    ring: Ring
    interface: str
    allowed: Observation
    skip: int = 0

    def fetch(self, box: InBox) -> Ring:  # noqa: ARG002 - for taps that have no room of their own
        """What has come; raises OSError when the interface has gone down meanwhile."""
        self.ring.fetch()
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, strerror(error))
        return self.ring

    def close(self) -> None:
        """Give the socket back."""
        self.ring.close()
        self.socket.close()

    def lost(self) -> int:
        """How many packets there was no room for since it was opened, up to the last fetch."""
        return self.ring.lost

    def is_down(self) -> bool:
        """Whether its interface is down, so that nothing can arrive there."""
        answer = ioctl(self.socket, _SIOCGIFFLAGS, _IFREQ.pack(self.interface.encode(), 0))
        return not _IFREQ.unpack(answer)[1] & _IFF_UP


@dataclass(frozen=True, slots=True, eq=False)
class SocketSender:
    """A sending socket in this kernel."""

    name: str
    socket: socket.socket
    skip: int

    def send(self, box: OutBox, places: range) -> Iterator[tuple[int, int]]:
        """Send what lies in these slots; yields (place, errno) of what could not be sent."""
        return box.send(self.socket.fileno(), places)

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()


def frame_tap(name: str, host: Node, interface: str) -> FrameTap:
    """See every frame that comes in on an end's interface."""
    sock = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    ring = Ring(sock)
    sock.bind((interface, _ETH_P_ALL))
    return FrameTap(name, sock, ring, interface, Observation("allow", arrived=name))


def raw_tap(name: str, node: Node, version: int, protocol: int) -> SocketTap:
    """See what a node accepts of one protocol (IP version 4 or 6), behind its INPUT chain."""
    family, skip = (socket.AF_INET, 0) if version == 4 else (socket.AF_INET6, IPV6_HEADER)
    sock = node.socket(family, socket.SOCK_RAW, protocol)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    return SocketTap(name, sock, ETHERNET_HEADER + skip, Observation("allow", arrived=name))


def frame_sender(name: str, host: Node, interface: str) -> SocketSender:
    """Send whole frames from an end's interface; the socket receives nothing."""
    sock = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((interface, 0))
    return SocketSender(name, sock, 0)


def raw_sender(name: str, node: Node, version: int) -> SocketSender:
    """Send IP packets from a node as one of its own programs does, through its OUTPUT chain and routes."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return SocketSender(name, node.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW), ETHERNET_HEADER)


def sockaddr(address: Address) -> bytes:
    """Where a raw socket sends to, as the kernel reads it (sockaddr_in, sockaddr_in6)."""
    if address.version == 4:
        return struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address.packed, 0)
