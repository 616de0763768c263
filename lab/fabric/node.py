# SPDX-License-Identifier: Apache-2.0
"""What the code above the fabric knows of a host of the lab, whichever kind it is."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from lab.fabric.bpf import (
    BpfLink,
    BpfMap,
    BpfObject,
    BpfProgram,
    BpfSource,
    Constants,
    ProgramKind,
    XdpLink,
    XdpMode,
)

__all__ = ["Completed", "Node"]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended; both outputs are text, undecodable bytes replaced."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class Node(Protocol):
    """One host of the lab: a node, a workload or an external."""

    @property
    def name(self) -> str:
        """The name that the topology gives it."""
        ...

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0) -> Completed:
        """Run a command in the host and wait for its end, whatever its exit status.

        Raises HostError when the command is not installed or runs longer than ``timeout`` seconds.
        """
        ...

    def nft(self, commands: str) -> Completed:
        """Put commands of nftables in force in the host, all at once or none, as ``nft -j -f -`` does, but sooner.

        ``commands`` is JSON (libnftables-json(5)). Raises HostError when libnftables is not installed.
        """
        ...

    def start(self, argv: Sequence[str], descriptors: tuple[int, int]) -> subprocess.Popen[bytes]:
        """Start a command in the host that runs on; two descriptors of ours are its 3 and 4.

        It is killed when the ``stdin`` of what is returned is closed, which also happens when this process ends in
        whatever way. Its outputs are ours. Raises HostError when the command is not installed.
        """
        ...

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket in the host; it stays there whoever uses it."""
        ...

    def write_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl of the host's network by its dotted name under ``net``, e.g. ``ipv4.ip_forward``."""
        ...

    def load_bpf(
        self,
        source: BpfSource,
        kinds: Mapping[str, ProgramKind],
        *,
        sizes: Mapping[str, int] = MappingProxyType({}),
        shared: Mapping[str, BpfMap] = MappingProxyType({}),
        constants: Constants = MappingProxyType({}),
    ) -> BpfObject:
        """Load BPF programs of a C file, each of the kind that ``kinds`` says, with the maps that they declare.

        ``sizes`` says how many entries a map has, ``shared`` gives maps of another object, ``constants`` what programs
        leave open. Raises BpfError when a program does not compile or load, HostError when bcc or kernel headers are
        missing.
        """
        ...

    def attach_xdp(self, program: BpfProgram, interface: str, mode: XdpMode | None = None) -> XdpLink:
        """Attach an XDP program to an interface: natively, else generically; or only in ``mode``.

        It is at work until the link is closed. Raises BpfError, also when the interface has another's program already.
        """
        ...

    def attach_sockets(self, join: BpfProgram, send: BpfProgram, sockets: BpfMap) -> BpfLink:
        """Have ``join`` (sock_ops) told of all sockets of the lab's programs, and ``send`` (sk_msg) of what is sent.

        The first is at work until the link is closed; the second on sockets that are in the map, as long as there is a
        map. Raises HostError when the host has no cgroup v2, BpfError when the kernel refuses.
        """
        ...

    def workload_cookies(self) -> Mapping[str, int]:
        """The kernel's numbers of the network namespaces of the node's workloads, by workload; raises HostError."""
        ...

    def member_offsets(self, paths: Sequence[str]) -> Mapping[str, int | None]:
        """Where the node's kernel has members of its structures, each ``struct.member``; None for one it has not.

        Raises HostError when that kernel does not tell.
        """
        ...
