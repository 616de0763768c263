# SPDX-License-Identifier: Apache-2.0
"""What a lab of namespaces is made of, as netlink batches: interfaces, addresses, routes, neighbours.

The underlay is a router. Nodes and externals hang on its ports, workloads on their node's ``cali*`` interfaces,
each with host addresses (/32, /128), a default route to a link-local gateway and permanent neighbours, as
Calico wires its workloads. The underlay knows a way to every address of the topology and no other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from lab.errors import HostError, Place
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.rtnetlink import Batch, Veth
from lab.topology import Address, Topology

__all__ = ["FORWARDING_SYSCTLS", "QUIET_SYSCTLS", "EndPort", "Plan"]

QUIET_SYSCTLS: Final = (("ipv6/conf/default/addr_gen_mode", b"1"),)
"""No link-local addresses of the kernel's own making: with them come DAD, router solicitations and MLD reports."""
FORWARDING_SYSCTLS: Final = (
    ("ipv4/ip_forward", b"1"),
    ("ipv6/conf/all/forwarding", b"1"),
    ("ipv4/conf/all/rp_filter", b"0"),
    ("ipv4/conf/default/rp_filter", b"0"),
)
"""A new namespace takes IPv4's settings from the host's, whatever they are: reverse-path filters must not judge."""

UNDERLAY: Final = "underlay"
ETH0, ETH0_INDEX = "eth0", 2
LOOPBACK_INDEX: Final = 1
FIRST_PORT_INDEX: Final = 100
"""Indexes of the routers' ports; never that of the other end, or the kernel is a second late to bring it up."""
GATEWAY_MAC: Final = bytes.fromhex("eeeeeeeeeeee")
MUTE_MAC: Final = bytes.fromhex("02ffffffffff")
"""Nobody's; frames to it come out at the interface and are ignored by the stack behind it."""
GATEWAYS: Final[Mapping[int, Address]] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
NODE_SIDE: Final[Mapping[int, Address]] = {4: IPv4Address("169.254.1.2"), 6: IPv6Address("fe80::2")}
"""By what names the underlay knows the node at the other end of a port, whatever addresses that has."""


@dataclass(frozen=True, slots=True)
class EndPort:
    """Where a workload or external is attached: all that a frame and an AF_PACKET socket need."""

    host: NamespaceNode
    interface: str
    ifindex: int
    mac: bytes
    gateway_mac: bytes
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class _Attachment:
    """An end's wire: which router holds the other end of it, under which name and index."""

    end: str
    router: str
    near: Veth
    far: Veth
    addresses: tuple[Address, ...]


