# SPDX-License-Identifier: Apache-2.0
"""Unnamed network namespaces, held by a descriptor alone: when the last one is closed, the kernel takes all away.

Only threads of their own ever enter one, so that the caller, whatever interrupts it, stays where it was.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from lab.errors import HostError

__all__ = ["aside", "enter", "in_namespace", "new_namespace", "refused", "sysctl_path"]

Result = TypeVar("Result")

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# The namespace of the thread that looks, not of the process.
_OWN: Final = "/proc/thread-self/ns/net"

_NEXT_STEPS: Final = {
    errno.EPERM: "run the command as root (sudo)",
    errno.EACCES: "run the command as root (sudo)",
    errno.EMFILE: "raise the limit of open files (ulimit -n): a lab holds one for each host",
    errno.ENFILE: "raise the host's limit of open files (sysctl fs.file-max)",
    errno.ENOSPC: "raise the host's limit of namespaces (sysctl user.max_net_namespaces)",
    errno.ENOMEM: "free some memory",
}


def aside(work: Callable[[], Result]) -> Result:
    """Do work in a thread of its own, wait for it, and have its result or its exception.

    What interrupts the wait is raised when the work is done: nobody works behind the caller's back.
    """
    with ThreadPoolExecutor(1, "lab-fabric") as pool:
        return pool.submit(work).result()


def in_namespace(descriptor: int, work: Callable[[], Result]) -> Result:
    """Do work in a namespace, in a thread of its own."""

    def entered() -> Result:
        enter(descriptor)
        return work()

    return aside(entered)


def enter(descriptor: int) -> None:
    """Move this thread, and it alone, to a namespace."""
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise refused("to enter a network namespace", ctypes.get_errno())


def new_namespace() -> int:
    """Make a namespace, move this thread to it, and return the descriptor that holds it."""
    if _LIBC.unshare(_CLONE_NEWNET):
        raise refused("to make a network namespace", ctypes.get_errno())
    try:
        return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise refused("to hold a network namespace", error.errno or 0) from error


def sysctl_path(name: str) -> str:
    """The file of a sysctl under ``net``, as the thread that opens it sees it."""
    return f"/proc/sys/net/{name.replace('.', '/')}"


def refused(what: str, code: int) -> HostError:
    """The error for what the kernel refused with that errno, with what helps against it."""
    step = _NEXT_STEPS.get(code, "run 'policylab doctor' to see what this host lacks")
    return HostError(f"this host refuses {what}: {os.strerror(code)}", next_step=step)
