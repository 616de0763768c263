# SPDX-License-Identifier: Apache-2.0
"""Netlink messages packed by hand and sent in batches: what a lab is built of, at the kernel's own speed.

One call an object through a general library costs ten times as much (``policylab bench lab``). Constants are
those of linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h and neighbour.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

from lab.errors import HostError
from lab.topology import Address

__all__ = ["Batch", "Veth", "request"]

REQUEST, ACK, REPLACE, EXCL, CREATE = 0x01, 0x04, 0x100, 0x200, 0x400
NLMSG_ERROR: Final = 2
NEWLINK, SETLINK, NEWADDR, NEWROUTE, NEWNEIGH = 16, 19, 20, 24, 28

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_NET_NS_FD, IFLA_NUM_TX, IFLA_NUM_RX = 1, 3, 4, 18, 28, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD: Final = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT: Final = 0x80
IFF_UP: Final = 1
RTNH_F_ONLINK: Final = 4
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RTN_UNICAST = 254, 4, 0, 253, 1

CHUNK: Final = 32768
"""Bytes sent at a time; the kernel works through them within the one system call."""
RECEIVE: Final = 65536
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")


class Veth:
    """One end of a veth pair: what it is called, its index and its hardware address."""

    __slots__ = ("index", "mac", "name")

    def __init__(self, name: str, index: int, mac: bytes) -> None:
        self.name = name
        self.index = index
        self.mac = mac


class Batch:
    """Messages for one namespace, collected and then sent together; each method adds one."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._what: list[str] = []

    def __len__(self) -> int:
        return len(self._messages)

    def veth(self, here: Veth, there: Veth, there_fd: int, mtu: int | None = None) -> None:
        """A veth pair: ``here`` in the batch's namespace, ``there`` made directly in the one behind ``there_fd``.

        One queue each way: more make the kernel wait for grace periods when the pair comes and goes.
        """
        size = b"" if mtu is None else _attribute(IFLA_MTU, _U32.pack(mtu))
        peer = _end(there) + size + _attribute(IFLA_NET_NS_FD, _U32.pack(there_fd))
        data = _attribute(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, peer))
        info = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"veth") + data)
        self._add(NEWLINK, CREATE | EXCL, _end(here) + size + info, f"veth {here.name} - {there.name}")

    def up(self, index: int) -> None:
        """Set an interface up."""
        self._add(SETLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP), f"interface {index} up")

    def address(self, index: int, address: Address) -> None:
        """A host's address, /32 or /128, in force at once: nobody else can have it, so nobody is asked."""
        packed = address.packed
        header = struct.pack("=BBBBi", _family(address), address.max_prefixlen, 0, 0, index)
        flags = _attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))
        body = header + _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed) + flags
        self._add(NEWADDR, CREATE | EXCL, body, f"address {address}")

    def route(self, index: int, destination: Address | None, gateway: Address | None, family: int) -> None:
        """A route to one host (or by default, when None), straight or by a gateway that is taken to be on the link."""
        length = 0 if destination is None else destination.max_prefixlen
        scope = RT_SCOPE_LINK if gateway is None and family == 4 else RT_SCOPE_UNIVERSE
        flags = 0 if gateway is None else RTNH_F_ONLINK
        head = struct.pack(
            "=BBBBBBBBI", _af(family), length, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, flags
        )
        body = head + _attribute(RTA_OIF, _U32.pack(index))
        if destination is not None:
            body += _attribute(RTA_DST, destination.packed)
        if gateway is not None:
            body += _attribute(RTA_GATEWAY, gateway.packed)
        self._add(NEWROUTE, CREATE | EXCL, body, f"route to {destination or 'all'}")

    def neighbour(self, index: int, address: Address, mac: bytes) -> None:
        """A permanent neighbour, new or in place of the one before."""
        head = struct.pack("=BxxxiHBB", _family(address), index, NUD_PERMANENT, 0, 0)
        body = head + _attribute(NDA_DST, address.packed) + _attribute(NDA_LLADDR, mac)
        self._add(NEWNEIGH, CREATE | REPLACE, body, f"neighbour {address}")

    def send(self, channel: socket.socket) -> None:
        """Have the kernel carry out all messages in order; raises HostError naming the first that it refused."""
        start = 0
        while start < len(self._messages):
            end, size = start, 0
            while end < len(self._messages) and size < CHUNK:
                size += len(self._messages[end])
                end += 1
            self._send(channel, start, end)
            start = end

    def _send(self, channel: socket.socket, start: int, end: int) -> None:
        """Send messages ``start`` to ``end``; only the last is acknowledged, and any that fails."""
        last = bytearray(self._messages[end - 1])
        struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | ACK)
        channel.send(b"".join([*self._messages[start : end - 1], bytes(last)]))
        while True:
            for sequence, code in _answers(channel.recv(RECEIVE)):
                if code:
                    raise HostError(
                        f"the kernel refused {self._what[sequence]}",
                        value=f"{errno.errorcode.get(code, code)}: {os.strerror(code)}",
                        next_step="see `policylab doctor`",
                    )
                if sequence == end - 1:
                    return

    def _add(self, kind: int, flags: int, body: bytes, what: str) -> None:
        header = _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, len(self._messages), 0)
        self._messages.append(header + body)
        self._what.append(what)


def request(channel: socket.socket, kind: int, body: bytes) -> None:
    """Send one message of any netlink family and wait for its acknowledgement; raises OSError when refused."""
    channel.send(_HEADER.pack(_HEADER.size + len(body), kind, REQUEST | ACK, 0, 0) + body)
    for _, code in _answers(channel.recv(RECEIVE)):
        if code:
            raise OSError(code, os.strerror(code))


def _answers(data: bytes) -> list[tuple[int, int]]:
    """Sequence number and error (0 for an acknowledgement) of each answer in what was received."""
    answers, at = [], 0
    while at < len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if kind == NLMSG_ERROR:
            answers.append((sequence, -struct.unpack_from("=i", data, at + _HEADER.size)[0]))
        at += length + 3 & ~3
    return answers


def _end(veth: Veth) -> bytes:
    """The part of a link message that describes one end."""
    one = _U32.pack(1)
    return (
        _LINK.pack(socket.AF_UNSPEC, 0, veth.index, 0, 0)
        + _attribute(IFLA_IFNAME, veth.name.encode() + b"\0")
        + _attribute(IFLA_ADDRESS, veth.mac)
        + _attribute(IFLA_NUM_TX, one)
        + _attribute(IFLA_NUM_RX, one)
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _family(address: Address) -> int:
    return _af(address.version)


def _af(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6
