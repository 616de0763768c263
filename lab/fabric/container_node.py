# SPDX-License-Identifier: Apache-2.0
"""A node of the lab that is a container: its network is entered as any namespace, its commands are its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.namespace import aside, refused
from lab.fabric.namespace_node import NamespaceNode, spawn

__all__ = ["ENTERED", "ContainerNode"]

# By kind, as /proc/PID/ns names them (clone(2)); the file system comes last, for no other file is to be seen then.
ENTERED: Final = {"net": 0x40000000, "pid": 0x20000000, "ipc": 0x08000000, "uts": 0x04000000, "mnt": 0x00020000}
"""The namespaces of a container that its commands run in."""

_CLONE_FS: Final = 0x00000200
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class ContainerNode(NamespaceNode):
    """A container as a Node: sockets, sysctls and netlink are those of its network namespace."""

    def __init__(self, name: str, namespaces: Mapping[str, int], daemon: Path, ident: str) -> None:
        super().__init__(name, namespaces["net"])
        self._namespaces = dict(namespaces)
        self.daemon = daemon
        """The socket of the Docker daemon that runs it."""
        self.ident = ident
        """What that daemon calls it."""

    def __repr__(self) -> str:
        return f"ContainerNode({self.name!r})"

    def _spawn(self, argv: Sequence[str], descriptors: tuple[int, int] | None = None) -> subprocess.Popen[bytes]:
        """Start a command of the container's own file system, in all of its namespaces."""

        def start() -> subprocess.Popen[bytes]:
            self._enter()
            return spawn(argv, descriptors)

        try:
            return aside(start)
        except HostError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise HostError(
                    f"the command {argv[0]} is not in the image of container nodes",
                    place=self.name,
                    next_step="see which of the host's tools are packed: docs/design/nodes.md",
                ) from error.__cause__
            raise

    def _enter(self) -> None:
        """Move this thread to the container; it shares its file system with no other thread any more."""
        if _LIBC.unshare(_CLONE_FS):
            raise refused("to enter a container", ctypes.get_errno())
        for kind, flag in ENTERED.items():
            if _LIBC.setns(self._namespaces[kind], flag):
                raise refused(f"to enter the {kind} namespace of {self.name}", ctypes.get_errno())
        os.chdir("/")
