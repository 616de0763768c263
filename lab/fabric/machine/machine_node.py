# SPDX-License-Identifier: Apache-2.0
"""A host of the lab that is in another kernel: a node that is a machine, or a workload that runs on it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from lab.errors import HostError
from lab.fabric.machine import agent
from lab.fabric.machine.far import Far, FarObject
from lab.fabric.namespace import Result
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.node import Completed

__all__ = ["MachineNode"]


class MachineNode(NamespaceNode):
    """What is asked of it is done on its machine; what needs a descriptor can only be had there.

    As an argument of something that is made on the machine (``far.make``) it is the host there.
    """

    def __init__(self, name: str, far: Far, part: FarObject) -> None:
        super().__init__(name, -1)
        self.far = far
        self._part = part

    def __repr__(self) -> str:
        return f"MachineNode({self.name!r})"

    def __reduce__(self) -> tuple[Callable[[str], agent.Host], tuple[str]]:
        return agent.host_of, (self.name,)

    @property
    def descriptor(self) -> int:
        """Not to be had here: the namespace is in another kernel."""
        raise self._elsewhere("its network namespace")

    def inside(self, work: Callable[[], Result]) -> Result:  # noqa: ARG002 - the signature of a Node
        """Not to be had here: raises HostError."""
        raise self._elsewhere("its network namespace")

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0) -> Completed:
        """Run a command in the host and wait for its end, whatever its exit status; raises HostError."""
        done: Completed = self._part.run(self.name, tuple(argv), stdin, timeout)
        return done

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:  # noqa: ARG002
        """Not to be had here: raises HostError."""
        raise self._elsewhere("a socket")

    def write_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl of the host's network by its dotted name under ``net``."""
        self._part.write_sysctl(self.name, name, value)

    def interfaces(self) -> tuple[dict[str, Any], ...]:
        """The interfaces as the kernel there tells them."""
        return self._told("interfaces")

    def addresses(self) -> tuple[dict[str, Any], ...]:
        """The addresses of all interfaces."""
        return self._told("addresses")

    def routes(self) -> tuple[dict[str, Any], ...]:
        """The routes of all tables."""
        return self._told("routes")

    def neighbours(self) -> tuple[dict[str, Any], ...]:
        """Who is known to be behind which interface."""
        return self._told("neighbours")

    def _told(self, what: str) -> tuple[dict[str, Any], ...]:
        told: tuple[dict[str, Any], ...] = self._part.read(self.name, what)
        return told

    def _elsewhere(self, what: str) -> HostError:
        return HostError(
            f"{what} cannot be had of {self.name}: it is in the kernel of another machine",
            next_step="make what needs it on the machine (MachineNode.far), or use a namespace or a container",
        )
