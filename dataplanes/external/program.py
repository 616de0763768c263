# SPDX-License-Identifier: Apache-2.0
"""A program that runs in a node, and the socket by which it is talked to."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from typing import Final

from dataplanes.api import DataplaneError, Node

__all__ = ["Program"]

_END_SECONDS: Final = 10.0
"""How long a program may take to end once nobody listens any more; then it is killed."""


class Program:
    """Runs from the beginning to ``end``; its descriptors 3 and 4 are the other end of the socket."""

    def __init__(self, node: Node, command: tuple[str, ...]) -> None:
        self._node = node
        self._command = command
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process: subprocess.Popen[bytes] = node.start(command, (theirs.fileno(), theirs.fileno()))

    def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._link.sendall(data)
        except OSError as error:
            raise self.wrong(f"takes no message: {error.strerror}") from error

    def receive(self) -> bytes:
        """What comes next; how long that may take is for the caller of the plugin to say."""
        try:
            data = self._link.recv(1 << 16)
        except OSError as error:
            raise self.wrong(f"cannot be heard: {error.strerror}") from error
        if not data:
            raise self.wrong("ended in the middle of a question")
        return data

    def end(self) -> None:
        """Close the socket and wait for the program's end."""
        self._link.close()
        assert self._process.stdin is not None  # noqa: S101  (it is what holds the guard)
        with self._process.stdin, suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.wait()  # its guard kills it once the input is closed

    def wrong(self, what: str, value: object = None, allowed: str | None = None) -> DataplaneError:
        """An error that names the program and the node."""
        program = os.path.basename(self._command[0])  # noqa: PTH119 - a name, not a file of this host
        return DataplaneError(
            f"the program {program} {what}", place=f"node {self._node.name}", value=value, allowed=allowed
        )
