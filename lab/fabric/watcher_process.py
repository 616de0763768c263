# SPDX-License-Identifier: Apache-2.0
"""The process of a watcher: collects what it is told until its standard input ends, then takes it all away.

Run as a file by ``lab.fabric.watcher``, with nothing but the standard library. It lives in a session of its own and
ends by itself; signals that end a command on a terminal are not for it.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

__all__ = ["CONTAINERS", "EMPTY", "KILL", "REMOVE", "main", "take_files"]

KILL: Final = b"kill"
"""With one descriptor: a process."""
EMPTY: Final = b"empty "
"""Followed by the path of a cgroup."""
CONTAINERS: Final = b"containers "
"""Followed by the path of a Docker daemon's socket, a space, and the label of the containers."""
REMOVE: Final = b"remove "
"""Followed by the path of a file or a directory."""

_MESSAGE_BYTES: Final = 8192
_SECONDS: Final = 5.0
"""For killed processes to be gone; they take milliseconds, unless the machine is stuck."""
_PAUSE: Final = 0.002
_DAEMON_SECONDS: Final = 20.0


def main() -> int:
    """Listen, then undo; the exit status is 0 when nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    processes: list[int] = []
    things: list[bytes] = []
    with socket.socket(fileno=0) as told:
        while True:
            message, descriptors, _, _ = socket.recv_fds(told, _MESSAGE_BYTES, 1)
            if not message:
                break
            processes += descriptors
            things.append(message)
    for process in processes:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    # What runs goes first: it may still write into what is removed.
    complaints = [
        complaint
        for kind, take_away in ((CONTAINERS, _take_containers), (EMPTY, _take_cgroup), (REMOVE, take_files))
        for thing in things
        if thing.startswith(kind) and (complaint := _tried(take_away, thing[len(kind) :]))
    ]
    for complaint in complaints:
        sys.stderr.write(f"policylab: {complaint}\n")
    return 1 if complaints else 0


def _tried(take_away: Callable[[bytes], str], thing: bytes) -> str:
    """What there is to complain of: what is left must be taken away all the same."""
    try:
        return take_away(thing)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{os.fsdecode(thing)} could not be taken away: {error}"


def _take_cgroup(thing: bytes) -> str:
    directory = Path(os.fsdecode(thing))
    for below in sorted(directory.glob("**/"), key=lambda each: len(each.parts), reverse=True):
        if not _removed(below):
            return f"{below} could not be removed; next: rmdir it by hand"
    return ""


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


def take_files(thing: bytes) -> str:
    """Remove a file or a directory, though programs that end may still remove or make something in it."""
    path = Path(os.fsdecode(thing))
    deadline = time.monotonic() + _SECONDS
    while path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path, onerror=_unless_gone)
        except OSError as error:
            # A program that has lost its peer may still put something there.
            if error.errno != errno.ENOTEMPTY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
    path.unlink(missing_ok=True)
    return ""


def _unless_gone(_: object, __: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
    """Go on when something has gone by itself: programs remove their sockets when they end."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


class _Daemon(http.client.HTTPConnection):
    """HTTP over a unix socket, as Docker's daemon speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_DAEMON_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_DAEMON_SECONDS)
        self.sock.connect(str(self._path))


def _take_containers(thing: bytes) -> str:
    path, _, label = os.fsdecode(thing).rpartition(" ")
    filters = quote(json.dumps({"label": [label]}))
    for container in json.loads(_ask(Path(path), "GET", f"/containers/json?all=1&filters={filters}")):
        _ask(Path(path), "DELETE", f"/containers/{container['Id']}?force=1&v=1")
    return ""


def _ask(daemon: Path, method: str, what: str) -> bytes:
    connection = _Daemon(daemon)
    try:
        connection.request(method, what)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status >= 300 and answer.status != http.client.NOT_FOUND:
        raise OSError(f"{answer.status} {body.decode(errors='replace').strip()}")
    return body


if __name__ == "__main__":
    sys.exit(main())
