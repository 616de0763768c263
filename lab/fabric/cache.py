# SPDX-License-Identifier: Apache-2.0
"""Where policylab keeps what is costly to make or fetch: kernels, and what a trial of this host has shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from lab.errors import HostError

__all__ = ["abandoned", "cache_directory", "cache_place", "locked"]


def cache_place() -> Path:
    """``$XDG_CACHE_HOME/policylab``, by default ``~/.cache/policylab``, whether it is there or not."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "policylab")


def cache_directory() -> Path:
    """The place of the cache, made if it is not there; raises HostError where it cannot be made."""
    directory = cache_place()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"no cache can be had: {error.strerror}",
            place=str(directory),
            next_step="set XDG_CACHE_HOME to a directory in which you may write",
        ) from error
    return directory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a directory's name for as long as the context is open; others wait."""
    with Path(f"{path}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def abandoned(path: Path) -> bool:
    """Whether something is there that its maker, who held the lock, has left: nobody holds the lock any more."""
    if not path.exists():
        return False
    with Path(f"{path}.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
    return True
