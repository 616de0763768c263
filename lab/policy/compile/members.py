# SPDX-License-Identifier: Apache-2.0
"""The members of every set that a rule refers to, kept up as the things and services behind them change.

A member is counted for everything that brings it: an address that a pod and a network set share stays until both
are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from lab.policy.compile.index import SelectorIndex
from lab.policy.compile.labels import Labelled, ThingKey
from lab.policy.compile.sets import ServiceKey, ServiceMembers, SetMember, SetSpec, service_of
from lab.policy.resources import EndpointSlice
from lab.policy.snapshot import IpSet, MembersChange, PortMember
from lab.topology import Net

__all__ = ["SetTable"]


@dataclass(slots=True)
class _LiveSet:
    """A set in use; ``before`` tells of each member that was touched whether it was in at the last ``settle``."""

    spec: SetSpec
    counts: dict[SetMember, int] = field(default_factory=dict)
    before: dict[SetMember, bool] = field(default_factory=dict)
    users: int = 0

    def add(self, members: Iterable[SetMember]) -> None:
        for member in members:
            count = self.counts.get(member, 0)
            if not count:
                self.before.setdefault(member, False)
            self.counts[member] = count + 1

    def discard(self, members: Iterable[SetMember]) -> None:
        for member in members:
            self.counts[member] -= 1
            if not self.counts[member]:
                del self.counts[member]
                self.before.setdefault(member, True)


class SetTable:
    """Every set that somebody uses, with its members."""

    def __init__(self, index: SelectorIndex[ThingKey], things: Mapping[ThingKey, Labelled]) -> None:
        self._index = index
        self._things = things
        self._slices: dict[tuple[str, str], EndpointSlice] = {}
        self._of_service: dict[ServiceKey, dict[str, EndpointSlice]] = {}
        self._live: dict[str, _LiveSet] = {}
        self._by_selector: dict[str, set[str]] = {}
        self._by_service: dict[ServiceKey, set[str]] = {}
        self._touched: set[str] = set()

    def acquire(self, specs: Iterable[SetSpec]) -> None:
        """Count one more user of each of these sets; a new one is filled."""
        for spec in specs:
            live = self._live.get(spec.set_id)
            if live is None:
                live = self._live[spec.set_id] = _LiveSet(spec)
                live.add(self._found(spec))
                live.before.clear()
            live.users += 1

    def _found(self, spec: SetSpec) -> Iterator[SetMember]:
        if isinstance(spec, ServiceMembers):
            self._by_service.setdefault(spec.service, set()).add(spec.set_id)
            for endpoints in self._of_service.get(spec.service, {}).values():
                yield from spec.members(endpoints)
        else:
            self._index.watch(spec.selector)
            self._by_selector.setdefault(spec.selector.canonical, set()).add(spec.set_id)
            for key in self._index.matching(spec.selector):
                yield from spec.members(self._things[key])

    def release(self, specs: Iterable[SetSpec]) -> None:
        """Count one user less of each; those without any are forgotten by the next ``settle``."""
        for spec in specs:
            self._live[spec.set_id].users -= 1
            self._touched.add(spec.set_id)

    def moved(self, canonical: str, thing: Labelled, *, entered: bool) -> None:
        """A thing begins or ceases to match a selector."""
        for set_id in self._by_selector.get(canonical, ()):
            live = self._live[set_id]
            if not isinstance(live.spec, ServiceMembers):
                (live.add if entered else live.discard)(live.spec.members(thing))
                self._touched.add(set_id)

    def put_slice(self, endpoints: EndpointSlice) -> None:
        """An EndpointSlice comes or changes."""
        name = endpoints.namespace, endpoints.name
        if name in self._slices:
            self.remove_slice(self._slices[name])
        self._slices[name] = endpoints
        self._of_service.setdefault(service_of(endpoints), {})[endpoints.name] = endpoints
        self._behind_service(endpoints, entered=True)

    def remove_slice(self, endpoints: EndpointSlice) -> None:
        """An EndpointSlice goes."""
        del self._slices[endpoints.namespace, endpoints.name]
        del self._of_service[service_of(endpoints)][endpoints.name]
        self._behind_service(endpoints, entered=False)

    def _behind_service(self, endpoints: EndpointSlice, *, entered: bool) -> None:
        for set_id in self._by_service.get(service_of(endpoints), ()):
            live = self._live[set_id]
            if isinstance(live.spec, ServiceMembers):
                (live.add if entered else live.discard)(live.spec.members(endpoints))
                self._touched.add(set_id)

    def ip_set(self, set_id: str) -> IpSet:
        """A set as it stands."""
        live = self._live[set_id]
        held = frozenset(live.counts)
        if live.spec.kind == "net":
            return IpSet(set_id, "net", nets=cast("frozenset[Net]", held), about=live.spec.about)
        return IpSet(set_id, "port", ports=cast("frozenset[PortMember]", held), about=live.spec.about)

    def changes(self) -> dict[str, MembersChange]:
        """What came to and went from the sets since the last ``settle``, of those that changed in the end."""
        found = {set_id: _change(self._live[set_id]) for set_id in self._touched}
        return {set_id: change for set_id, change in found.items() if change.added or change.removed}

    def settle(self) -> None:
        """Take the sets as they stand for what everybody knows; forget those that nobody uses."""
        for set_id in self._touched:
            live = self._live[set_id]
            live.before.clear()
            if not live.users:
                self._forget(live.spec)
        self._touched.clear()

    def _forget(self, spec: SetSpec) -> None:
        del self._live[spec.set_id]
        if isinstance(spec, ServiceMembers):
            self._by_service[spec.service].discard(spec.set_id)
        else:
            self._by_selector[spec.selector.canonical].discard(spec.set_id)
            self._index.unwatch(spec.selector)


def _change(live: _LiveSet) -> MembersChange:
    return MembersChange(
        frozenset(member for member, was in live.before.items() if not was and member in live.counts),
        frozenset(member for member, was in live.before.items() if was and member not in live.counts),
    )
