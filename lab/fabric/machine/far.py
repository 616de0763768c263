# SPDX-License-Identifier: Apache-2.0
"""The near side of a machine: objects of policylab's own that live there, called from here through execnet over ssh."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

import execnet

from lab.errors import HostError
from lab.fabric.machine import agent

__all__ = ["CALL_SECONDS", "Far", "FarObject"]

CALL_SECONDS: Final = 600.0
"""For one call; a dataplane on an emulated machine may have to compile."""

_AGENT: Final = "from lab.fabric.machine.agent import serve; serve(channel)"

Trouble = Callable[[str], HostError]


class Far:
    """A policylab on another machine. May be used by several threads; ``close`` ends it.

    ``python`` is the command that runs it there. ``trouble`` makes the error for a machine that does not answer: it
    knows what its console says. ``is_node`` says that the machine's own network is the node's.
    """

    def __init__(self, name: str, ssh_config: Path, python: str, trouble: Trouble, *, is_node: bool) -> None:
        self.name = name
        self.is_node = is_node
        self.ssh_config = ssh_config
        self._trouble = trouble
        self._lock = Lock()
        self._group = execnet.Group()
        if shutil.which("ssh") is None:
            raise trouble("cannot be reached: there is no command ssh")
        spec = f"ssh=-F {ssh_config} {name}//python={python}//chdir=/.//id={name}"
        try:
            self._gateway = self._group.makegateway(spec)
            self._channel = self._gateway.remote_exec(_AGENT)
        except (execnet.HostNotFound, OSError, EOFError) as error:
            self.close()
            raise trouble(f"cannot be reached by ssh ({error})") from error

    def close(self) -> None:
        """End the gateway; what is on the machine is the machine's."""
        self._group.terminate(timeout=5.0)

    def make(self, kind: Callable[..., Any], *arguments: object) -> FarObject:
        """Call a function or class of policylab there, and have what it makes stay there."""
        return FarObject(self, int(self.ask("make", kind, arguments)))

    def ask(self, what: str, target: object, arguments: tuple[object, ...] = ()) -> Any:
        """Have something done there; raises the LabError that it raised, HostError when nobody answers."""
        request = pickle.dumps((what, target, arguments))
        try:
            with self._lock:
                self._channel.send(request)
                kind, value = pickle.loads(self._channel.receive(CALL_SECONDS))  # noqa: S301 - of a machine of ours
        except (EOFError, OSError, self._channel.TimeoutError) as error:
            raise self._trouble("does not answer any more") from error
        if kind == "error":
            raise value
        if kind == "fault":
            raise RuntimeError(f"on the machine {self.name}:\n{value}")
        return value


class FarObject:
    """Stands for an object on a machine: its methods are called there; as an argument there it is the object."""

    def __init__(self, far: Far, number: int) -> None:
        self._far = far
        self._number = number

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return partial(self._call, method)

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return agent.object_of, (self._number,)

    def __enter__(self) -> Self:
        self._far.ask("tell", (self._number, "__enter__"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._far.ask("tell", (self._number, "__exit__"), (None, None, None))

    def drop(self) -> None:
        """Forget it there."""
        self._far.ask("drop", (self._number, ""))

    def _call(self, method: str, *arguments: object) -> Any:
        return self._far.ask("call", (self._number, method), arguments)
