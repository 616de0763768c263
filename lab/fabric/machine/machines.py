# SPDX-License-Identifier: Apache-2.0
"""The machines of a lab: started together, each wired to the underlay, each making its own part of the lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

from lab.fabric.machine.acceleration import accelerator
from lab.fabric.machine.emulator import Hardware, Machine, Network, start_machine
from lab.fabric.machine.far import Far, FarObject
from lab.fabric.machine.far_part import FarPart
from lab.fabric.machine.kernels import DEFAULT, get_kernel
from lab.fabric.machine.machine_node import MachineNode
from lab.fabric.machine.marker import Markers
from lab.fabric.machine.ssh import make_keys
from lab.fabric.namespace import aside, in_namespace, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.part import Part
from lab.fabric.plan import UNDERLAY, Plan
from lab.fabric.programs import Programs
from lab.topology import Topology

__all__ = ["MachinePart", "start_machines"]

_DROPPED_FIELD = 11
"""Of a line of /proc/net/dev, behind the name: packets that were to be sent and had no room."""


class MachinePart:
    """What of a lab is on one machine, and the wire that leads there."""

    def __init__(
        self, machine: Machine, far: Far, part: FarObject, wire: Markers, tap: tuple[NamespaceNode, str]
    ) -> None:
        self.name = machine.name
        self.machine = machine
        self.far = far
        self._part = part
        self._wire = wire
        self._underlay, self._tap = tap
        self._numbers = count(1)
        self.hosts: Mapping[str, MachineNode] = {}

    def take_hosts(self, names: tuple[str, ...]) -> None:
        """Say which hosts are there."""
        self.hosts = {name: MachineNode(name, self.far, self._part) for name in names}

    def mute(self) -> None:
        """Make the workloads there deaf."""
        self._part.mute()

    def unmute(self) -> None:
        """Let them hear again."""
        self._part.unmute()

    def flush_conntrack(self) -> None:
        """Empty conntrack there."""
        self._part.flush_conntrack()

    def wait_outward(self, hops: int) -> bool:
        """Wait until what was sent there before has died, arrived, or come to the tap in this kernel."""
        number = next(self._numbers)
        return bool(self._part.settle_and_mark(number, hops)) and self._wire.wait(number)

    def wait_inward(self, hops: int) -> bool:
        """Wait until what was sent to the machine before has died or arrived there."""
        number = next(self._numbers)
        self._wire.send(number)
        return bool(self._part.await_mark_and_settle(number, hops))

    def lost(self) -> int:
        """Packets for which the tap had no room, since it was made."""

        def read() -> int:
            text = Path("/proc/thread-self/net/dev").read_text(encoding="ascii")
            lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            return next(int(rest.split()[_DROPPED_FIELD]) for name, rest in lines.items() if name.strip() == self._tap)

        return in_namespace(self._underlay.descriptor, read)


def start_machines(
    topology: Topology, plan: Plan, part: Part, programs: Programs, stack: ExitStack
) -> tuple[MachinePart, ...]:
    """Start every machine of a topology and have it make its part; raises HostError. All end with ``programs``."""
    kernels = {name: get_kernel(topology.nodes[name].kernel or DEFAULT) for name in plan.taps}
    make_keys(programs.directory)
    namespace = aside(new_namespace)
    stack.callback(os.close, namespace)
    outside = NamespaceNode("the emulators", namespace)
    accelerated = accelerator(programs, outside, next(iter(kernels.values())))
    machines = []
    for name, kernel in kernels.items():
        network = Network(part.taps[name], plan.ports[name].near.mac)
        machines.append(start_machine(programs, outside, name, Hardware(kernel, accelerated, network)))
    with ThreadPoolExecutor(len(machines)) as waiting:
        return tuple(waiting.map(partial(_join, topology, plan, part.hosts[UNDERLAY], stack), machines))


def _join(topology: Topology, plan: Plan, underlay: NamespaceNode, stack: ExitStack, machine: Machine) -> MachinePart:
    machine.wait_until_ready()
    far = Far(machine.name, machine.ssh_config, sys.executable, "/", machine.trouble)
    stack.callback(far.close)
    made = far.make(FarPart, topology, machine.name)
    port = plan.ports[machine.name]
    wire = Markers(underlay, port.far.name, port.near.mac, port.far.mac)
    stack.callback(wire.close)
    joined = MachinePart(machine, far, made, wire, (underlay, port.far.name))
    here = plan.share(machine.name)
    joined.take_hosts((*here.routers, *here.ends))
    return joined
