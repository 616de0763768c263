# SPDX-License-Identifier: Apache-2.0
"""From what a user wants next to what each node is told: whole snapshots, and what is different in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dataplanes.api import Snapshot, SnapshotDelta
from lab.policy.compile import Compiler, Resource
from lab.policy.compile.kinds import identity_of, in_order
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
    def of(self, resources: Resources, known: Topology | None = None) -> Iterator[Mapping[str, Step]]:
        """What every node is to be told, by its name; ``known`` is the topology as the cluster knows it now.

        When the body raises, nobody knows which nodes got there: next time all are told without a delta.
        """
        known = known or self._topology
        wanted = {identity_of(each): each for each in in_order(known, resources)}
        steps = self._first(known, resources) if self._compiler is None else self._next(self._compiler, wanted)
        self._told = wanted
        try:
            yield steps
        except BaseException:
            self._compiler = None
            raise

    def _first(self, known: Topology, resources: Resources) -> Mapping[str, Step]:
        self._compiler = Compiler(known, resources)
        return {name: (snapshot, None) for name, snapshot in self._compiler.snapshots().items()}

    def _next(self, compiler: Compiler, wanted: Mapping[tuple[str, str, str], Resource]) -> Mapping[str, Step]:
        gone = [resource for identity, resource in self._told.items() if identity not in wanted]
        deltas = compiler.update(wanted.values(), gone)
        return {
            name: (snapshot, deltas.get(name, SnapshotDelta(name))) for name, snapshot in compiler.snapshots().items()
        }
