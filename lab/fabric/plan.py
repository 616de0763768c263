# SPDX-License-Identifier: Apache-2.0
"""What a topology comes to in namespaces, wires, addresses, routes and neighbours: plain data, nothing made yet.

The shape is Calico's: each workload sits behind a veth of its node with /32 and /128 addresses and a link-local
gateway; the node routes to it. Nodes and externals hang the same way on one more namespace, the underlay, which
routes between them and knows no way out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import Final

from lab.errors import TopologyError
from lab.fabric.messages import FIRST_INDEX, LOOPBACK, Deed, Interface, Neighbour, OwnAddress, Route, Up, Wire
from lab.topology import Address, End, Node, Topology, Workload

__all__ = ["PORT", "UNDERLAY", "Plan", "PlannedPort", "Step", "plan"]

PORT: Final = "eth0"
"""The interface by which every node, workload and external is reached."""
UNDERLAY: Final = ""
"""Names the underlay among the hosts; no end of a topology has an empty name."""

MTU: Final = 1500
# The host's side of a workload's wire, as Calico has it; nobody ever asks whose it is.
_GATEWAY_MAC: Final = bytes.fromhex("eeeeeeeeeeee")
# The first two bytes of every other address: locally administered (IEEE 802), then the interface's index.
_LOCAL_MAC: Final = bytes.fromhex("0200")
# Wires between two workloads of one node.
_INSIDE_A_NODE: Final = 2
# What ends send to (Calico's address), and what the underlay sends to for a node's workloads.
_GATEWAYS: Final[dict[int, Address]] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
_NODE_SIDE: Final[dict[int, Address]] = {4: IPv4Address("169.254.1.2"), 6: IPv6Address("fe80::2")}


@dataclass(frozen=True, slots=True)
class Step:
    """What is made in one host in one go: first the wires, then the rest."""

    host: str
    wires: tuple[Wire, ...]
    deeds: tuple[Deed, ...]


@dataclass(frozen=True, slots=True)
class PlannedPort:
    """The ``eth0`` of an end and the side it is reached from."""

    near: Interface
    far: Interface
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab on paper. ``routers`` forward, ``ends`` do not; steps are in the order in which they can be taken.

    ``taps`` are what machines hang on, in the underlay, by their names; ``homes`` says which hosts are on a machine.
    """

    routers: tuple[str, ...]
    ends: tuple[str, ...]
    steps: tuple[Step, ...]
    ports: Mapping[str, PlannedPort]
    longest_path: int
    taps: Mapping[str, Interface]
    homes: Mapping[str, str]

    def share(self, machine: str = "") -> Plan:
        """What of it is to be made on a machine; without a name, what is to be made in this kernel."""

        def here(host: str) -> bool:
            return self.homes.get(host, "") == machine

        return replace(
            self,
            routers=tuple(filter(here, self.routers)),
            ends=tuple(filter(here, self.ends)),
            steps=tuple(step for step in self.steps if here(step.host)),
            taps={} if machine else self.taps,
        )


def plan(topology: Topology) -> Plan:
    """Lay a topology out; raises TopologyError for what a machine cannot have."""
    machines = {node.name for node in topology.nodes.values() if node.kind == "machine"}
    for link in topology.links:
        for name in machines.intersection(link.between):
            raise TopologyError(
                f"the node {name} is a machine: it has the wire to the underlay and no other",
                place=link.place,
                value=f"a link between {' and '.join(link.between)}",
                next_step=f"leave the link away, or make {name} a namespace or a container",
            )
    for workload in topology.workloads.values():
        if workload.sidecar and workload.node in machines:
            raise TopologyError(
                f"the workload {workload.name} is on a machine: sidecars run in this host's kernel only",
                place=workload.place,
                value=f"sidecar: {workload.sidecar}",
                next_step=f"leave the sidecar away, or make {workload.node} a namespace or a container",
            )
    return _Planner(topology, machines).plan()


