# SPDX-License-Identifier: Apache-2.0
"""What one node holds, and what it needs next: only the policies, profiles and sets of its own endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from lab.policy.compile.members import SetTable
from lab.policy.compile.rules import Rendered
from lab.policy.snapshot import (
    EndpointPolicy,
    HostPolicy,
    MembersChange,
    NodeSettings,
    PolicyId,
    Snapshot,
    SnapshotDelta,
    SnapshotPolicy,
    SnapshotProfile,
    TierPolicies,
)
from lab.topology import Address

__all__ = ["NodeState", "Owner", "Shared"]

Owner = PolicyId | str
"""Who has rules: a policy, or a profile by its name."""
_Key = TypeVar("_Key", bound=Hashable)
_Endpoint = TypeVar("_Endpoint", EndpointPolicy, HostPolicy)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all nodes draw from: everything rendered, the sets, and what of them changed since the last time."""

    rendered: Mapping[Owner, Rendered]
    changed: tuple[Owner, ...]
    sets: SetTable
    members: Mapping[str, MembersChange]


@dataclass(slots=True)
class NodeState:
    """A node's snapshot as it was last told, with counts of who needs what.

    ``wanted_endpoints`` and ``wanted_hosts`` are those that may have changed since, None for what is gone.
    """

    name: str
    interfaces: Mapping[str, tuple[Address, ...]]
    settings: NodeSettings = field(default_factory=NodeSettings)
    wanted_settings: NodeSettings = field(default_factory=NodeSettings)
    wanted_endpoints: dict[str, EndpointPolicy | None] = field(default_factory=dict)
    wanted_hosts: dict[str, HostPolicy | None] = field(default_factory=dict)
    endpoints: dict[str, EndpointPolicy] = field(default_factory=dict)
    hosts: dict[str, HostPolicy] = field(default_factory=dict)
    _held: dict[Owner, Rendered] = field(default_factory=dict)
    _owners: Counter[Owner] = field(default_factory=Counter)
    _sets: Counter[str] = field(default_factory=Counter)

    def snapshot(self, sets: SetTable) -> Snapshot:
        """The whole of it."""
        policies, profiles = _apart(self._held)
        return Snapshot(
            self.name,
            dict(self.endpoints),
            policies,
            profiles,
            {set_id: sets.ip_set(set_id) for set_id in sorted(self._sets)},
            dict(self.hosts),
            self.settings,
        )

    def settle(self, shared: Shared) -> SnapshotDelta:
        """Take over what is wanted; returns what that changes."""
        touched = dict.fromkeys(owner for owner in shared.changed if owner in self._owners)
        endpoints, gone_endpoints = self._settle(self.endpoints, self.wanted_endpoints, touched)
        hosts, gone_hosts = self._settle(self.hosts, self.wanted_hosts, touched)
        owners, gone_owners, before = self._settle_owners(touched, shared.rendered)
        policies, profiles = _apart(owners)
        settings = None if self.wanted_settings == self.settings else self.wanted_settings
        self.settings = self.wanted_settings
        return SnapshotDelta(
            self.name,
            endpoints,
            policies,
            profiles,
            {set_id: shared.sets.ip_set(set_id) for set_id in self._sets_new_since(before)},
            {
                set_id: change
                for set_id, change in shared.members.items()
                if set_id in self._sets and before.get(set_id, True)
            },
            hosts,
            settings,
            gone_endpoints,
            frozenset(owner for owner in gone_owners if isinstance(owner, PolicyId)),
            frozenset(owner for owner in gone_owners if isinstance(owner, str)),
            frozenset(set_id for set_id, was in before.items() if was and set_id not in self._sets),
            gone_hosts,
        )

    def _sets_new_since(self, before: Mapping[str, bool]) -> list[str]:
        return [set_id for set_id, was in before.items() if not was and set_id in self._sets]

    def _settle(
        self,
        held: dict[str, _Endpoint],
        wanted: dict[str, _Endpoint | None],
        touched: dict[Owner, None],
    ) -> tuple[dict[str, _Endpoint], frozenset[str]]:
        """Bring endpoints up to date; ``touched`` takes the policies and profiles whose counts that changes."""
        changed: dict[str, _Endpoint] = {}
        gone: set[str] = set()
        moves: dict[tuple[object, ...], _Move] = {}
        for interface, new in wanted.items():
            old = held.get(interface)
            if old == new:
                continue
            move = moves.setdefault((_likeness(old), _likeness(new)), _Move(old, new))
            move.count += 1
            if new is None:
                del held[interface]
                gone.add(interface)
            else:
                held[interface] = changed[interface] = new
        wanted.clear()
        for move in moves.values():
            self._recount(move, touched)
        return changed, frozenset(gone)

    def _recount(self, move: _Move, touched: dict[Owner, None]) -> None:
        before, after = _owners_of(move.old), _owners_of(move.new)
        for owner in after:
            if owner not in before:
                self._owners[owner] += move.count
                touched[owner] = None
        for owner in before:
            if owner not in after:
                _less(self._owners, owner, move.count)
                touched[owner] = None

    def _settle_owners(
        self, touched: Iterable[Owner], rendered: Mapping[Owner, Rendered]
    ) -> tuple[dict[Owner, Rendered], set[Owner], dict[str, bool]]:
        """Bring policies and profiles up to date; also tells of each set concerned whether it was held before."""
        changed: dict[Owner, Rendered] = {}
        gone: set[Owner] = set()
        sets_before: dict[str, bool] = {}
        for owner in touched:
            old = self._held.get(owner)
            new = rendered.get(owner) if owner in self._owners else None
            if old is new:
                continue
            self._recount_sets(old, new, sets_before)
            if new is None:
                del self._held[owner]
                gone.add(owner)
            else:
                self._held[owner] = new
                if old is None or old.value != new.value:
                    changed[owner] = new
        return changed, gone, sets_before

    def _recount_sets(self, old: Rendered | None, new: Rendered | None, before: dict[str, bool]) -> None:
        for set_id in () if new is None else new.sets:
            before.setdefault(set_id, set_id in self._sets)
            self._sets[set_id] += 1
        for set_id in () if old is None else old.sets:
            before.setdefault(set_id, True)
            _less(self._sets, set_id)


