# SPDX-License-Identifier: Apache-2.0
"""Importing a stranger's module where it can do no harm first: it may end the process, hang, or print without end."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Final

from dataplanes.api import DataplaneError

__all__ = ["IMPORT_SECONDS", "quietly", "try_apart"]

IMPORT_SECONDS: Final = 40.0
"""How long a module may take to be imported; one that hangs is to be told of within a minute."""


def try_apart(load: Callable[[], object], what: str) -> None:
    """Call ``load`` in a process of its own, whatever it raises; raises DataplaneError when it does not come back."""
    readable, writable = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _load_and_end(load, writable)
    os.close(writable)
    try:
        came_back = _told(readable)
    finally:
        os.close(readable)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it may not have come so far as to have a group
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if came_back is None:
        raise DataplaneError(f"{what} is not imported within {IMPORT_SECONDS:g} s", next_step="mend the plugin")
    if not came_back:
        code = os.waitstatus_to_exitcode(status)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        raise DataplaneError(f"{what} ends its process {how} while it is imported", next_step="mend the plugin")


@contextmanager
def quietly() -> Iterator[None]:
    """What the body prints goes nowhere: our output is for the user, and often for a program."""
    sys.stdout.flush()
    sys.stderr.flush()
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        ExitStack() as stack,
    ):
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(nowhere.fileno(), stream)
        yield


def _load_and_end(load: Callable[[], object], told: int) -> None:
    """The life of the other process: one byte tells that ``load`` came back."""
    try:
        os.setpgid(0, 0)
        with quietly():
            with suppress(Exception, SystemExit):
                load()
            os.write(told, b"!")
    finally:
        os._exit(0)


def _told(readable: int) -> bool | None:
    """Whether it came back; None when it has not yet, and will not be waited for."""
    ready, _, _ = select.select([readable], [], [], IMPORT_SECONDS)
    return bool(os.read(readable, 1)) if ready else None
