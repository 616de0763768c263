# SPDX-License-Identifier: Apache-2.0
"""The adapter: a dataplane as policylab knows it, and behind it a program in the node that does the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dataplanes.api import (
    Capability,
    DataplaneError,
    Evidence,
    Node,
    Snapshot,
    SnapshotDelta,
)
from dataplanes.external.messages import VERSION, Reader, frame, plain
from dataplanes.external.program import Program

__all__ = ["ExternalDataplane"]


class ExternalDataplane:
    """A base class; a plugin says its ``name``, ``api_version``, ``capabilities`` and the ``command``."""

    name: ClassVar[str]
    api_version: ClassVar[int]
    capabilities: ClassVar[frozenset[Capability]]
    command: ClassVar[tuple[str, ...]]
    """The program and its arguments; it runs in the node, with messages on its descriptors 3 and 4."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._program: Program | None = None
        self._reader = Reader()
        self._deltas = False
        self._lost = False

    def start(self) -> None:
        """Start the program and have it say who it is."""
        self._program = Program(self._node, self.command)
        hello = self._ask({"type": "hello", "version": VERSION, "node": self._node.name}, "hello")
        self._check(self._program, hello)
        self._deltas = hello.get("deltas") is True

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Send the snapshot, or to a program that wants it what is different, and wait until it is in force."""
        if delta is not None and self._deltas:
            self._ask({"type": "delta", "delta": plain(delta)}, "applied")
        else:
            self._ask({"type": "snapshot", "snapshot": plain(snapshot)}, "applied")

    def evidence(self) -> Evidence:
        """What the program tells of itself."""
        told = self._ask({"type": "evidence"}, "evidence")
        return Evidence(told.get("counters", {}), told.get("ruleset", ""), told.get("facts", {}))

    def stop(self) -> None:
        """Have it take away what it installed, and end it."""
        program, self._program = self._program, None
        if program is None:
            return
        try:
            if not self._lost:  # what was wrong then has been told; there is nobody to be asked
                program.send(frame({"type": "stop"}))
                self._answer(program, "stopped")
        finally:
            program.end()

    def _check(self, program: Program, hello: Mapping[str, Any]) -> None:
        version, declared = hello.get("version"), hello.get("capabilities")
        if version != VERSION:
            raise program.wrong("speaks another version of the protocol", version, str(VERSION))
        lacking = {each.value for each in self.capabilities} - set(declared if isinstance(declared, list) else ())
        if lacking:
            raise program.wrong("does not have capabilities that its class declares", ", ".join(sorted(lacking)))

    def _ask(self, message: Mapping[str, object], wanted: str) -> Mapping[str, Any]:
        if self._program is None:
            raise DataplaneError(f"{self.name} was not started", place=f"node {self._node.name}")
        self._program.send(frame(message))
        return self._answer(self._program, wanted)

    def _answer(self, program: Program, wanted: str) -> Mapping[str, Any]:
        """The next message; after anything but an answer nobody knows what the program takes what comes next for."""
        self._lost = True
        message = self._next(program)
        if message["type"] not in (wanted, "failed"):
            raise program.wrong("answers something else", message["type"], wanted)
        self._lost = False
        if message["type"] == "failed":
            raise program.wrong(f"failed: {message.get('what')}")
        return message

    def _next(self, program: Program) -> Mapping[str, Any]:
        while True:
            for message in self._reader.feed(program.receive()):
                return message