@dataclass(slots=True)
class _Move:
    """How many endpoints leave one list of tiers and profiles for another."""

    old: EndpointPolicy | HostPolicy | None
    new: EndpointPolicy | HostPolicy | None
    count: int = 0


def _likeness(endpoint: EndpointPolicy | HostPolicy | None) -> tuple[object, ...]:
    """The same for endpoints that name the same policies and profiles: their lists of tiers are shared objects."""
    if endpoint is None:
        return ()
    return (*map(id, _lists_of(endpoint)), endpoint.profiles)


def _less(counts: Counter[_Key], key: _Key, by: int = 1) -> None:
    counts[key] -= by
    if not counts[key]:
        del counts[key]


def _apart(owners: Mapping[Owner, Rendered]) -> tuple[dict[PolicyId, SnapshotPolicy], dict[str, SnapshotProfile]]:
    """Policies and profiles apart."""
    policies: dict[PolicyId, SnapshotPolicy] = {}
    profiles: dict[str, SnapshotProfile] = {}
    for found in owners.values():
        if isinstance(found.value, SnapshotPolicy):
            policies[found.value.policy_id] = found.value
        else:
            profiles[found.value.name] = found.value
    return policies, profiles


def _owners_of(endpoint: EndpointPolicy | HostPolicy | None) -> dict[Owner, None]:
    """Every policy and profile that an endpoint names."""
    if endpoint is None:
        return {}
    owners: dict[Owner, None] = dict.fromkeys(endpoint.profiles)
    for tier in chain.from_iterable(_lists_of(endpoint)):
        owners.update(dict.fromkeys(tier.ingress))
        owners.update(dict.fromkeys(tier.egress))
    return owners


def _lists_of(endpoint: EndpointPolicy | HostPolicy) -> tuple[tuple[TierPolicies, ...], ...]:
    if isinstance(endpoint, EndpointPolicy):
        return (endpoint.tiers,)
    return endpoint.tiers, endpoint.forward_tiers, endpoint.pre_dnat_tiers, endpoint.untracked_tiers
