# SPDX-License-Identifier: Apache-2.0
"""Unnamed network namespaces, held by descriptors alone, and one thread that goes into them.

A thread that changed its namespace by accident would make everything after it happen elsewhere, so the main
thread never does: all of it is done by a thread of the lab's own, which signals do not interrupt either.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

from lab.errors import HostError

__all__ = ["Traveller"]

CLONE_NEWNET: Final = 0x40000000
_OWN: Final = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


class Traveller:
    """A context manager around a thread that makes namespaces and works inside them."""

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()

    def create(self, furnish: Callable[[], Result]) -> tuple[int, Result]:
        """A new network namespace: its descriptor, and what ``furnish`` gave when it was run inside.

        Raises HostError when the host does not grant it.
        """
        return self._thread.submit(self._create, furnish).result()

    def within(self, namespace: int, work: Callable[[], Result]) -> Result:
        """Run ``work`` inside the namespace behind a descriptor."""
        return self._thread.submit(self._within, namespace, work).result()

    def _create(self, furnish: Callable[[], Result]) -> tuple[int, Result]:
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.unshare(CLONE_NEWNET):
                raise _refused("a network namespace")
            try:
                made = furnish()
                return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC), made
            finally:
                _enter(home)
        finally:
            os.close(home)

    def _within(self, namespace: int, work: Callable[[], Result]) -> Result:
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(namespace)
            try:
                return work()
            finally:
                _enter(home)
        finally:
            os.close(home)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise _refused("going into a network namespace")


def _refused(what: str) -> HostError:
    code = ctypes.get_errno()
    return HostError(
        f"this host does not grant {what}",
        value=os.strerror(code),
        allowed="root with CAP_SYS_ADMIN, and a kernel with network namespaces",
        next_step="run as root; see `policylab doctor`",
    )
