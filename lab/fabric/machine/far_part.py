# SPDX-License-Identifier: Apache-2.0
"""A machine's part of a lab, made in the machine itself: it is one node, with the workloads that run on it.

The node of a machine of ours is its own network namespace, its ``eth0`` the machine's card, wired outside to the
underlay. A machine that is somebody else's and reached by ssh keeps its network to itself: the node is a namespace
there, its ``eth0`` a tap, and ssh carries what goes in and out of it (``lab.fabric.machine.wire``).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fcntl import ioctl
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from lab.errors import HostError
from lab.fabric import settings
from lab.fabric.identity import PREFIX, new_identity
from lab.fabric.machine import agent, wire
from lab.fabric.machine.marker import Markers
from lab.fabric.messages import FIRST_INDEX
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.part import Part
from lab.fabric.plan import PORT, Plan, PlannedPort, plan
from lab.fabric.programs import Programs
from lab.fabric.surroundings import Surroundings
from lab.fabric.tap import open_tap
from lab.topology import Topology

__all__ = ["FarPart", "GuestPart"]

_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x0000002C
_IFREQ_POINTER: Final = struct.Struct("16sP16x")
_OF_NEW_INTERFACES: Final = ".conf.default."


class FarPart(Part):
    """Makes the part of a topology that is on this machine; it lives as long as this process."""

    def __init__(self, topology: Topology, machine: str) -> None:
        planned = plan(topology).share(machine)
        port = planned.ports[machine]
        node = self._node(machine, port)
        _prepare_card(node)
        super().__init__(_with_card(planned, node), ExitStack(), {machine: node})
        workloads = {name: host for name, host in self.hosts.items() if name != machine}
        node.surroundings = Surroundings(workloads, self._cgroup)
        self._markers = Markers(node, PORT, port.far.mac, port.near.mac)
        for host in self.hosts.values():
            agent.take_host(host)

    def _node(self, machine: str, port: PlannedPort) -> NamespaceNode:  # noqa: ARG002 - its card has its address
        """The host that the node is, with its ``eth0``."""
        return NamespaceNode(machine, os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    def _cgroup(self) -> Path | None:
        """A cgroup of the lab's own; the machine has it mounted, and goes as a whole."""
        directory = Path("/sys/fs/cgroup/policylab")
        directory.mkdir(exist_ok=True)
        return directory

    def settle_and_mark(self, number: int, hops: int) -> bool:
        """When all that was sent here before is through, send a marker after it, out of the machine."""
        settled = self.barrier.wait(hops)
        self._markers.send(number)
        return settled

    def await_mark_and_settle(self, number: int, hops: int) -> bool:
        """When a marker has come in, wait until what came before it is through as well."""
        return self._markers.wait(number) and self.barrier.wait(hops)

    def run(self, host: str, argv: Sequence[str], stdin: str, timeout: float) -> Any:
        """Run a command in a host."""
        return self.hosts[host].run(argv, stdin=stdin, timeout=timeout)

    def write_sysctl(self, host: str, name: str, value: str) -> None:
        """Set a sysctl of a host's network."""
        self.hosts[host].write_sysctl(name, value)

    def read(self, host: str, what: str) -> tuple[dict[str, Any], ...]:
        """What pyroute2 tells of a host: ``interfaces``, ``addresses``, ``routes`` or ``neighbours``."""
        return tuple(dict(each) for each in getattr(self.hosts[host], what)())


class GuestPart(FarPart):
    """The same on a machine that is somebody else's: nothing of it is left there when this process ends."""

    def _node(self, machine: str, port: PlannedPort) -> NamespaceNode:
        # All that is done for the lab is done on one CPU: so there is one backlog, and one order. Children inherit it.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self._wire_name = f"{PREFIX}{new_identity()}"
        self._wire = socket.socket(socket.AF_UNIX)
        self._wire.bind(f"\0{self._wire_name}")
        self._wire.listen(1)
        node = NamespaceNode(machine, aside(new_namespace))
        self._tap = node.inside(partial(open_tap, port.near._replace(ifindex=FIRST_INDEX - 1)))
        return node

    def wire_words(self) -> tuple[str, ...]:
        """The command by which this machine's end of the wire is run."""
        return "-I", "-S", wire.__file__, "far", self._wire_name

    def await_wire(self, seconds: float) -> bool:
        """Give the tap to that command; False when it does not come."""
        with self._wire:
            return wire.serve_tap(self._wire, self._tap, seconds)

    @cached_property
    def _programs(self) -> Programs:
        return Programs()

    def _cgroup(self) -> Path | None:
        return self._programs.cgroup


def _prepare_card(node: NamespaceNode) -> None:
    """Give the card what interfaces get that are made later, and take from it what would change packets."""
    if PORT not in {name for _, name in node.inside(socket.if_nameindex)}:
        raise HostError(
            f"the machine {node.name} has no interface {PORT}", next_step="see that its kernel has virtio_net"
        )
    of_card = {
        name.replace(_OF_NEW_INTERFACES, f".conf.{PORT}."): value
        for name, value in settings.ROUTER.items()
        if _OF_NEW_INTERFACES in name
    }
    node.inside(partial(settings.write, settings.ROUTER | of_card))
    # Packets that wait to be merged with others (GRO) could be overtaken by a marker.
    off = (ctypes.c_uint32 * 2)(_ETHTOOL_SGRO, 0)
    with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        ioctl(any_socket, _SIOCETHTOOL, _IFREQ_POINTER.pack(PORT.encode(), ctypes.addressof(off)))


def _with_card(planned: Plan, node: NamespaceNode) -> Plan:
    """The plan, with the card's own index in place of the one that an interface of ours would have."""
    near = planned.ports[node.name].near
    index = node.inside(partial(socket.if_nametoindex, PORT))
    steps = tuple(
        replace(step, deeds=tuple(d._replace(ifindex=index) if d.ifindex == near.ifindex else d for d in step.deeds))
        for step in planned.steps
    )
    return replace(planned, steps=steps)
