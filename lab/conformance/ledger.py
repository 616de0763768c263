# SPDX-License-Identifier: Apache-2.0
"""Which calls of plugins are under way, written where another process can read it when this one is gone."""

from __future__ import annotations

import json
import mmap
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

__all__ = ["Call", "Ledger", "keep", "noted"]

_SIZE = 1 << 16
"""Room for a hundred nodes that are all asked at once."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has begun and not ended: ``acme in apply() on node node-1``, and when it began."""

    what: str
    since: float
    """By CLOCK_MONOTONIC, which all processes of a host share."""


class Ledger:
    """A page of memory that is shared with processes forked later."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE)
        self._lock = threading.Lock()
        self._open: dict[int, Call] = {}
        self._numbers = iter(range(1 << 62))

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Note a call for as long as it takes."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = Call(what, time.monotonic())
            self._write()
        try:
            yield
        finally:
            with self._lock:
                del self._open[number]
                self._write()

    def calls(self) -> tuple[Call, ...]:
        """What is under way, the oldest first, also when another process wrote it."""
        self._page.seek(0)
        text = self._page.read(_SIZE).split(b"\0", 1)[0]
        try:
            return tuple(Call(*entry) for entry in json.loads(text or b"[]"))
        except ValueError:  # it is being written just now, or was when its writer died
            return ()

    def _write(self) -> None:
        text = json.dumps([[each.what, each.since] for each in self._open.values()]).encode()
        self._page.seek(0)
        self._page.write(text[: _SIZE - 1] + b"\0")


_kept = [Ledger()]


def keep(ledger: Ledger) -> None:
    """From now on the calls of this process are noted there."""
    _kept[0] = ledger


def noted(what: str) -> AbstractContextManager[None]:
    """Note a call in the ledger of this process for as long as it takes."""
    return _kept[0].call(what)
