# SPDX-License-Identifier: Apache-2.0
"""Programs that run on in the hosts of a lab: in its cgroup, and never longer than the lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from tempfile import gettempdir
from typing import IO, Final

from lab.errors import HostError
from lab.fabric.cgroup import make_cgroup
from lab.fabric.identity import PREFIX, new_identity
from lab.fabric.namespace_node import NamespaceNode, tool_path
from lab.fabric.watcher import Watcher

__all__ = ["Programs"]

# A new process waits at this gate until it is in the cgroup and the watcher knows of it; if the lab dies before, so
# does it. The shell reads byte by byte: what comes behind the line is the program's.
_GATE: Final = ("/bin/sh", "-c", 'read -r _ && exec "$@"', "policylab")
_OPEN: Final = b"\n"


class Programs:
    """Starts programs, each in the namespace of a host of the lab; ``close`` kills them all.

    Attributes:
        cgroup: the directory of the lab's own cgroup (v2), in which all of them are; None where the host has none.
        watcher: takes away what they leave.
    """

    def __init__(self) -> None:
        self.watcher = Watcher()
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self.cgroup: Path | None = make_cgroup(self.watcher)
        except BaseException:
            self.watcher.close()
            raise

    @cached_property
    def directory(self) -> Path:
        """A directory for the files of programs, made when it is first asked for; it goes with them."""
        directory = Path(gettempdir(), f"{PREFIX}{new_identity()}")
        self.watcher.remove(directory)
        directory.mkdir(mode=0o711)  # programs that are not root pass through it
        return directory

    def start(
        self,
        host: NamespaceNode,
        argv: Sequence[str],
        *,
        output: IO[bytes] | int = subprocess.DEVNULL,
        errors: IO[bytes] | int = subprocess.DEVNULL,
        descriptors: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program in a host; its standard input is a pipe, and ``descriptors`` stay open in it.

        Its sockets belong to the lab's cgroup from the first one on. Raises HostError when it cannot be started.
        """
        process = host.inside(partial(_spawn, argv, output, errors, descriptors))
        self._started.append(process)
        self.watcher.kill(process.pid)
        if self.cgroup is not None:
            (self.cgroup / "cgroup.procs").write_text(f"{process.pid}\n", encoding="ascii")
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.write(_OPEN)
        process.stdin.flush()
        return process

    def close(self) -> None:
        """Kill every program and remove the cgroup."""
        try:
            self.watcher.close()
        finally:
            for process in self._started:
                process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()


def _spawn(
    argv: Sequence[str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    """Start a program behind the gate, in this thread's namespace."""
    try:
        return subprocess.Popen(
            [*_GATE, *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            pass_fds=descriptors,
            cwd="/",
            env=os.environ | {"PATH": tool_path()},
        )
    except OSError as error:
        raise HostError(f"the program {argv[0]} does not start: {error.strerror}", value=" ".join(argv)) from error
