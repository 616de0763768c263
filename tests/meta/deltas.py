# SPDX-License-Identifier: Apache-2.0
"""Faults over a dataplane that is told what changes, and not only what shall be: it goes other ways in there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from faults import Fault, lay

from dataplanes.api import Dataplane, IpSet, MembersChange, Node, Snapshot, SnapshotDelta, apply_delta
from dataplanes.nftables.difference import difference

__all__ = ["DELTA_FAULTS", "DeltaFault", "lay_in_delta", "lay_with_deltas", "step_of"]

Change = Callable[[Snapshot, SnapshotDelta], SnapshotDelta]
"""From the snapshot in force and the delta to what is made of the delta."""


@dataclass(frozen=True, slots=True)
class DeltaFault:
    """A part of deltas that is misread, and the expectation that must catch it."""

    name: str
    wrong: str
    caught_by: str
    change: Change


def step_of(old: Snapshot, new: Snapshot) -> SnapshotDelta:
    """The delta as the compiler tells it: of sets that stay, the members that come and go."""
    whole = difference(old, new)
    members = {
        key: _members(old.ip_sets[key], changed)
        for key, changed in whole.ip_sets.items()
        if key in old.ip_sets and replace(old.ip_sets[key], nets=changed.nets, ports=changed.ports) == changed
    }
    others = {key: changed for key, changed in whole.ip_sets.items() if key not in members}
    return replace(whole, ip_sets=others, members=members)


def _members(old: IpSet, new: IpSet) -> MembersChange:
    before, after = {*old.nets, *old.ports}, {*new.nets, *new.ports}
    return MembersChange(frozenset(after - before), frozenset(before - after))


def lay_with_deltas(fault: Fault, dataplane: type[Dataplane]) -> type[Dataplane]:
    """The dataplane with the fault, and beside each snapshot the delta that leads to what it is told."""
    return _told_deltas(lay(fault, _remembering(dataplane, lambda _before, delta: delta)), dataplane, fault.name)


def lay_in_delta(fault: DeltaFault, dataplane: type[Dataplane]) -> type[Dataplane]:
    """A dataplane that knows what to do only from deltas, and misreads them."""
    return _told_deltas(_remembering(dataplane, fault.change), dataplane, fault.name)


def _told_deltas(broken: type[Dataplane], dataplane: type[Dataplane], name: str) -> type[Dataplane]:
    body = {"name": f"{dataplane.name}+{name}", "capabilities": dataplane.capabilities}
    return type(broken.__name__, (broken,), body)


def _remembering(dataplane: type[Dataplane], change: Change) -> type[Dataplane]:
    """A dataplane that goes on from the snapshot in force by a changed delta, whatever else it is told."""

    class Remembering(dataplane):  # type: ignore[misc,valid-type]  # whichever it is
        name: ClassVar[str] = dataplane.name

        def __init__(self, node: Node) -> None:
            super().__init__(node)
            self._before: Snapshot | None = None

        def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - it makes its own
            step = None if self._before is None else change(self._before, step_of(self._before, snapshot))
            told = snapshot if self._before is None or step is None else apply_delta(self._before, step)
            super().apply(told, step)
            self._before = told

        def stop(self) -> None:
            super().stop()
            self._before = None

    return Remembering


def _all_members(change: Callable[[MembersChange], MembersChange]) -> Change:
    return lambda _before, delta: replace(delta, members={key: change(each) for key, each in delta.members.items()})


DELTA_FAULTS = (
    DeltaFault(
        "members-only-come",
        "Adds the members that come to a set, and forgets those that go.",
        "network-set.update.removed-members-leave",
        _all_members(lambda found: replace(found, removed=frozenset())),
    ),
    DeltaFault(
        "members-only-go",
        "Takes away the members that go, and forgets those that come.",
        "service.update.endpoint-moves",
        _all_members(lambda found: replace(found, added=frozenset())),
    ),
    DeltaFault(
        "members-not-followed",
        "Does not know that sets which stay can change their members.",
        "service.update.endpoint-moves",
        lambda _before, delta: replace(delta, members={}),
    ),
    DeltaFault(
        "policies-not-followed",
        "Follows who is selected by policies, and not what the policies say.",
        "update.policy.both-directions-change",
        lambda before, delta: replace(
            delta, policies={key: found for key, found in delta.policies.items() if key not in before.policies}
        ),
    ),
    DeltaFault(
        "endpoints-not-followed",
        "Follows what policies say, and not who is selected by them.",
        "update.policy.subject-changes",
        lambda _before, delta: replace(delta, endpoints={}),
    ),
    DeltaFault(
        "settings-not-followed",
        "Takes the settings of its node for what they were at first.",
        "host.failsafe.configured",
        lambda _before, delta: replace(delta, settings=None),
    ),
    DeltaFault(
        "host-endpoints-not-followed",
        "Does not see host endpoints that come or change.",
        "host.policy.ingress",
        lambda _before, delta: replace(delta, host_endpoints={}),
    ),
    DeltaFault(
        "profiles-not-followed",
        "Takes profiles for what they were at first.",
        "profile.rules.asked-in-order",
        lambda _before, delta: replace(delta, profiles={}),
    ),
)
