# SPDX-License-Identifier: Apache-2.0
"""A process between ours and that of the plugins: whatever plugins start ends with it, daemons in other sessions too.

It is what the kernel calls a subreaper: processes below it whose parent dies become its children, and its children it
ends. Only the lab's watchers are let be, which take away what no kernel does, and end by themselves.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from lab.fabric import watcher_process

__all__ = ["SWEEP_SECONDS", "keep"]

SWEEP_SECONDS: Final = 20.0
"""How long it waits for what it has killed, and for watchers."""
_LOOK_SECONDS: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_HEARD: Final = frozenset({signal.SIGCHLD, signal.SIGTERM})


def keep(work: Callable[[], NoReturn], parent: int) -> NoReturn:
    """Be the keeper of a process that does ``work``, end as it ends, and end it when ``parent`` dies or SIGTERM comes.

    To be called in a process that was just forked, which is lost to whatever else it was.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setpgid(0, 0)
    if os.getppid() != parent:  # it is gone already
        os._exit(1)
    keeper, worker = os.getpid(), os.fork()
    if worker == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        work()
    _let_go()
    status = None
    while status is None:
        if signal.sigwait(_HEARD) == signal.SIGTERM:
            os.kill(worker, signal.SIGKILL)
        status = dict(_reaped()).get(worker)
    _sweep()
    _end_as(status)


def _let_go() -> None:
    """Hold no end of any pipe: whoever is at the other one would take the worker, or our parent, to be alive."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _reaped() -> Iterator[tuple[int, int]]:
    """Our children that have ended, each with its status."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _sweep() -> None:
    deadline = time.monotonic() + SWEEP_SECONDS
    while (left := list(_children())) and time.monotonic() < deadline:
        for pid in left:
            if not _watches(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
        list(_reaped())


def _children() -> Iterator[int]:
    own = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(stat[1]) == own:
                    yield int(entry.name)


def _watches(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(watcher_process.__file__) in words


def _end_as(status: int) -> NoReturn:
    """End as a process with this status did."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # of SIGKILL nobody can decide anything
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {os.WTERMSIG(status)})
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
