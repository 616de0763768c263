# SPDX-License-Identifier: Apache-2.0
"""The few things that a lab is made of, and the requests of rtnetlink(7) that make them."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from lab.fabric.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, attribute, attributes
from lab.topology import Address

__all__ = [
    "FIRST_INDEX",
    "LOOPBACK",
    "Deed",
    "Interface",
    "Neighbour",
    "OwnAddress",
    "Route",
    "Up",
    "Wire",
    "get_links",
    "get_route",
    "is_local",
    "is_ready",
    "link_index",
]

LOOPBACK: Final = 1
"""The index of ``lo``: the first interface of every network namespace."""
FIRST_INDEX: Final = 32
"""Of a lab's interfaces: above the tunnel devices that some kernels put into every new namespace."""

_RTM_NEWLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 18, 19
_RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETROUTE, _RTM_NEWNEIGH = 20, 24, 26, 28

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_LINKINFO = 1, 3, 4, 16, 18
_IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 28, 29, 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_RTEXT_FILTER_SKIP_STATS = 1 << 3
_IFF_UP = 1
_IF_OPER_UP = 6

_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST, _RTN_LOCAL = 254, 4, 1, 2
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTNH_F_ONLINK = 0, 253, 4
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=8BI")
_NDMSG = struct.Struct("=BxxxiHBB")
_U32 = struct.Struct("=I")

_NEW = NLM_F_CREATE | NLM_F_EXCL
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

# One queue a direction: with more, the kernel waits for grace periods while it makes and removes the device.
_ONE_QUEUE = attribute(_IFLA_NUM_TX_QUEUES, _U32.pack(1)) + attribute(_IFLA_NUM_RX_QUEUES, _U32.pack(1))
_KIND_VETH = attribute(_IFLA_INFO_KIND, b"veth")


class Interface(NamedTuple):
    """One end of a wire: the host (namespace) that it is in, and what it is to be there."""

    host: str
    name: str
    ifindex: int
    mac: bytes

    def body(self, mtu: int, flags: int) -> bytes:
        """How a request describes it."""
        return (
            _IFINFOMSG.pack(0, 0, self.ifindex, flags, flags)
            + attribute(_IFLA_IFNAME, self.name.encode("ascii") + b"\0")
            + attribute(_IFLA_ADDRESS, self.mac)
            + attribute(_IFLA_MTU, _U32.pack(mtu))
            + _ONE_QUEUE
        )


class Wire(NamedTuple):
    """A veth pair, made in the host of its near end; the two indexes must differ."""

    near: Interface
    far: Interface
    mtu: int

    def message(self, far_namespace: int) -> Message:
        """Make it, the far end in the namespace of that descriptor; the near end is up then, the far one not."""
        peer = self.far.body(self.mtu, flags=0) + attribute(_IFLA_NET_NS_FD, _U32.pack(far_namespace))
        data = attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
        body = self.near.body(self.mtu, flags=_IFF_UP) + attribute(_IFLA_LINKINFO, _KIND_VETH + data)
        return Message(_RTM_NEWLINK, _NEW, body, "a veth for", self.far.name)


class Up(NamedTuple):
    """An interface is up."""

    ifindex: int

    def message(self) -> Message:
        """Bring it up."""
        return Message(
            _RTM_SETLINK, 0, _IFINFOMSG.pack(0, 0, self.ifindex, _IFF_UP, _IFF_UP), "an interface that is up"
        )


class OwnAddress(NamedTuple):
    """An interface has an address without a network, usable at once (no duplicate detection)."""

    ifindex: int
    address: Address

    def message(self) -> Message:
        """Give it the address."""
        family, packed = _FAMILY[self.address.version], self.address.packed
        body = _IFADDRMSG.pack(family, self.address.max_prefixlen, _IFA_F_NODAD, _RT_SCOPE_UNIVERSE, self.ifindex)
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        return Message(_RTM_NEWADDR, _NEW, body, "the address", self.address)


class Route(NamedTuple):
    """What goes to one address, or with None to any, leaves by an interface.

    Its owner is behind the interface itself, or behind a gateway that needs no route of its own.
    """

    ifindex: int
    address: Address | None
    gateway: Address | None = None

    def message(self) -> Message:
        """Put the route into the main table."""
        scope, flags, data = _RT_SCOPE_LINK, 0, attribute(_RTA_OIF, _U32.pack(self.ifindex))
        family, bits = socket.AF_UNSPEC, 0
        if self.gateway is not None:
            family, scope, flags = _FAMILY[self.gateway.version], _RT_SCOPE_UNIVERSE, _RTNH_F_ONLINK
            data += attribute(_RTA_GATEWAY, self.gateway.packed)
        if self.address is not None:
            family, bits = _FAMILY[self.address.version], self.address.max_prefixlen
            data += attribute(_RTA_DST, self.address.packed)
        body = _RTMSG.pack(family, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_UNICAST, flags) + data
        return Message(_RTM_NEWROUTE, _NEW, body, "the route to", self.address or "everything")


class Neighbour(NamedTuple):
    """Who has an address behind an interface, for good."""

    ifindex: int
    address: Address
    mac: bytes

    def message(self) -> Message:
        """Say so, whatever was said before."""
        body = _NDMSG.pack(_FAMILY[self.address.version], self.ifindex, _NUD_PERMANENT, 0, _RTN_UNICAST)
        body += attribute(_NDA_DST, self.address.packed) + attribute(_NDA_LLADDR, self.mac)
        return Message(_RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, "the neighbour", self.address)


Deed = Up | OwnAddress | Route | Neighbour
"""One thing that is said to a host."""


def get_links() -> Message:
    """Ask for all interfaces, without their counters."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
    return Message(_RTM_GETLINK, 0, body, "a list of the interfaces")


def link_index(link: bytes) -> int:
    """Whose answer to ``get_links`` this is."""
    return int(_IFINFOMSG.unpack_from(link)[2])


def is_ready(link: bytes) -> bool:
    """Whether an interface carries packets: after both ends are up the kernel still has to notice that they are."""
    state = next((data for kind, data in attributes(link, _IFINFOMSG.size) if kind == _IFLA_OPERSTATE), b"")
    return state == bytes((_IF_OPER_UP,))


def get_route(address: Address) -> Message:
    """Ask which route a packet to that address would take."""
    head = (_FAMILY[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0)
    return Message(
        _RTM_GETROUTE, 0, _RTMSG.pack(*head, 0) + attribute(_RTA_DST, address.packed), f"a route to {address}"
    )


def is_local(route: bytes) -> bool:
    """Whether a route's packets have arrived: the address is the host's own."""
    return int(_RTMSG.unpack_from(route)[7]) == _RTN_LOCAL
