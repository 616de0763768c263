# SPDX-License-Identifier: Apache-2.0
"""A process of its own for plugins: whatever one does to its process is a verdict, and nothing more.

It is forked from this one, so plugins that are loaded need not be found again. It works on a subject that it makes
itself and keeps (labs, for instance); calls and their results go through a socket. When the process dies, or a plugin
does not come back from a call, it is ended, and with it all that its labs held.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, NoReturn, ParamSpec, Self, TypeVar, cast

from lab.conformance import keeper
from lab.conformance.ledger import Ledger, keep
from lab.errors import DataplaneError, LabError
from lab.fabric.namespace_node import PATIENCE_VARIABLE
from lab.garbage import collect_rarely

__all__ = ["CALL_SECONDS", "Apart"]

CALL_SECONDS: Final = 45.0 * float(os.environ.get(PATIENCE_VARIABLE, "1"))
"""How long a plugin may take for one call of start, apply, stop, evidence and the like; one that hangs is to be told
of within a minute, in a machine that may be emulated within ten."""
CLOSE_SECONDS: Final = 90.0
"""How long the end of a process may take in which no plugin hangs; many labs are closed one after another."""
KEPT_OUTPUT: Final = 2000
"""So many bytes of what plugins print last are shown, however much they print."""
_ARENAS: Final = -8
"""M_ARENA_MAX of mallopt(3)."""
_LOOK_SECONDS: Final = 0.5
_WAIT_SECONDS: Final = 0.02

Subject = TypeVar("Subject")
Result = TypeVar("Result")
P = ParamSpec("P")
_Answer = tuple[bool, BaseException | None, object]
"""Whether the process goes on; the error of the function, or its result."""


class Apart(Generic[Subject]):
    """A context manager; ``begin`` makes the subject, in the process itself, when the first call comes.

    After a process was lost the next call begins anew.
    """

    def __init__(
        self, begin: Callable[[], AbstractContextManager[Subject]], call_seconds: float = CALL_SECONDS
    ) -> None:
        self._begin = begin
        self.limit = call_seconds
        self._child: _Child | None = None
        self._printed = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._ask(None)

    def call(self, function: Callable[Concatenate[Subject, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call a function of some module there, with the subject before the arguments, and give what it returns.

        Raises what the function raises; DataplaneError when a plugin ends the process, or takes too long for a call.
        """
        if self._child is None:
            self._child = _Child.fork(self._begin)
        return cast("Result", self._ask((function, args, kwargs)))

    def _ask(self, question: object) -> object:
        """Have a question answered; whatever goes wrong besides an error of the function ends the process."""
        child = self._child
        assert child is not None  # noqa: S101  (both callers made sure)
        alive = False
        try:
            alive, error, result = child.ask(question, self.limit)
        finally:
            if not alive:
                self._child, self._printed = None, child.printed
                child.end()
        if error is not None:
            raise error
        return result

    @property
    def alive(self) -> bool:
        """Whether there is a process, so that the next call goes on where the last one ended."""
        return self._child is not None

    @property
    def printed(self) -> str:
        """What plugins printed since the last process began, if anything: how much, and the end of it."""
        return self._printed if self._child is None else self._child.printed


