# SPDX-License-Identifier: Apache-2.0
"""Takes away what the kernel does not when a lab's process dies: programs that run on, cgroups, containers, files.

A small process in a session of its own holds one end of a socket pair. What it has to take away it is told over that
socket before the thing can outlive the lab; when the other end is closed, by ``close`` or by the lab's death, it does
so. There is one way to end, and it is the same for both.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric import watcher_process

__all__ = ["Watcher"]

END_SECONDS: Final = 60.0
"""How long ``close`` waits for what takes some milliseconds, or with containers on a busy daemon some seconds."""


class Watcher:
    """The lab's end of a watcher: things that are told to it go when it is closed, or when this process dies."""

    def __init__(self) -> None:
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                # Isolated and without site packages: it starts in a fifth of the time, and imports only the library.
                command = [sys.executable, "-I", "-S", watcher_process.__file__]
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), cwd="/", start_new_session=True)
            except BaseException:
                own.close()
                raise
        self._socket = own

    def kill(self, pid: int) -> None:
        """Have a process of ours killed at the end; it must not have been waited for yet."""
        descriptor = os.pidfd_open(pid)
        try:
            socket.send_fds(self._socket, [watcher_process.KILL], [descriptor])
        finally:
            os.close(descriptor)

    def empty(self, cgroup: Path) -> None:
        """Have a directory of cgroup v2 removed at the end, and all that runs in it killed."""
        self._socket.send(watcher_process.EMPTY + os.fsencode(cgroup))

    def remove(self, path: Path) -> None:
        """Have a file, or a directory with all that is in it, removed at the end, if it is there by then."""
        self._socket.send(watcher_process.REMOVE + os.fsencode(path))

    def remove_containers(self, daemon: Path, label: str) -> None:
        """Have the containers with this label removed at the end, by the Docker daemon behind that socket."""
        self._socket.send(watcher_process.CONTAINERS + os.fsencode(daemon) + b" " + label.encode())

    def close(self) -> None:
        """Have everything taken away now, and wait until it is; raises HostError when something stays."""
        self._socket.close()
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as late:
            self._process.kill()
            self._process.wait()
            raise HostError("the lab's programs did not end when they were killed") from late
        if status:
            raise HostError("what the lab started could not be taken away", next_step="see the message above")