@dataclass(slots=True)
class _Planner:
    """Takes down what each host has to be told; ``wires`` and ``deeds`` are keyed by host."""

    topology: Topology
    machines: Collection[str]
    taps: dict[str, Interface] = field(default_factory=dict)
    ports: dict[str, PlannedPort] = field(default_factory=dict)
    indexes: Iterator[int] = field(default_factory=lambda: count(FIRST_INDEX))
    wires: dict[str, list[Wire]] = field(default_factory=lambda: defaultdict(list))
    deeds: dict[str, list[Deed]] = field(default_factory=lambda: defaultdict(list))

    def plan(self) -> Plan:
        topology = self.topology
        ends = (*topology.workloads, *topology.externals)
        for host in (UNDERLAY, *topology.nodes, *ends):
            self.deeds[host].append(Up(LOOPBACK))
        for node in topology.nodes.values():
            self._hang(node, UNDERLAY, f"node{len(self.ports)}")
        for external in topology.externals.values():
            self._hang(external, UNDERLAY, f"port{len(self.ports)}")
        for workload in topology.workloads.values():
            self._hang(workload, workload.node, workload.interface)
            self._route_by_node(workload, self.ports[workload.node].far.ifindex)
        # The far end of a wire is told things only after the near one's host has made it.
        steps = [self._step(host) for host in (*ends, *topology.nodes, UNDERLAY)]
        return Plan(
            routers=(UNDERLAY, *topology.nodes),
            ends=ends,
            steps=(*steps, *self._link_steps()),
            ports=self.ports,
            longest_path=_longest_path(topology),
            taps=self.taps,
            homes=self._homes(),
        )

    def _homes(self) -> dict[str, str]:
        workloads = self.topology.workloads.values()
        homes = {each.name: each.node for each in workloads if each.node in self.machines}
        return homes | {name: name for name in self.machines}

    def _step(self, host: str) -> Step:
        return Step(host, tuple(self.wires[host]), tuple(self.deeds[host]))

    def _hang(self, end: End, router: str, interface: str) -> None:
        """Give an end its wire to a router, its addresses, and the one way out; tell the router of it."""
        near, far = self._index(end.name, PORT), self._index(router, interface, _GATEWAY_MAC)
        port = self.ports[end.name] = PlannedPort(near, far, end.addresses)
        own, routers = self.deeds[end.name], self.deeds[router]
        if end.name in self.machines:
            self.taps[end.name] = far
            own.append(Up(near.ifindex))
        else:
            self.wires[end.name].append(Wire(near, far, MTU))
        own.extend(OwnAddress(near.ifindex, address) for address in port.addresses)
        for version in sorted({address.version for address in port.addresses}):
            own.append(Neighbour(near.ifindex, _GATEWAYS[version], far.mac))
            own.append(Route(near.ifindex, None, _GATEWAYS[version]))
        routers.append(Up(far.ifindex))
        for address in port.addresses:
            routers.append(Neighbour(far.ifindex, address, near.mac))
            routers.append(Route(far.ifindex, address))
        if isinstance(end, Node):
            routers.extend(Neighbour(far.ifindex, gateway, near.mac) for gateway in _NODE_SIDE.values())

    def _route_by_node(self, workload: Workload, index: int) -> None:
        """Tell the underlay behind which node's port a workload is."""
        routes = (Route(index, address, _NODE_SIDE[address.version]) for address in workload.addresses)
        self.deeds[UNDERLAY].extend(routes)

    def _link_steps(self) -> Iterator[Step]:
        """Make the topology's extra wires: up at both ends, without addresses."""
        for link in self.topology.links:
            near, far = (self._index(host, link.interface) for host in link.between)
            yield Step(near.host, (Wire(near, far, link.mtu or MTU),), ())
            yield Step(far.host, (), (Up(far.ifindex),))

    def _index(self, host: str, interface: str, mac: bytes | None = None) -> Interface:
        index = next(self.indexes)
        return Interface(host, interface, index, mac or _LOCAL_MAC + index.to_bytes(4, "big"))


def _longest_path(topology: Topology) -> int:
    """How many wires lie between the two ends that are farthest apart."""
    to_underlay = dict.fromkeys(topology.nodes, 1) | {each.node: 2 for each in topology.workloads.values()}
    branches = sorted([*to_underlay.values(), *(1 for _ in topology.externals)], reverse=True)
    return max(sum(branches[:2]), _INSIDE_A_NODE if topology.workloads else 0)