class _Child:
    """The other process, seen from this one."""

    def __init__(self, pid: int, link: Connection, output: int, ledger: Ledger) -> None:
        self._pid = pid
        self._ledger = ledger
        self._link = link
        self._output = output
        self._status: int | None = None
        self._bytes = 0
        self._tail = b""

    @classmethod
    def fork(cls, begin: Callable[[], AbstractContextManager[object]]) -> _Child:
        ours, theirs = socket.socketpair()
        readable, writable = os.pipe()
        parent, ledger = os.getpid(), Ledger()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.close(readable)
            keeper.keep(lambda: _live(begin, Connection(theirs.detach()), writable, ledger), parent)
        with suppress(OSError):  # whichever of the two comes first
            os.setpgid(pid, pid)
        theirs.close()
        os.close(writable)
        os.set_blocking(readable, False)
        return cls(pid, Connection(ours.detach()), readable, ledger)

    def ask(self, question: object, limit: float) -> _Answer:
        """Send a question and wait for its answer.

        Raises DataplaneError when the process is gone, or has to go because a plugin takes longer than ``limit``.
        """
        try:
            self._link.send(question)
        except OSError:
            raise self._died() from None
        closing = time.monotonic() + CLOSE_SECONDS if question is None else None
        sources: list[Any] = [self._link, self._output]
        while True:
            ready = wait(sources, _LOOK_SECONDS)
            if self._output in ready and not self._drain():
                sources.remove(self._output)
            if self._link in ready:
                return self._answer()
            self._check(limit, closing)

    @property
    def printed(self) -> str:
        self._drain()
        if not self._bytes:
            return ""
        return f"plugins printed {self._bytes} bytes, at last:\n{self._tail.decode(errors='replace')}"

    def end(self) -> None:
        """End it, if it has not ended, and let nothing of it remain."""
        deadline = time.monotonic() + keeper.SWEEP_SECONDS + _LOOK_SECONDS
        if not self._ended(block=False):
            os.kill(self._pid, signal.SIGTERM)  # the keeper takes away what plugins have started and left
        while not self._ended(block=False) and time.monotonic() < deadline:
            time.sleep(_WAIT_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # should a plugin have ended its keeper
        self._ended(block=True)
        self._link.close()
        os.close(self._output)

    def _answer(self) -> _Answer:
        try:
            answer: _Answer = self._link.recv()
        except (EOFError, OSError):
            raise self._died() from None
        return answer

    def _drain(self) -> bool:
        """Take what was printed, and keep the end of it; False when there will be no more."""
        try:
            while data := os.read(self._output, 1 << 16):
                self._bytes += len(data)
                self._tail = (self._tail + data)[-KEPT_OUTPUT:]
        except BlockingIOError:
            return True
        return False

    def _check(self, limit: float, closing: float | None) -> None:
        now = time.monotonic()
        late = [call for call in self._ledger.calls() if now - call.since > limit]
        if late:
            raise DataplaneError(f"{late[0].what} did not return within {limit:g} s", next_step=self._next_step())
        if closing is not None and now > closing:
            raise DataplaneError(f"the labs could not be closed within {CLOSE_SECONDS:g} s")
        if self._ended(block=False):  # though something of it may still hold its end of the socket
            raise self._died()

    def _died(self) -> DataplaneError:
        self._drain()
        self._ended(block=True)
        status = os.waitstatus_to_exitcode(self._status or 0)
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        under_way = " and ".join(call.what for call in self._ledger.calls())
        who = f"while it was in {under_way}" if under_way else "by something that a plugin left behind"
        return DataplaneError(f"the process of the plugins was ended {how}, {who}", next_step=self._next_step())

    def _next_step(self) -> str:
        return f"mend the plugin; {self.printed}" if self._bytes else "mend the plugin"

    def _ended(self, *, block: bool) -> bool:
        """Whether it has ended, or when ``block`` is set, that it has."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, 0 if block else os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None


def _live(
    begin: Callable[[], AbstractContextManager[object]], link: Connection, output: int, ledger: Ledger
) -> NoReturn:
    """The life of the other process; it never returns into what called it."""
    status = 1
    try:
        keep(ledger)
        _share_heap()
        collect_rarely()  # also where a worker of pytest-xdist is behind it, and no command line of ours
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115 - descriptors
        _serve(begin, link)
        status = 0
    except BaseException:  # noqa: BLE001 - there is nobody to raise it to
        traceback.print_exc()
    finally:
        os._exit(status)


def _share_heap() -> None:
    """Have all threads allocate from one heap.

    They come and go by thousands, and glibc gives the next ones heaps of their own, 16 on two CPUs, each of which
    keeps what its fullest moment took: 38 MB after some minutes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # else it is another libc
        mallopt(_ARENAS, 1)


def _serve(begin: Callable[[], AbstractContextManager[object]], link: Connection) -> None:
    """Answer questions until the last one; a subject that cannot be made is the answer to the first."""
    question = link.recv()
    try:
        with begin() as subject:
            while question is not None:
                link.send(_answer_to(question, subject))
                question = link.recv()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the other side
        link.send((False, _portable(error), None))
        return
    link.send((False, None, None))


def _answer_to(question: object, subject: object) -> _Answer:
    function, args, kwargs = cast("tuple[Callable[..., object], tuple[object, ...], dict[str, object]]", question)
    try:
        return True, None, function(subject, *args, **kwargs)
    except Exception as error:  # noqa: BLE001 - as above
        return True, _portable(error), None


def _portable(error: BaseException) -> BaseException:
    """The error as it can be sent; a fault of our own goes with the way that it came."""
    if not isinstance(error, LabError):
        error.add_note("".join(traceback.format_exception(error)))
    return error
