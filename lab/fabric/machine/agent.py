# SPDX-License-Identifier: Apache-2.0
"""The far side of a machine: makes objects of policylab's own there and calls their methods, when it is told to.

What is made stays here; the near side knows it by a number. An argument that stands for such an object is turned
into it when it arrives.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

from lab.errors import LabError

__all__ = ["Host", "host_of", "object_of", "serve", "take_host"]


class Host(Protocol):
    """A host of the lab that is on this machine; which kind it has does not matter here."""

    @property
    def name(self) -> str:
        """The name that the topology gives it."""
        ...


class Channel(Protocol):
    """What of execnet's channel is used here: it is a stream of messages until the near side closes it."""

    def receive(self) -> bytes:
        """The next message; raises EOFError at the end."""
        ...

    def send(self, item: bytes) -> None:
        """Answer."""
        ...


_objects: Final[dict[int, Any]] = {}
_numbers: Final = count(1)
_hosts: Final[dict[str, Host]] = {}


def object_of(number: int) -> Any:
    """What was made here under that number."""
    return _objects[number]


def take_host(host: Host) -> None:
    """Let arguments mean this host when they name it."""
    _hosts[host.name] = host


def host_of(name: str) -> Host:
    """The host of the lab that is on this machine under that name."""
    return _hosts[name]


def serve(channel: Channel) -> None:
    """Do what is asked, one thing after another, until nobody asks any more."""
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        channel.send(_answer(message))


def _answer(message: bytes) -> bytes:
    """What became of a request: a value, an error that its user is to see, or a fault with its traceback."""
    try:
        return pickle.dumps(("value", _done(*pickle.loads(message))))  # noqa: S301 - from the lab that owns us
    except LabError as error:
        return pickle.dumps(("error", error))
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, it is raised on the near side
        return pickle.dumps(("fault", traceback.format_exc()))


def _done(what: str, target: Any, arguments: tuple[Any, ...]) -> Any:
    if what == "make":
        make: Callable[..., Any] = target
        number = next(_numbers)
        _objects[number] = make(*arguments)
        return number
    number, method = target
    if what == "drop":
        return _objects.pop(number, None) and None
    value = getattr(_objects[number], method)(*arguments)
    return None if what == "tell" else value
