# SPDX-License-Identifier: Apache-2.0
"""Which policies apply to each endpoint, and the lists of tiers that this makes of them.

Source: felix/calc (policy_sorter.go, policy_resolver.go, event_sequencer.go), calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from lab.policy.compile.forms import PolicyForm, Stage
from lab.policy.compile.hosts import ALL_INTERFACES
from lab.policy.compile.index import SelectorIndex, Slots
from lab.policy.compile.labels import ThingKey, profiles_of
from lab.policy.compile.order import BUILT_IN_TIERS, policy_order, tier_order
from lab.policy.resources import Direction, HostEndpoint, Tier
from lab.policy.snapshot import EndpointPolicy, HostPolicy, PolicyId, TierPolicies
from lab.topology import Workload

__all__ = ["Attachments"]

_NORMAL = frozenset({Stage.NORMAL, Stage.FORWARD})
_Stages = frozenset[Stage]


class Attachments:
    """Policies and the endpoints that they select; the keys of ``dirty`` are those whose tiers may have changed."""

    def __init__(self, index: SelectorIndex[ThingKey]) -> None:
        self._index = index
        self._slots: Slots[PolicyId] = Slots()
        self._forms: dict[PolicyId, PolicyForm] = {}
        self._tiers = {tier.name: tier for tier in BUILT_IN_TIERS}
        self._by_subject: dict[str, set[PolicyId]] = {}
        self._attached: dict[ThingKey, int] = {}
        self._positions: dict[PolicyId, tuple[object, ...]] = {}
        # Endpoints to which the same policies apply share their lists.
        self._lists: dict[tuple[int, _Stages], tuple[TierPolicies, ...]] = {}
        self.dirty: dict[ThingKey, None] = {}

    def put(self, form: PolicyForm) -> None:
        """Attach a policy, in place of the one of its name if there is one."""
        old = self._forms.get(form.policy_id)
        if old is not None and _as_attached(old) == _as_attached(form):
            self._forms[form.policy_id] = form
            return
        # Watched first, so that a subject that stays is not answered anew.
        self._index.watch(form.subject)
        if old is not None:
            self.remove(form.policy_id)
        self._forms[form.policy_id] = form
        self._by_subject.setdefault(form.subject.canonical, set()).add(form.policy_id)
        self._flip(form)

    def remove(self, policy_id: PolicyId) -> None:
        """Detach a policy from everything that it selects."""
        form = self._forms.pop(policy_id)
        self._positions.pop(policy_id, None)
        self._flip(form)
        self._slots.release(policy_id)
        same = self._by_subject[form.subject.canonical]
        same.discard(policy_id)
        if not same:
            del self._by_subject[form.subject.canonical]
        self._index.unwatch(form.subject)

    def _flip(self, form: PolicyForm) -> None:
        bit = 1 << self._slots.slot(form.policy_id)
        self._lists.clear()
        for key in self._index.matching(form.subject):
            self._attached[key] = self._attached.get(key, 0) ^ bit
            self.dirty[key] = None

    def moved(self, canonical: str, key: ThingKey) -> None:
        """A thing begins or ceases to match a subject."""
        for policy_id in self._by_subject.get(canonical, ()):
            self._attached[key] = self._attached.get(key, 0) ^ 1 << self._slots.slot(policy_id)
            self.dirty[key] = None

    def put_tier(self, name: str, tier: Tier | None) -> None:
        """A tier comes, changes, or goes (None); nothing that a file says changes a built-in one."""
        if any(name == built_in.name for built_in in BUILT_IN_TIERS):
            return
        if tier is None:
            del self._tiers[name]
        else:
            self._tiers[name] = tier
        self._lists.clear()
        self._positions.clear()
        for form in self._forms.values():
            if form.tier == name:
                self.dirty.update(dict.fromkeys(self._index.matching(form.subject)))

    def workload(self, key: ThingKey, workload: Workload) -> EndpointPolicy:
        """What holds for a workload."""
        tiers = self._tiers_of(self._attached.get(key, 0), _NORMAL)
        return EndpointPolicy(
            workload.interface,
            workload.name,
            workload.addresses,
            tiers,
            profiles_of(workload),
            sidecar=workload.sidecar is not None,
        )

    def host_endpoint(self, key: ThingKey, interface: str, endpoint: HostEndpoint) -> HostPolicy:
        """What holds for an interface that a host endpoint covers."""
        attached = self._attached.get(key, 0)
        untracked = () if interface == ALL_INTERFACES else self._tiers_of(attached, frozenset({Stage.UNTRACKED}))
        return HostPolicy(
            interface,
            endpoint.name,
            self._tiers_of(attached, _NORMAL),
            endpoint.profiles,
            self._tiers_of(attached, frozenset({Stage.FORWARD})),
            self._tiers_of(attached, frozenset({Stage.PRE_DNAT})),
            untracked,
        )

    def forget(self, key: ThingKey) -> None:
        """An endpoint is gone."""
        self._attached.pop(key, None)
        self.dirty.pop(key, None)

    def _tiers_of(self, attached: int, stages: _Stages) -> tuple[TierPolicies, ...]:
        found = self._lists.get((attached, stages))
        if found is None:
            forms = [form for form in map(self._forms.__getitem__, self._slots.keys(attached)) if form.stage in stages]
            found = self._lists[attached, stages] = tuple(self._listed(forms))
        return found

    def _listed(self, forms: Iterable[PolicyForm]) -> Iterable[TierPolicies]:
        """Tiers that have a say in a direction, in order; one that does not exist still enforces its policies."""
        for name, group in groupby(sorted(forms, key=self._position), key=lambda form: form.tier):
            found = list(group)
            ingress = tuple(form.policy_id for form in found if Direction.INGRESS in form.types)
            egress = tuple(form.policy_id for form in found if Direction.EGRESS in form.types)
            if ingress or egress:
                yield TierPolicies(name, ingress, egress, self._passes(name, found[0].stage))

    def _position(self, form: PolicyForm) -> tuple[object, ...]:
        known = self._positions.get(form.policy_id)
        if known is None:
            known = self._positions[form.policy_id] = (*tier_order(form.tier, self._tiers), *policy_order(form))
        return known

    def _passes(self, tier: str, stage: Stage) -> bool:
        """Policies ahead of conntrack or DNAT leave what they do not decide to the others, whatever their tier."""
        return stage in (Stage.PRE_DNAT, Stage.UNTRACKED) or (tier in self._tiers and self._tiers[tier].pass_by_default)


def _as_attached(form: PolicyForm) -> tuple[object, ...]:
    """All about a policy that its endpoints' lists depend on."""
    return form.subject.canonical, form.tier, form.order, form.types, form.stage
