# SPDX-License-Identifier: Apache-2.0
"""The few requests of rtnetlink(7) that a lab is made of, as packed messages."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from lab.fabric.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, attribute, attributes
from lab.topology import Address

__all__ = [
    "FIRST_INDEX",
    "LOOPBACK",
    "Interface",
    "Wire",
    "add_address",
    "add_default_route",
    "add_route",
    "add_veth",
    "get_links",
    "get_route",
    "is_local",
    "is_ready",
    "link_index",
    "set_neighbour",
    "set_up",
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


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a wire: the host (namespace) that it is in, and what it is to be there."""

    host: str
    name: str
    index: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair, made in the host of its near end; the two indexes must differ."""

    near: Interface
    far: Interface
    mtu: int


def add_veth(wire: Wire, far_namespace: int) -> Message:
    """Make a wire whose far end is born in the namespace of that descriptor; the near end is up, the far one not."""
    peer = _link(wire.far, wire.mtu, flags=0) + attribute(_IFLA_NET_NS_FD, _U32.pack(far_namespace))
    data = attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    body = _link(wire.near, wire.mtu, flags=_IFF_UP) + attribute(_IFLA_LINKINFO, _KIND_VETH + data)
    about = f"the veth {wire.near.name} of {wire.near.host} to {wire.far.name} of {wire.far.host}"
    return Message(_RTM_NEWLINK, _NEW, body, about)


def _link(interface: Interface, mtu: int, flags: int) -> bytes:
    return (
        _IFINFOMSG.pack(0, 0, interface.index, flags, flags)
        + attribute(_IFLA_IFNAME, interface.name.encode("ascii") + b"\0")
        + attribute(_IFLA_ADDRESS, interface.mac)
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + _ONE_QUEUE
    )


def set_up(index: int) -> Message:
    """Bring an interface up."""
    return Message(_RTM_SETLINK, 0, _IFINFOMSG.pack(0, 0, index, _IFF_UP, _IFF_UP), "an interface that is to be up")


def add_address(index: int, address: Address) -> Message:
    """Give an interface an address of its own, without a network; usable at once (no duplicate detection)."""
    family, packed = _FAMILY[address.version], address.packed
    body = _IFADDRMSG.pack(family, address.max_prefixlen, _IFA_F_NODAD, _RT_SCOPE_UNIVERSE, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return Message(_RTM_NEWADDR, _NEW, body, f"the address {address}")


def add_route(address: Address, index: int, gateway: Address | None = None) -> Message:
    """Send what goes to one address out of an interface, to its owner itself or to a gateway behind it."""
    to = attribute(_RTA_DST, address.packed) + attribute(_RTA_OIF, _U32.pack(index))
    about = f"the route to {address}"
    if gateway is None:
        return _route(address, address.max_prefixlen, to, about)
    return _route_by(gateway, address.max_prefixlen, to, about)


def add_default_route(gateway: Address, index: int) -> Message:
    """Send everything that has no other route to a gateway that needs no route itself."""
    return _route_by(gateway, 0, attribute(_RTA_OIF, _U32.pack(index)), f"the default route by {gateway}")


def _route(address: Address, bits: int, to: bytes, about: str) -> Message:
    head = (_FAMILY[address.version], bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST)
    return Message(_RTM_NEWROUTE, _NEW, _RTMSG.pack(*head, 0) + to, about)


def _route_by(gateway: Address, bits: int, to: bytes, about: str) -> Message:
    head = (_FAMILY[gateway.version], bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST)
    body = _RTMSG.pack(*head, _RTNH_F_ONLINK) + to + attribute(_RTA_GATEWAY, gateway.packed)
    return Message(_RTM_NEWROUTE, _NEW, body, about)


def set_neighbour(index: int, address: Address, mac: bytes) -> Message:
    """Say for good who has an address behind an interface, whatever was said before."""
    body = _NDMSG.pack(_FAMILY[address.version], index, _NUD_PERMANENT, 0, _RTN_UNICAST)
    body += attribute(_NDA_DST, address.packed) + attribute(_NDA_LLADDR, mac)
    return Message(_RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"the neighbour {address}")


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
