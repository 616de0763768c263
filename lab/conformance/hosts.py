# SPDX-License-Identifier: Apache-2.0
"""testinfra's view of a lab's nodes, by the way that fits each kind: the namespace's own, ``docker exec``, ssh."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.backend.docker import DockerBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from lab.fabric.container_node import ContainerNode
from lab.fabric.namespace_node import NamespaceNode

__all__ = ["host_of"]

COMMAND_SECONDS = 60.0


class NamespaceBackend(BaseBackend):  # type: ignore[misc]  # testinfra has no types that are found
    """Runs commands in a network namespace, here or on a machine, by the Node itself."""

    NAME = "namespace"

    def __init__(self, node: NamespaceNode) -> None:
        super().__init__(node.name)
        self._node = node

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:  # noqa: ARG002 - testinfra's signature
        """Run a command line of a shell."""
        line = self.get_command(command, *args)
        done = self._node.run(["sh", "-c", line], timeout=COMMAND_SECONDS)
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)


class ContainerBackend(DockerBackend):  # type: ignore[misc]
    """Runs commands with ``docker exec``: with what a container's own programs have, and no more."""

    def __init__(self, node: ContainerNode) -> None:
        super().__init__(node.ident)
        self._daemon = f"unix://{node.daemon}"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:  # noqa: ARG002 - testinfra's signature
        """Run a command line of a shell."""
        line = self.get_command(command, *args)
        return self.run_local("docker --host %s exec %s /bin/sh -c %s", self._daemon, self.name, line)


def host_of(node: NamespaceNode) -> Host:
    """A node as testinfra knows hosts: files, interfaces, sysctls, commands."""
    if node.far is not None and node.far.is_node:
        return Host(SshBackend(node.name, ssh_config=str(node.far.ssh_config)))
    return Host(ContainerBackend(node) if isinstance(node, ContainerNode) else NamespaceBackend(node))
