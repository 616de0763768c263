# SPDX-License-Identifier: Apache-2.0
"""The process of a watcher: collects what it is told until its standard input ends, then takes it all away.

Run as a file by ``lab.fabric.watcher``, with nothing but the standard library. It lives in a session of its own and
ends by itself; signals that end a command on a terminal are not for it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["EMPTY", "KILL", "main"]

KILL: Final = b"kill"
"""With one descriptor: a process."""
EMPTY: Final = b"empty "
"""Followed by the path of a cgroup."""

_MESSAGE_BYTES: Final = 8192
_SECONDS: Final = 5.0
"""For killed processes to be gone; they take milliseconds, unless the machine is stuck."""
_PAUSE: Final = 0.002


def main() -> int:
    """Listen, then undo; the exit status is 0 when nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    processes: list[int] = []
    cgroups: list[Path] = []
    with socket.socket(fileno=0) as told:
        while True:
            message, descriptors, _, _ = socket.recv_fds(told, _MESSAGE_BYTES, 1)
            if not message:
                break
            processes += descriptors
            if message.startswith(EMPTY):
                cgroups.append(Path(os.fsdecode(message[len(EMPTY) :])))
    for process in processes:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    left = [cgroup for cgroup in cgroups if not _removed(cgroup)]
    for cgroup in left:
        sys.stderr.write(f"policylab: {cgroup} could not be removed; next: rmdir it by hand\n")
    return 1 if left else 0


def _removed(cgroup: Path) -> bool:
    """Kill whatever is in a cgroup and remove it; True when it is gone."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            cgroup.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY:
                return False
            # Older kernels (before 5.14) have no cgroup.kill, so each process is named.
            for pid in _members(cgroup):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_PAUSE)
        else:
            return True
    return False


def _members(cgroup: Path) -> list[int]:
    return [int(line) for line in (cgroup / "cgroup.procs").read_text(encoding="ascii").split()]


if __name__ == "__main__":
    sys.exit(main())
