# SPDX-License-Identifier: Apache-2.0
"""A node on which a plugin's work fails midway: what the kernel or an administrator may do to it on a bad day."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, Final

from dataplanes.api import BpfError, Completed, Node

__all__ = ["FailingNode"]

_KILLED: Final = -signal.SIGKILL
# The command waits for the rest of what it is to read, which never comes: no end of file, which would be the end.
_HALFWAY: Final = 'n=$1; shift; { head -c "$n"; sleep 0.8; } | timeout -s KILL 0.4 "$@"'
_OF_BPF = frozenset({"load_bpf", "attach_xdp", "attach_sockets"})


class FailingNode:
    """A node as plugins see it, of which one request fails once ``fail_at`` has said which.

    A command is killed when it has taken in half of the lines that it was given, or when it has done all its work and
    not told so; a socket cannot be had, and a BPF program cannot be loaded or attached.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._left: int | None = None
        self._late = False
        self.failed: str | None = None
        """What has failed since ``fail_at``."""

    def fail_at(self, number: int, *, late: bool) -> None:
        """From now on the request of this number fails, counted from 1; if it is a command, ``late`` or midway."""
        self._left, self._late, self.failed = number, late, None

    def fail_no_more(self) -> None:
        """All requests succeed that can."""
        self._left = None

    @property
    def name(self) -> str:
        """The name that the topology gives it."""
        return self._node.name

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0) -> Completed:
        """Run a command, and kill it if it is the one."""
        if not self._is_next(" ".join(argv)):
            return self._node.run(argv, stdin=stdin, timeout=timeout)
        if self._late:
            self._node.run(argv, stdin=stdin, timeout=timeout)
        elif stdin:
            lines = stdin.splitlines(keepends=True)
            taken = len("".join(lines[: len(lines) // 2]).encode())
            self._node.run(("sh", "-c", _HALFWAY, "sh", str(taken), *argv), stdin=stdin, timeout=timeout)
        return Completed(tuple(argv), _KILLED, "", "")

    def nft(self, commands: str) -> Completed:
        """Have commands of nftables carried out, and not told so if it is the one; midway there is none of them."""
        if not self._is_next("nft()"):
            return self._node.nft(commands)
        if self._late:
            self._node.nft(commands)
        return Completed(("nft",), _KILLED, "", "")

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket, or raise OSError as when there are too many."""
        if self._is_next("socket()"):
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return self._node.socket(family, kind, protocol)

    def start(self, argv: Sequence[str], descriptors: tuple[int, int]) -> Any:
        """Start a program; what that does by itself is out of reach."""
        return self._node.start(argv, descriptors)

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._node, name)
        if name in _OF_BPF and self._is_next(f"{name}()"):
            raise BpfError("the kernel refuses it", place=f"node {self.name}", value=name)
        return asked

    def _is_next(self, what: str) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        if self._left != 0:
            return False
        self._left, self.failed = None, what
        return True
