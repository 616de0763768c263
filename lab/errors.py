# SPDX-License-Identifier: Apache-2.0
"""The one error tree: every message says what, where, what was given, what is allowed, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "BpfError",
    "DataplaneError",
    "HostError",
    "LabError",
    "LabErrors",
    "NoLabError",
    "Place",
    "PolicyError",
    "TopologyError",
]


_LONG_WORD = re.compile(r"(\S{200})\S+")
"""A name that a file gives may be as long as the file; the message about it is one that people read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a user's file something stands; lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class LabError(Exception):
    """Base of all errors that a user may see; ``exit_code`` is what the command line ends with."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        place: Place | str | None = None,
        value: object = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.place = place
        self.value = value
        self.allowed = allowed
        self.next_step = next_step

    def __reduce__(self) -> tuple[object, ...]:
        """As another process is told of it, whatever the ``__init__`` of its class asks for."""
        return _made_again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        what = _LONG_WORD.sub(r"\1...", self.what)
        head = what if self.place is None else f"{self.place}: {what}"
        parts = [head]
        if self.value is not None:
            parts.append(f"given: {self.value!r}")
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        if self.next_step is not None:
            parts.append(f"next: {self.next_step}")
        return "; ".join(parts)


def _made_again(kind: type[LabError], arguments: tuple[object, ...], state: dict[str, object]) -> LabError:
    """An error that another process has told of; its ``__init__`` is not called again."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class LabErrors(LabError):
    """Several errors found in one go; printed one a line, in the order in which they were found."""

    def __init__(self, errors: Iterable[LabError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(self.errors)} errors")
        self.exit_code = max((error.exit_code for error in self.errors), default=2)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class TopologyError(LabError):
    """A topology or flows file says something that cannot be."""


class PolicyError(LabError):
    """A resource file says something that the API would refuse."""


class DataplaneError(LabError):
    """A dataplane or accelerator failed to start, apply, stop or give evidence."""

    exit_code = 1


class BpfError(LabError):
    """A BPF program did not compile, load or attach."""

    exit_code = 3


class HostError(LabError):
    """This host cannot do what was asked: not root, a tool or a kernel feature is missing."""

    exit_code = 3


class NoLabError(HostError):
    """This host cannot have a lab that was asked for, or a plugin cannot work in it here; nothing was judged."""
