# SPDX-License-Identifier: Apache-2.0
"""What nodes do to addresses: node ports lead to a backend, and what leaves a pool for no pool gets the node's own."""

from __future__ import annotations

from dataclasses import replace

from lab.oracle.conntrack import UNTRACKED_6, is_invalid
from lab.oracle.nets import NetIndex
from lab.oracle.packet import Packet
from lab.oracle.world import World
from lab.policy.resources import EndpointSlice, Resources, ServicePort
from lab.protocols import ICMPV6
from lab.topology import Topology, address_of

__all__ = ["Translation"]


class Translation:
    """The address translation of all nodes, which is the same on each but for its own addresses."""

    def __init__(self, topology: Topology, resources: Resources, world: World) -> None:
        self._topology = topology
        self._world = world
        self._node_ports: dict[tuple[int, int], tuple[ServicePort, list[EndpointSlice]]] = {}
        slices: dict[tuple[str, str], list[EndpointSlice]] = {}
        for part in resources.endpoint_slices:
            slices.setdefault((part.namespace, part.service), []).append(part)
        for service in resources.services:
            for port in service.ports:
                if port.node_port is not None:
                    behind = slices.get((service.namespace, service.name), [])
                    self._node_ports.setdefault((port.protocol, port.node_port), (port, behind))
        self.node_ports = frozenset(port for _, port in self._node_ports)
        """The numbers of all node ports."""
        self._pools = NetIndex((pool.cidr, pool) for pool in resources.ip_pools)
        self._masquerading = NetIndex((pool.cidr, pool) for pool in resources.ip_pools if pool.nat_outgoing)

    def is_node_port(self, packet: Packet) -> bool:
        """Whether a packet for a node's own address goes to a node port."""
        return packet.port is not None and (packet.protocol, packet.port) in self._node_ports

    def to_backend(self, packet: Packet) -> Packet | None:
        """The packet as it goes on from a node port: to the first ready backend of its family, None without any.

        The lab always takes the first one, in the order of the files; other proxies draw lots.
        """
        wanted, slices = self._node_ports[packet.protocol, packet.port or 0]
        for part in slices:
            ports = (port.port for port in part.ports if (port.name, port.protocol) == (wanted.name, wanted.protocol))
            address = next((address for address in part.addresses if address.version == packet.family), None)
            port = next(ports, None)
            if address is not None and port is not None:
                return replace(packet, destination=self._world.location(address), port=port)
        return None

    def leaving(self, packet: Packet, node: str) -> Packet:
        """The packet as the next node sees it: from the node's address where its pool says natOutgoing.

        Only what connection tracking knows is translated.
        """
        if not self._masquerading.covers(packet.source.address) or self._pools.covers(packet.destination.address):
            return packet
        address = address_of(self._topology.nodes[node], packet.family)
        if address is None or not _is_tracked(packet):
            return packet
        return replace(packet, source=self._world.location(address))


def _is_tracked(packet: Packet) -> bool:
    """Whether a connection can begin with the packet; of neighbour discovery, too, there is none."""
    discovers = packet.protocol == ICMPV6 and packet.icmp is not None and packet.icmp.type in UNTRACKED_6
    return not is_invalid(packet) and not discovers
