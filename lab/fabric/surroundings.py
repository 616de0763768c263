# SPDX-License-Identifier: Apache-2.0
"""What a node knows of the sockets around it: its workloads' namespaces, and the cgroup of the lab's programs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from lab.errors import HostError
from lab.fabric.bpf import BpfLink, BpfMap, BpfProgram, attach_cgroup, attach_sockets

__all__ = ["Surroundings"]

# SO_NETNS_COOKIE (asm-generic/socket.h, Linux 5.14); Python does not know it yet.
_NETNS_COOKIE: Final = 71


class _Host(Protocol):
    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Workloads by name; ``cgroup`` gives the directory of the lab's cgroup, or None on a host without them."""

    workloads: Mapping[str, _Host] = field(default_factory=dict)
    cgroup: Callable[[], Path | None] = lambda: None

    def attach(self, join: BpfProgram, send: BpfProgram, sockets: BpfMap) -> BpfLink:
        """Attach ``send`` to the sockets of the map and ``join`` to the cgroup; raises HostError or BpfError."""
        cgroup = self.cgroup()
        if cgroup is None:
            raise HostError(
                "this host has no cgroup v2 in which the lab may have one of its own",
                next_step="mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or run without the accelerator",
            )
        attach_sockets(send, sockets)
        descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return attach_cgroup(join, descriptor)
        finally:
            os.close(descriptor)

    def cookies(self) -> Mapping[str, int]:
        """The number that the kernel gives each workload's namespace, and no other as long as it runs."""
        return {name: _cookie(host) for name, host in self.workloads.items()}


def _cookie(host: _Host) -> int:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8), "little")
        except OSError as error:
            raise HostError(
                f"this kernel numbers no network namespaces: {error.strerror}", next_step="use Linux 5.14 or newer"
            ) from error
