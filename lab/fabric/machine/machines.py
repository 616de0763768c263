# SPDX-License-Identifier: Apache-2.0
"""The machines of a lab: started together, each wired to the underlay, each making its own part of the lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from lab.fabric.machine import wire
from lab.fabric.machine.acceleration import accelerator
from lab.fabric.machine.emulator import Hardware, Machine, Network, start_machine
from lab.fabric.machine.far import Far, FarObject
from lab.fabric.machine.far_part import FarPart, GuestPart
from lab.fabric.machine.guests import PYTHON, Guest, find_guests
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

WIRE_SECONDS = 120.0
"""For the other end of a wire through ssh; an emulated machine takes some seconds, on a busy host a minute."""
_DROPPED_FIELD = 11
"""Of a line of /proc/net/dev, behind the name: packets that were to be sent and had no room."""


class MachinePart:
    """What of a lab is on one machine, and the wire that leads there."""

    def __init__(self, far: Far, part: FarObject, wire: Markers, tap: tuple[NamespaceNode, str]) -> None:
        self.name = far.name
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
    """Start or reach every machine of a topology and have it make its part; raises HostError.

    Those that are started end with ``programs``; those that are reached are left as they were.
    """
    joining = _Joining(topology, plan, part, programs, stack)
    own = {name: node.kernel or DEFAULT for name in plan.taps if not (node := topology.nodes[name]).ssh}
    with ThreadPoolExecutor(len(plan.taps)) as waiting:
        guests = find_guests(topology, programs.directory)
        joined = [waiting.submit(joining.reached, guest) for guest in guests]
        joined += [waiting.submit(joining.started, machine) for machine in (joining.start(own) if own else ())]
        return tuple(each.result() for each in joined)


@dataclass(frozen=True, slots=True)
class _Joining:
    """How a machine becomes a part of the lab."""

    topology: Topology
    plan: Plan
    part: Part
    programs: Programs
    stack: ExitStack

    def start(self, names: Mapping[str, str]) -> list[Machine]:
        """Start machines with these kernels."""
        kernels = {name: get_kernel(kernel) for name, kernel in names.items()}
        make_keys(self.programs.directory)
        namespace = aside(new_namespace)
        self.stack.callback(os.close, namespace)
        outside = NamespaceNode("the emulators", namespace)
        accelerated = accelerator(self.programs, outside, next(iter(kernels.values())))
        machines = []
        for name, kernel in kernels.items():
            network = Network(self.part.taps[name], self.plan.ports[name].near.mac)
            machines.append(start_machine(self.programs, outside, name, Hardware(kernel, accelerated, network)))
        return machines

    def started(self, machine: Machine) -> MachinePart:
        """Have a machine of ours make its part."""
        machine.wait_until_ready()
        far = Far(machine.name, machine.ssh_config, sys.executable, machine.trouble, is_node=True)
        self.stack.callback(far.close)
        return self._joined(far, far.make(FarPart, self.topology, machine.name))

    def reached(self, guest: Guest) -> MachinePart:
        """Have another's machine make its part, and lay the wire that leads there."""
        guest.check()
        far = Far(guest.name, guest.ssh_config, PYTHON, guest.trouble, is_node=False)
        self.stack.callback(far.close)
        made = far.make(GuestPart, self.topology, guest.name)
        tap = self.part.taps[guest.name]
        # A connection of its own: a batch of frames must not wait for a snapshot.
        there = guest.ssh(PYTHON, *made.wire_words(), options=("-S", "none"))
        words = [sys.executable, "-I", "-S", wire.__file__, "near", str(tap), *there]
        outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.stack.callback(os.close, outside)
        self.programs.start(NamespaceNode("this host", outside), words, descriptors=(tap,))
        if not made.await_wire(WIRE_SECONDS):
            raise guest.trouble(f"did not take up the wire to the underlay within {WIRE_SECONDS:g} s")
        return self._joined(far, made)

    def _joined(self, far: Far, made: FarObject) -> MachinePart:
        underlay, port = self.part.hosts[UNDERLAY], self.plan.ports[far.name]
        markers = Markers(underlay, port.far.name, port.near.mac, port.far.mac)
        self.stack.callback(markers.close)
        joined = MachinePart(far, made, markers, (underlay, port.far.name))
        here = self.plan.share(far.name)
        joined.take_hosts((*here.routers, *here.ends))
        return joined
