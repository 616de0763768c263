# SPDX-License-Identifier: Apache-2.0
"""From one snapshot to the next: which parts of the table a delta concerns, and no others.

A set whose members change is changed in place only where no packet can notice that it looks at it twice, or at two
of them. Otherwise it becomes a set of another name, and the rules that name it change with it, as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

from dataplanes.api import Direction, Snapshot, SnapshotDelta
from dataplanes.nftables.graph import Graph
from dataplanes.nftables.hooks import every_entry, wanted_entries
from dataplanes.nftables.hosts import Failsafes, HostRules, Hosts
from dataplanes.nftables.matches import FAMILIES
from dataplanes.nftables.parts import Chain, Part, Set
from dataplanes.nftables.policies import PolicyRules, ProfileRules
from dataplanes.nftables.sets import SnapshotSet
from dataplanes.nftables.words import Family, lookup
from dataplanes.nftables.workloads import WorkloadRules, WorkloadsByInterface, WorkloadsToNode

__all__ = ["follow"]


def follow(graph: Graph, snapshot: Snapshot, delta: SnapshotDelta) -> None:
    """Bring the graph in line with a snapshot, which differs by ``delta`` from the one that it was in line with.

    Raises DataplaneError for what nftables cannot express; the graph is then to be undone.
    """
    step = _Step(graph, snapshot, delta)
    step.entries()
    step.endpoints()
    step.rules()
    step.sets()


class _Step:
    """One change of a graph, from the top down: what a part above no longer uses is not asked what it should be."""

    def __init__(self, graph: Graph, snapshot: Snapshot, delta: SnapshotDelta) -> None:
        self._graph = graph
        self._snapshot = snapshot
        self._delta = delta

    def entries(self) -> None:
        """Where the kernel comes in, and what depends on host endpoints and settings."""
        delta = self._delta
        present = every_entry() & self._graph.objects.keys()
        hosts_change = delta.host_endpoints or delta.removed_host_endpoints or delta.settings is not None
        if present and not hosts_change:
            return
        wanted = wanted_entries(self._snapshot)
        for part in sorted(present - wanted, key=attrgetter("name")):
            self._graph.drop(part)
        self._put(sorted(wanted, key=attrgetter("name")))
        for kind in (WorkloadsToNode, Hosts, HostRules, Failsafes):
            self._put_kind(kind)

    def endpoints(self) -> None:
        """The workloads of the node."""
        delta = self._delta
        come = any(WorkloadRules(name, Direction.INGRESS) not in self._graph.objects for name in delta.endpoints)
        if come or delta.removed_endpoints:
            self._put_known(map(WorkloadsByInterface, Direction))
        if delta.settings is not None:
            self._put_kind(WorkloadRules)
        self._put_known(WorkloadRules(interface, way) for interface in delta.endpoints for way in Direction)

    def rules(self) -> None:
        """Policies and profiles."""
        delta = self._delta
        policies = (*delta.policies, *delta.removed_policies)
        profiles = (*delta.profiles, *delta.removed_profiles)
        self._put_known(PolicyRules(policy_id, direction) for policy_id in policies for direction in Direction)
        self._put_known(ProfileRules(name, direction) for name in profiles for direction in Direction)

    def sets(self) -> None:
        """The snapshot's sets. No packet is of two families, so each counts by itself."""
        rules_change = any(isinstance(each.old, Chain) for each in self._graph.change())
        for family in FAMILIES:
            changed = list(self._changed_sets(family))
            alone = len(changed) == 1 and not rules_change
            for part, content in changed:
                if alone and self._seen_once(part, content):
                    self._graph.put(part, self._snapshot)
                else:
                    self._graph.rename(part, self._snapshot)
        self._graph.sweep()

    def _changed_sets(self, family: Family) -> Iterator[tuple[SnapshotSet, Set]]:
        delta = self._delta
        set_ids = dict.fromkeys((*delta.ip_sets, *delta.members, *delta.removed_ip_sets))
        for part in (SnapshotSet(set_id, kind, family) for set_id in set_ids for kind in ("net", "port")):
            old = self._graph.objects.get(part)
            if old is None or self._graph.touched(part):
                continue
            content = part.content(self._snapshot)
            if replace(content, name=old.name) != old:
                yield part, content

    def _seen_once(self, part: SnapshotSet, content: Set) -> bool:
        """Whether a packet meets at most one rule with this set, and meets it at most once."""
        old, users = self._graph.objects[part], self._graph.users(part)
        if len(users) != 1 or not isinstance(old, Set) or (old.type, old.interval) != (content.type, content.interval):
            return False
        (chain,) = (self._graph.objects[user] for user in users)
        once = isinstance(chain, Chain) and repr(chain.rules).count(repr(lookup(old.name))) == 1
        return once and not any(isinstance(above, HostRules) for above in self._graph.above(part, stop=WorkloadRules))

    def _put(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._graph.put(part, self._snapshot)
        self._graph.sweep()

    def _put_known(self, parts: Iterable[Part]) -> None:
        self._put(part for part in parts if part in self._graph.objects and not self._graph.touched(part))

    def _put_kind(self, kind: type[Part]) -> None:
        self._put_known([part for part in self._graph.objects if isinstance(part, kind)])
