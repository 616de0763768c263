# SPDX-License-Identifier: Apache-2.0
"""A topology brought to life: real namespaces, held by descriptors alone, gone when they are closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from lab.fabric.barrier import Barrier
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.part import Part
from lab.fabric.plan import UNDERLAY, PlannedPort, plan
from lab.fabric.programs import Programs
from lab.fabric.surroundings import Surroundings
from lab.fabric.tunnels import lay_tunnels
from lab.topology import Address, Topology

if TYPE_CHECKING:
    from lab.fabric.container_node import ContainerNode
    from lab.fabric.machine.machines import MachinePart

__all__ = ["EndPort", "Lab"]


@dataclass(frozen=True, slots=True)
class EndPort:
    """Where an end's frames go in and come out, and what they are addressed to.

    Attributes:
        host: the workload or external.
        interface: its interface's name, ``eth0``.
        ifindex: the index of that interface in the host.
        mac: the interface's own address, 6 bytes.
        gateway_mac: whom it sends everything to, 6 bytes.
        addresses: its IPv4 and IPv6 addresses.
    """

    host: NamespaceNode
    interface: str
    ifindex: int
    mac: bytes
    gateway_mac: bytes
    addresses: tuple[Address, ...]


class Lab:
    """A context manager that brings a topology up and owns everything that it made.

    Entering raises HostError when the host cannot hold the lab (not root, no namespaces, too few descriptors);
    then nothing is left. Making one raises TopologyError for what a machine cannot have.

    Attributes (while it is up):
        nodes: the topology's nodes by name.
        hosts: every end by name: nodes, workloads and externals.
        ports: where frames of workloads and externals go in and come out, by name.
        underlay: the router that joins nodes and externals.
        barrier: proves that all packets sent before have come to their end.
        longest_path: veths between the two ends that are farthest apart.
    """

    nodes: Mapping[str, NamespaceNode]
    hosts: Mapping[str, NamespaceNode]
    ports: Mapping[str, EndPort]
    underlay: NamespaceNode
    barrier: Barrier

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._plan = plan(topology)
        self._stack = ExitStack()
        self._programs: Programs | None = None
        self.longest_path = self._plan.longest_path

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._part = Part(self._plan.share(), stack, self._containers())
            self._machines = self._start_machines()
            self._stack = stack.pop_all()
        hosts = dict(self._part.hosts)
        self.underlay = hosts.pop(UNDERLAY)
        for machine in self._machines:
            hosts |= machine.hosts
        self.hosts = MappingProxyType(hosts)
        self.nodes = MappingProxyType({name: hosts[name] for name in self.topology.nodes})
        self.ports = MappingProxyType(
            {name: _end_port(hosts[name], self._plan.ports[name]) for name in self._plan.ends}
        )
        self.barrier = self._part.barrier
        for name, node in self.nodes.items():
            own = [each.name for each in self.topology.workloads.values() if each.node == name]
            node.surroundings = Surroundings({workload: hosts[workload] for workload in own}, self._cgroup)
        try:
            lay_tunnels(self.topology, self.nodes)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _containers(self) -> dict[str, ContainerNode]:
        """Start the nodes that are containers."""
        names = [node.name for node in self.topology.nodes.values() if node.kind == "container"]
        if not names:
            return {}
        # Not needed, nor imported, where all nodes are namespaces.
        from lab.fabric.containers import start_containers

        return start_containers(names, self.programs, self._stack)

    def _start_machines(self) -> Sequence[MachinePart]:
        """Start the nodes that are machines, and have them make their part of the lab."""
        if not self._plan.taps:
            return ()
        from lab.fabric.machine.machines import start_machines

        return start_machines(self.topology, self._plan, self._part, self.programs, self._stack)

    def _parts(self) -> tuple[Part | MachinePart, ...]:
        """What of the lab is in each kernel, this one first."""
        return self._part, *self._machines

    @property
    def programs(self) -> Programs:
        """Starts programs that run on in the lab's hosts, in a cgroup of the lab's own, made when first asked for.

        Raises HostError when there can be none.
        """
        if self._programs is None:
            self._programs = Programs()
            self._stack.callback(self._programs.close)
        return self._programs

    def _cgroup(self) -> Path | None:
        return self.programs.cgroup

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Make every workload and external deaf: its own stack takes nothing, AF_PACKET on its ``eth0`` sees all.

        Frames reach it under a MAC address that is not its own, so its stack neither answers nor resets, and the
        lab can play both sides. Nodes are not muted.
        """
        with ExitStack() as muted:
            for part in self._parts():
                muted.callback(part.unmute)
                part.mute()
            yield

    @contextmanager
    def unmuted(self) -> Iterator[None]:
        """Let workloads and externals hear for a while, inside of ``mute``: for what needs their own stacks."""
        with ExitStack() as heard:
            for part in self._parts():
                heard.callback(part.mute)
                part.unmute()
            yield

    def upstream(self, name: str) -> EndPort:
        """The other end of a host's ``eth0``, in the router that it hangs on: what is sent there comes to the host."""
        port = self._plan.ports[name]
        router = self.underlay if port.far.host == UNDERLAY else self.nodes[port.far.host]
        far = port.far
        return EndPort(router, far.name, far.ifindex, far.mac, port.near.mac, port.addresses)

    def flush_conntrack(self) -> None:
        """Empty conntrack in all nodes."""
        for part in self._parts():
            part.flush_conntrack()

    def settle(self) -> bool:
        """Wait until every packet that this thread has sent has come to its end, whichever kernel that is in.

        The thread must have stayed on its CPU since it sent them. False: that could not be proven.
        """
        hops = self.longest_path + 1
        if not self._machines:
            return self.barrier.wait(hops)
        from lab.fabric.machine.crossing import settle_all

        return settle_all(self.barrier, self._machines, hops)

    def losses(self) -> Mapping[str, int]:
        """Packets that were dropped between this kernel and machines so far, by where."""
        return {f"the wire to {machine.name}": machine.lost() for machine in self._machines}


def _end_port(host: NamespaceNode, port: PlannedPort) -> EndPort:
    near = port.near
    return EndPort(host, near.name, near.ifindex, near.mac, port.far.mac, port.addresses)
