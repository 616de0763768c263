# SPDX-License-Identifier: Apache-2.0
"""A host of the lab that is a network namespace."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lab.errors import HostError
from lab.fabric import settings
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
    attach_xdp,
    load,
    member_offsets,
)
from lab.fabric.namespace import Result, in_namespace
from lab.fabric.nft import Nft
from lab.fabric.node import Completed
from lab.fabric.surroundings import Surroundings

if TYPE_CHECKING:
    from lab.fabric.machine.far import Far

# Runs a command to its end, or until its own standard input ends; the command has none.
_GUARDED = (
    'exec 5<&0; "$@" 5<&- </dev/null & run=$!; exec 3>&- 4>&-; { read -r _ <&5; kill -KILL $run; } & end=$!; '
    "wait $run; status=$?; kill $end; exit $status"
)
_GUARD = ("/bin/sh", "-c", _GUARDED, "policylab")
_NFT = ("nft", "-j", "-f", "-")
_PLACES = (3, 4)
"""The descriptors by which a command that runs on is talked to."""

__all__ = ["PATIENCE_VARIABLE", "NamespaceNode", "spawn", "tool_path"]

PATIENCE_VARIABLE: Final = "POLICYLAB_PATIENCE"
"""Set in machines, which may be emulated: how many times longer than usual a command may take."""
# Where tools for networks lie; not in every user's path.
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"


class NamespaceNode:
    """A network namespace as a Node; it lives as long as the lab that made it.

    ``far`` is None, but for hosts in the kernel of another machine: what needs a socket there is made there.
    """

    far: Far | None = None

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._nft: Nft | None = None
        self.surroundings = Surroundings()

    def __repr__(self) -> str:
        return f"NamespaceNode({self._name!r})"

    @property
    def name(self) -> str:
        """The name that the topology gives it."""
        return self._name

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the namespace, as netlink and setns(2) take it; it is the lab's."""
        return self._descriptor

    def inside(self, work: Callable[[], Result]) -> Result:
        """Do work in the namespace, in a thread of its own; what it opens there stays there."""
        return in_namespace(self._descriptor, work)

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0) -> Completed:
        """Run a command in the namespace and wait for its end, whatever its exit status.

        Raises HostError when the command is not installed or runs longer than ``timeout`` seconds, or as many times
        longer as PATIENCE_VARIABLE says.
        """
        timeout *= float(os.environ.get(PATIENCE_VARIABLE, "1"))
        process = self._spawn(argv)
        with process:
            try:
                output, errors = process.communicate(stdin.encode(), timeout)
            except subprocess.TimeoutExpired as expired:
                process.kill()
                raise HostError(
                    f"the command {argv[0]} in {self._name} was stopped after {timeout:g} s",
                    value=" ".join(argv),
                    next_step="run it by hand, or on a machine that is less busy",
                ) from expired
            except BaseException:
                process.kill()
                raise
        return Completed(
            tuple(argv), process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")
        )

    def nft(self, commands: str) -> Completed:
        """Put commands of nftables in force in the namespace; see ``lab.fabric.nft``."""
        self._nft = self._nft or Nft(self.inside)
        wrong = self._nft.run(commands)
        return Completed(_NFT, int(wrong is not None), "", wrong or "")

    def release(self) -> None:
        """Give back what it keeps open in the namespace; what needs it again opens it anew."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    def start(self, argv: Sequence[str], descriptors: tuple[int, int]) -> subprocess.Popen[bytes]:
        """Start a command in the namespace that runs on until the ``stdin`` of what is returned is closed."""
        return self._spawn((*_GUARD, *argv), descriptors)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket in the namespace; it stays there whoever uses it."""
        try:
            return self.inside(partial(socket.socket, family, kind, protocol))
        except OSError as error:
            step = "run 'policylab doctor' to see what this host lacks"
            raise HostError(f"no socket can be had in {self._name}: {error.strerror}", next_step=step) from error

    def write_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl of the namespace by its dotted name under ``net``, e.g. ``ipv4.ip_forward``."""
        self.inside(partial(settings.write, {name: value}))

    def load_bpf(
        self,
        source: BpfSource,
        kinds: Mapping[str, ProgramKind],
        *,
        sizes: Mapping[str, int] = MappingProxyType({}),
        shared: Mapping[str, BpfMap] = MappingProxyType({}),
        constants: Constants = MappingProxyType({}),
    ) -> BpfObject:
        """Load BPF programs of a C file, each of the kind that ``kinds`` says; see ``lab.fabric.bpf.load``."""
        return load(source, kinds, sizes=sizes, shared=shared, constants=constants)

    def attach_xdp(self, program: BpfProgram, interface: str, mode: XdpMode | None = None) -> XdpLink:
        """Attach an XDP program to an interface of the namespace; see ``lab.fabric.bpf.attach_xdp``."""
        return self.inside(partial(attach_xdp, program, interface, mode))

    def attach_sockets(self, join: BpfProgram, send: BpfProgram, sockets: BpfMap) -> BpfLink:
        """Have programs told of sockets, and of what is sent on those in the map; see ``lab.fabric.surroundings``."""
        return self.surroundings.attach(join, send, sockets)

    def workload_cookies(self) -> Mapping[str, int]:
        """The kernel's numbers of the namespaces of the node's workloads, by workload."""
        return self.surroundings.cookies()

    def member_offsets(self, paths: Sequence[str]) -> Mapping[str, int | None]:
        """Where the kernel has members of its structures; see ``lab.fabric.bpf.btf``."""
        return member_offsets(paths)

    def interfaces(self) -> tuple[dict[str, Any], ...]:
        """The interfaces as the kernel tells them: pyroute2's link messages."""
        return self._read("get_links")

    def carried(self) -> int:
        """Bytes that its interfaces have sent, loopback and all."""

        def read() -> int:
            lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()[2:]
            return sum(int(line.split(":")[1].split()[8]) for line in lines)

        return self.inside(read)

    def addresses(self) -> tuple[dict[str, Any], ...]:
        """The addresses of all interfaces: pyroute2's address messages."""
        return self._read("get_addr")

    def routes(self) -> tuple[dict[str, Any], ...]:
        """The routes of all tables: pyroute2's route messages."""
        return self._read("get_routes")

    def neighbours(self) -> tuple[dict[str, Any], ...]:
        """Who is known to be behind which interface: pyroute2's neighbour messages."""
        return self._read("get_neighbours")

    def _spawn(self, argv: Sequence[str], descriptors: tuple[int, int] | None = None) -> subprocess.Popen[bytes]:
        return self.inside(partial(spawn, argv, descriptors))

    def _read(self, what: str) -> tuple[dict[str, Any], ...]:
        def read() -> tuple[dict[str, Any], ...]:
            from pyroute2 import IPRoute

            with IPRoute() as route:
                return tuple(getattr(route, what)())

        return self.inside(read)


