# SPDX-License-Identifier: Apache-2.0
"""A host of the lab that is a network namespace of this machine."""

from __future__ import annotations

import socket as sockets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from lab.errors import HostError
from lab.fabric.namespaces import Traveller
from lab.fabric.node import Completed

__all__ = ["NamespaceNode"]

_SYSCTLS: Final = Path("/proc/sys/net")

Result = TypeVar("Result")


class NamespaceNode:
    """Fulfils ``lab.fabric.node.Node``; lives as long as the lab that made it."""

    def __init__(self, name: str, traveller: Traveller, namespace: int) -> None:
        self._name = name
        self._traveller = traveller
        self._namespace = namespace

    def __repr__(self) -> str:
        return f"<host {self._name}>"

    @property
    def name(self) -> str:
        """The name that the topology gives it."""
        return self._name

    @property
    def namespace(self) -> int:
        """The descriptor that holds the namespace, for netlink messages that name one."""
        return self._namespace

    def within(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` in a thread that is inside the namespace."""
        return self._traveller.within(self._namespace, work)

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0) -> Completed:
        """Run a command in the host; see ``Node.run``."""
        try:
            # Only the spawn is done inside: the child stays there, and the wait for it blocks nobody else.
            process = self.within(lambda: _spawn(argv))
        except FileNotFoundError as error:
            raise HostError(
                f"{argv[0]} is not installed",
                place=f"node {self._name}",
                next_step="see `policylab doctor` for the package that has it",
            ) from error
        try:
            out, err = process.communicate(stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise HostError(
                f"{argv[0]} did not end within {timeout:g} s", place=f"node {self._name}", value=" ".join(argv)
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                process.communicate()
        return Completed(tuple(argv), process.returncode, _text(out), _text(err))

    def socket(self, family: int, kind: int, protocol: int = 0) -> sockets.socket:
        """Open a socket in the host; it stays there whoever uses it."""
        return self.within(lambda: sockets.socket(family, kind, protocol))

    def write_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl below ``net`` by its dotted name, e.g. ``ipv4.ip_forward``."""
        file = _SYSCTLS.joinpath(*name.split("."))
        try:
            self.within(lambda: file.write_text(value))
        except OSError as error:
            raise HostError(
                "the kernel refused a sysctl", place=f"node {self._name}", value=f"net.{name}={value}: {error.strerror}"
            ) from error

    def read(self, question: Callable[[Any], Result]) -> Result:
        """Ask pyroute2: ``question`` gets an IPRoute of this host; for tests and reports, not for hot paths."""
        from pyroute2 import IPRoute

        def ask() -> Result:
            with IPRoute() as route:
                return question(route)

        return self.within(ask)

    def interfaces(self) -> Mapping[str, Mapping[str, Any]]:
        """Interfaces by name, each with ``index``, ``address`` (MAC), ``mtu``, ``up`` and ``state``."""
        return self.read(
            lambda route: {
                link.get("ifname"): {
                    "index": link["index"],
                    "address": link.get("address"),
                    "mtu": link.get("mtu"),
                    "up": bool(link["flags"] & 1),
                    "state": link.get("operstate"),
                }
                for link in route.get_links()
            }
        )


def _spawn(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