class Plan:
    """The batches that build a topology; pure, nothing is done here."""

    underlay = UNDERLAY

    def __init__(self, topology: Topology) -> None:
        _refuse_other_kinds(topology)
        self._topology = topology
        self.routers = (UNDERLAY, *topology.nodes)
        self.ends = (*topology.workloads, *topology.externals)
        self._attachments = {each.end: each for each in self._wires()}

    def namespaces(self) -> Iterator[tuple[str, bool]]:
        """Every namespace by name, and whether it forwards."""
        yield from ((router, True) for router in self.routers)
        yield from ((end, False) for end in self.ends)

    def build(self, descriptors: Mapping[str, int]) -> Mapping[str, Batch]:
        """The batches by namespace, in the order in which they must be sent."""
        batches = {name: Batch() for name, _ in self.namespaces()}
        for batch in batches.values():
            batch.up(LOOPBACK_INDEX)  # first: a namespace without any address takes no on-link gateway
        for wire in self._attachments.values():
            batches[wire.router].veth(wire.far, wire.near, descriptors[wire.end])
            batches[wire.router].up(wire.far.index)
            self._furnish_end(batches[wire.end], wire)
            self._furnish_router(batches[wire.router], wire)
        for wire in self._attachments.values():
            if wire.end in self._topology.workloads:
                self._route_by_node(batches[UNDERLAY], wire)
        self._links(batches, descriptors)
        return batches

    def neighbours(self, *, muted: bool) -> Mapping[str, Batch]:
        """What the routers are to think of the ends' hardware addresses."""
        batches = {router: Batch() for router in self.routers}
        for end in self.ends:
            wire = self._attachments[end]
            for address in wire.addresses:
                mac = MUTE_MAC if muted else wire.near.mac
                batches[wire.router].neighbour(wire.far.index, address, mac)
        return {router: batch for router, batch in batches.items() if batch}

    def first_up(self, router: str) -> set[int]:
        """The router's ports, which the kernel brings up a moment after their other ends."""
        return {wire.far.index for wire in self._attachments.values() if wire.router == router}

    def port(self, end: str, host: NamespaceNode) -> EndPort:
        """How an end of the topology is attached."""
        wire = self._attachments[end]
        return EndPort(host, wire.near.name, wire.near.index, wire.near.mac, wire.far.mac, wire.addresses)

    def _wires(self) -> Iterator[_Attachment]:
        number = FIRST_PORT_INDEX
        for end in (*self._topology.nodes.values(), *self._topology.externals.values()):
            yield _attachment(end.name, UNDERLAY, f"port{number}", number, end.addresses)
            number += 1
        for workload in self._topology.workloads.values():
            yield _attachment(workload.name, workload.node, workload.interface, number, workload.addresses)
            number += 1

    @staticmethod
    def _furnish_end(batch: Batch, wire: _Attachment) -> None:
        """Interface up, addresses, and the way out."""
        batch.up(wire.near.index)
        for address in wire.addresses:
            batch.address(wire.near.index, address)
        for family, gateway in GATEWAYS.items():
            batch.neighbour(wire.near.index, gateway, wire.far.mac)
            batch.route(wire.near.index, None, gateway, family)

    def _furnish_router(self, batch: Batch, wire: _Attachment) -> None:
        """The way to an end that hangs on this router: straight to a workload or external, by gateway to a node."""
        is_node = wire.end in self._topology.nodes
        if is_node:
            for address in NODE_SIDE.values():
                batch.neighbour(wire.far.index, address, wire.near.mac)
        for address in wire.addresses:
            if not is_node:
                batch.neighbour(wire.far.index, address, wire.near.mac)
            gateway = NODE_SIDE[address.version] if is_node else None
            batch.route(wire.far.index, address, gateway, address.version)

    def _route_by_node(self, batch: Batch, wire: _Attachment) -> None:
        """The underlay's way to a workload."""
        port = self._attachments[wire.router].far.index
        for address in wire.addresses:
            batch.route(port, address, NODE_SIDE[address.version], address.version)

    def _links(self, batches: Mapping[str, Batch], descriptors: Mapping[str, int]) -> None:
        """The wires besides the underlay; they carry what their owner gives them an address or route for."""
        first = FIRST_PORT_INDEX + len(self._attachments)
        for number, link in enumerate(self._topology.links):
            one, other = link.between
            near, far = first + 2 * number, first + 2 * number + 1
            batches[one].veth(
                Veth(link.interface, near, _mac(near)), Veth(link.interface, far, _mac(far)), descriptors[other], link.mtu
            )
            batches[one].up(near)
            batches[other].up(far)


def _attachment(end: str, router: str, port: str, index: int, addresses: tuple[Address, ...]) -> _Attachment:
    near, far = Veth(ETH0, ETH0_INDEX, _mac(index)), Veth(port, index, GATEWAY_MAC)
    return _Attachment(end, router, near, far, addresses)


def _mac(index: int) -> bytes:
    """A locally administered hardware address for the wire of that number."""
    return b"\x02\x00" + struct.pack("!I", index)


def _refuse_other_kinds(topology: Topology) -> None:
    for node in topology.nodes.values():
        if node.kind != "namespace":
            raise HostError(
                f"nodes of kind {node.kind} cannot be built yet",
                place=node.place or Place(topology.file),
                value=node.name,
                allowed="namespace",
                next_step="make it a namespace",
            )
