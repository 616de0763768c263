# SPDX-License-Identifier: Apache-2.0
"""From what a user wants next to what each node is told: whole snapshots, and what is different in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from dataplanes.api import Snapshot, SnapshotDelta
from lab.policy.compile import Compiler, Resource
from lab.policy.compile.kinds import identity_of
from lab.policy.resources import Resources
from lab.topology import Topology

__all__ = ["Rollout", "Step"]

Step = tuple[Snapshot, SnapshotDelta | None]
"""What a node is told: the snapshot, and what leads to it from the last one; None when that is not known."""


class Rollout:
    """Knows what the nodes of a topology have in force, so that it can tell them what changes."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._compiler: Compiler | None = None
        self._told: dict[tuple[str, str, str], Resource] = {}

    def forget(self) -> None:
        """Nobody knows any more what is in force: next time all are told without a delta."""
        self._compiler = None

    @contextmanager
    def of(self, resources: Resources) -> Iterator[Mapping[str, Step]]:
        """What every node is to be told, by its name.

        When the body raises, nobody knows which nodes got there: next time all are told without a delta.
        """
        wanted = {identity_of(each): each for field in fields(resources) for each in getattr(resources, field.name)}
        steps = self._first(resources) if self._compiler is None else self._next(self._compiler, wanted)
        self._told = wanted
        try:
            yield steps
        except BaseException:
            self._compiler = None
            raise

    def _first(self, resources: Resources) -> Mapping[str, Step]:
        self._compiler = Compiler(self._topology, resources)
        return {name: (snapshot, None) for name, snapshot in self._compiler.snapshots().items()}

    def _next(self, compiler: Compiler, wanted: Mapping[tuple[str, str, str], Resource]) -> Mapping[str, Step]:
        gone = [resource for identity, resource in self._told.items() if identity not in wanted]
        deltas = compiler.update(wanted.values(), gone)
        return {
            name: (snapshot, deltas.get(name, SnapshotDelta(name))) for name, snapshot in compiler.snapshots().items()
        }