def tool_path() -> str:
    """Where commands are looked for: the user's path, and behind it the system's."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"


def spawn(argv: Sequence[str], descriptors: tuple[int, int] | None = None) -> subprocess.Popen[bytes]:
    """Start a command in this thread's namespaces; raises HostError when it is not there.

    With ``descriptors`` those two of ours are its 3 and 4, and its outputs are ours.
    """
    environment = os.environ | {"PATH": tool_path()}
    pipe = subprocess.PIPE
    output = pipe if descriptors is None else None
    try:
        return subprocess.Popen(
            argv,
            stdin=pipe,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            pass_fds=() if descriptors is None else _PLACES,
            preexec_fn=None if descriptors is None else partial(_place, descriptors),  # noqa: PLW1509 - it only dups
        )
    except FileNotFoundError as missing:
        raise HostError(
            f"the command {argv[0]} is not installed", next_step="run 'policylab doctor': it names what to install"
        ) from missing
    except OSError as error:
        raise HostError(f"the command {argv[0]} does not start: {error.strerror}", value=" ".join(argv)) from error


def _place(descriptors: tuple[int, int]) -> None:
    """Give two descriptors the numbers that the command knows them by, whatever has those numbers now."""
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD, max(_PLACES) + 1) for each in descriptors]
    for number, each in zip(_PLACES, aside, strict=True):
        os.dup2(each, number)
