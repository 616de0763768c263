# SPDX-License-Identifier: Apache-2.0
"""The adapter that speaks to a program as Felix speaks to an external dataplane driver."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

from dataplanes.api import Capability, DataplaneError, Evidence, Node, Snapshot, SnapshotDelta
from dataplanes.external.felix.encode import updates
from dataplanes.external.felix.schema import FROM_DATAPLANE, SCHEMAS, TO_DATAPLANE, Form
from dataplanes.external.felix.wire import Message, decode, encode
from dataplanes.external.program import Program

__all__ = ["FelixDataplane"]

_LENGTH: Final = struct.Struct("<Q")
_LONGEST: Final = 1 << 28


class FelixDataplane:
    """A base class; a plugin says its ``name``, ``api_version``, ``capabilities``, ``command`` and ``form``.

    Felix waits for no answer. Here each flush ends with ``in_sync``, and the program answers it with
    ``dataplane_in_sync`` once everything before it is in force; Felix itself passes that message over.
    """

    name: ClassVar[str]
    api_version: ClassVar[int]
    capabilities: ClassVar[frozenset[Capability]]
    command: ClassVar[tuple[str, ...]]
    form: ClassVar[Form] = "3.32"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._program: Program | None = None
        self._told: Snapshot | None = None
        self._sent = 0
        self._rest = b""

    def start(self) -> None:
        """Start the program."""
        self._program = Program(self._node, self.command)

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - it compares itself
        """Send what is different from what the program was last told, and wait until it is in force."""
        if self._program is None:
            raise DataplaneError(f"{self.name} was not started", place=f"node {self._node.name}")
        for message in updates(self._told, snapshot, self.form):
            self._send(self._program, message)
        self._told = snapshot
        while "dataplane_in_sync" not in self._heard(self._program):
            pass  # statuses and the like

    def stop(self) -> None:
        """Close the socket, as Felix does when it ends: the program removes what it installed, and ends."""
        program, self._program = self._program, None
        if program is not None:
            program.end()

    def evidence(self) -> Evidence:
        """Nothing: Felix's drivers tell of no rules and no packets."""
        return Evidence()

    def _send(self, program: Program, message: Message) -> None:
        body = encode(SCHEMAS[self.form], TO_DATAPLANE, {"sequence_number": self._sent, **message})
        self._sent += 1
        program.send(_LENGTH.pack(len(body)) + body)

    def _heard(self, program: Program) -> Message:
        """The next message of the program."""
        (length,) = _LENGTH.unpack(self._take(program, _LENGTH.size))
        if length > _LONGEST:
            raise program.wrong("sends too long a message", length, f"at most {_LONGEST} bytes")
        return decode(SCHEMAS[self.form], FROM_DATAPLANE, self._take(program, length))

    def _take(self, program: Program, length: int) -> bytes:
        while len(self._rest) < length:
            self._rest += program.receive()
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken
