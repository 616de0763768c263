# SPDX-License-Identifier: Apache-2.0
"""The dataplane: what is in force on a node, and how it changes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar

from dataplanes.api import Capability, DataplaneError, Evidence, HostError, LabError, Node, Snapshot, SnapshotDelta
from dataplanes.nftables.difference import difference
from dataplanes.nftables.follow import follow
from dataplanes.nftables.graph import Graph
from dataplanes.nftables.kernel import Kernel
from dataplanes.nftables.parts import Chain
from dataplanes.nftables.transaction import complete, removal, transactions

__all__ = ["NftablesDataplane"]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: what a whole table is made of is kept, and looking takes long."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class NftablesDataplane:
    """Enforces snapshots with one nftables table of its own.

    An ``apply`` changes what the delta concerns, in one transaction (three where a packet could meet the old rules
    at one hook and the new ones at another). What was in force before still is when a transaction fails.
    """

    name: ClassVar[str] = "nftables"
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, node: Node) -> None:
        self._kernel = Kernel(node)
        self._forget(node.name)

    def _forget(self, node: str) -> None:
        self._graph = Graph()
        self._snapshot = Snapshot(node, {}, {}, {}, {})
        self._known = True

    def start(self) -> None:
        """Check that nft is there; a table that a run left that was killed stays in force until the first apply."""
        self._kernel.ruleset()
        self._known = False

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Put a snapshot in force; raises DataplaneError, and leaves the one before in force, when that fails."""
        whole = delta is None or not self._known or not self._graph.objects
        if delta is None or whole:
            delta = difference(self._snapshot, snapshot)
        try:
            with _uncollected() if whole else nullcontext():
                follow(self._graph, snapshot, delta)
                self._commit()
        except BaseException:
            self._graph.undo()
            raise
        self._graph.settle()
        self._snapshot = snapshot

    def stop(self) -> None:
        """Take the table away, and with it all that is in it."""
        self._kernel.commit(removal())
        self._forget(self._snapshot.node)

    def evidence(self) -> Evidence:
        """Packets by chain since it last changed, and all rules of the node as the kernel tells them."""
        about = {found.name: found.about for found in self._graph.objects.values() if isinstance(found, Chain)}
        counted: Counter[str] = Counter()
        if about:
            for chain, packets in self._kernel.counted():
                counted[about.get(chain, chain)] += packets
        return Evidence(dict(counted), self._kernel.ruleset())

    def _commit(self) -> None:
        """Bring the kernel in line with the graph: step by step, or as a whole when nobody knows what it holds."""
        if not self._known:
            self._kernel.commit(complete(self._graph.objects.values()))
            self._known = True
            return
        done = 0
        try:
            for transaction in transactions(self._graph):
                self._kernel.commit(transaction)
                done += 1
        except BaseException as error:
            self._known = False
            if (done and isinstance(error, LabError)) or isinstance(error, HostError):
                self._roll_back(error)
            raise

    def _roll_back(self, reason: LabError) -> None:
        self._graph.undo()
        before = self._graph.objects.values()
        try:
            self._kernel.commit(complete(before) if before else removal())
        except LabError as error:
            raise DataplaneError(f"{reason}; and what was in force before cannot be put back: {error}") from reason
