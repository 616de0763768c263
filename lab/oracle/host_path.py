# SPDX-License-Identifier: Apache-2.0
"""The ways of packets through a topology: what all of them share, whichever packet it is that goes one."""

from __future__ import annotations

from lab.oracle.host_endpoints import HostEndpoints
from lab.oracle.host_nat import Translation
from lab.oracle.host_stages import Step
from lab.oracle.host_trip import Trip
from lab.oracle.packet import Packet
from lab.oracle.settings import FelixSettings
from lab.oracle.world import Location, World
from lab.policy.resources import Resources
from lab.protocols import UDP
from lab.topology import TUNNEL_PORT, Address, Family, Topology, address_of
from lab.topology.model import End

__all__ = ["Paths"]


class Paths:
    """The ways of packets through a topology under some resources; ``settings`` are those of each node."""

    def __init__(
        self, topology: Topology, resources: Resources, world: World, settings: dict[str, FelixSettings]
    ) -> None:
        self.world = world
        self.endpoints = HostEndpoints(topology, resources, world.hosts)
        self.translation = Translation(topology, resources, world)
        self.settings = settings
        self.topology = topology
        ends: tuple[End, ...] = (*topology.endpoints(), *topology.nodes.values())
        self._holders = {address: end for end in ends for address in end.addresses}

    def steps(self, source: End, destination: End, packet: Packet) -> tuple[Step, ...]:
        """All that a packet would meet if nobody denied it."""
        trip = Trip(self, packet, destination)
        trip.begin(source)
        return tuple(trip.steps)

    def goes_its_own_way(self, protocol: int, *ports: int | None) -> bool:
        """Whether one of these destination ports has a say in what a packet meets: a node port, or that of tunnels."""
        return (protocol == UDP and TUNNEL_PORT in ports) or not self.translation.node_ports.isdisjoint(ports)

    def own_location(self, node: str, family: Family) -> Location:
        """Where a node itself is; only nodes with an address of a family have tunnels of it."""
        address = address_of(self.topology.nodes[node], family)
        if address is None:
            raise ValueError(f"{node} has no address of IPv{family}")
        return self.world.location(address)

    def holder(self, address: Address) -> End | None:
        """The end that has an address."""
        return self._holders.get(address)
