# SPDX-License-Identifier: Apache-2.0
"""All snapshots of a topology: the policies rendered once, then shared out to the nodes that need them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from lab.policy.compile.calico import calico_form, numbered
from lab.policy.compile.forms import PolicyForm
from lab.policy.compile.index import LabelIndex, members
from lab.policy.compile.kubernetes import kubernetes_form
from lab.policy.compile.labels import all_profiles, labelled_network_set, labelled_workload, profiles_of
from lab.policy.compile.order import all_tiers, policy_order, tier_order
from lab.policy.compile.rules import flat_rules
from lab.policy.compile.sets import SetBuilder
from lab.policy.resources import Direction, KubernetesNetworkPolicy, Policy, Profile, Resources, Tier
from lab.policy.snapshot import (
    EndpointPolicy,
    IpSet,
    PolicyId,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    TierPolicies,
)
from lab.topology import Topology, Workload

__all__ = ["compile_snapshots"]


def compile_snapshots(topology: Topology, resources: Resources) -> Mapping[str, Snapshot]:
    """What every node must enforce, by the node's name: only policies and sets that its own workloads need."""
    profiles = all_profiles(topology, resources)
    workloads = [workload for workload in topology.workloads.values() if workload.addresses]
    labelled = [labelled_workload(workload, profiles) for workload in workloads]
    network_sets = [labelled_network_set(network_set, profiles) for network_set in resources.network_sets]
    tiers = _sorted_tiers(map(_form, resources.policies), all_tiers(resources.tiers))
    attached = _attached(tiers, LabelIndex(thing.labels for thing in labelled), len(workloads))
    renderer = _Renderer(
        {form.policy_id: form for tier in tiers for form in tier.policies},
        profiles,
        SetBuilder([*labelled, *network_sets]),
    )
    by_node: dict[str, list[EndpointPolicy]] = {name: [] for name in topology.nodes}
    for workload, tier_policies in zip(workloads, attached, strict=True):
        by_node[workload.node].append(_endpoint(workload, tier_policies))
    return {name: renderer.snapshot(name, endpoints) for name, endpoints in by_node.items()}


def _form(policy: Policy) -> PolicyForm:
    return kubernetes_form(policy) if isinstance(policy, KubernetesNetworkPolicy) else calico_form(policy)


@dataclass(frozen=True, slots=True)
class _TierForm:
    """A tier and all of its policies, in order."""

    name: str
    pass_by_default: bool
    policies: tuple[PolicyForm, ...]


def _sorted_tiers(policies: Iterable[PolicyForm], tiers: Mapping[str, Tier]) -> list[_TierForm]:
    """The tiers that have policies, in order; one that does not exist still enforces them, and ends in a deny."""
    by_tier = sorted(policies, key=lambda policy: (tier_order(policy.tier, tiers), policy_order(policy)))
    return [
        _TierForm(name, name in tiers and tiers[name].pass_by_default, tuple(group))
        for name, group in groupby(by_tier, key=lambda policy: policy.tier)
    ]


def _attached(tiers: Sequence[_TierForm], index: LabelIndex, count: int) -> list[tuple[TierPolicies, ...]]:
    """For each of ``count`` workloads the tiers that have a say in any of its directions."""
    attached: list[list[TierPolicies]] = [[] for _ in range(count)]
    for tier in tiers:
        ingress: dict[int, list[PolicyId]] = {}
        egress: dict[int, list[PolicyId]] = {}
        for policy in tier.policies:
            for position in members(index.matching(policy.subject)):
                if Direction.INGRESS in policy.types:
                    ingress.setdefault(position, []).append(policy.policy_id)
                if Direction.EGRESS in policy.types:
                    egress.setdefault(position, []).append(policy.policy_id)
        for position in ingress.keys() | egress.keys():
            both = tuple(ingress.get(position, ())), tuple(egress.get(position, ()))
            attached[position].append(TierPolicies(tier.name, *both, tier.pass_by_default))
    return [tuple(own) for own in attached]


def _endpoint(workload: Workload, tiers: tuple[TierPolicies, ...]) -> EndpointPolicy:
    return EndpointPolicy(workload.interface, workload.name, workload.addresses, tiers, profiles_of(workload))


class _Renderer:
    """Makes policies, profiles and sets when the first endpoint needs them, each once for all nodes."""

    def __init__(self, forms: Mapping[PolicyId, PolicyForm], profiles: Mapping[str, Profile], sets: SetBuilder) -> None:
        self._forms = forms
        self._profiles = profiles
        self._sets = sets
        self._policies: dict[PolicyId, SnapshotPolicy] = {}
        self._rendered_profiles: dict[str, SnapshotProfile] = {}

    def snapshot(self, node: str, endpoints: Iterable[EndpointPolicy]) -> Snapshot:
        """The snapshot of a node with these endpoints."""
        own = {endpoint.interface: endpoint for endpoint in endpoints}
        policies = {policy_id: self._policy(policy_id) for policy_id in _active(own.values())}
        names = dict.fromkeys(chain.from_iterable(endpoint.profiles for endpoint in own.values()))
        profiles = {name: self._profile(name) for name in names if name in self._profiles}
        ip_sets = _referenced(chain(policies.values(), profiles.values()), self._sets.sets)
        return Snapshot(node, own, policies, profiles, ip_sets)

    def _policy(self, policy_id: PolicyId) -> SnapshotPolicy:
        if policy_id not in self._policies:
            form = self._forms[policy_id]
            ingress, egress = (
                flat_rules(form.rules(direction), str(policy_id), policy_id.namespace, direction, self._sets)
                for direction in Direction
            )
            self._policies[policy_id] = SnapshotPolicy(policy_id, form.tier, ingress, egress)
        return self._policies[policy_id]

    def _profile(self, name: str) -> SnapshotProfile:
        if name not in self._rendered_profiles:
            profile = self._profiles[name]
            both = ((profile.ingress, Direction.INGRESS), (profile.egress, Direction.EGRESS))
            ingress, egress = (
                flat_rules(numbered(rules), f"Profile/{name}", "", direction, self._sets) for rules, direction in both
            )
            self._rendered_profiles[name] = SnapshotProfile(name, ingress, egress)
        return self._rendered_profiles[name]


def _active(endpoints: Iterable[EndpointPolicy]) -> Iterable[PolicyId]:
    """Every policy that one of the endpoints names, once, in the order of the first one that does."""
    return dict.fromkeys(
        policy_id for endpoint in endpoints for tier in endpoint.tiers for policy_id in chain(tier.ingress, tier.egress)
    )


def _referenced(owners: Iterable[SnapshotPolicy | SnapshotProfile], sets: Mapping[str, IpSet]) -> dict[str, IpSet]:
    """The sets that the rules of these policies and profiles name."""
    rules = chain.from_iterable(chain(owner.ingress, owner.egress) for owner in owners)
    return {set_id: sets[set_id] for set_id in sorted(set(chain.from_iterable(map(_set_ids, rules))))}


def _set_ids(rule: SnapshotRule) -> Iterator[str]:
    for side in (rule.source, rule.destination):
        yield from chain(side.sets, side.not_sets, side.port_sets, side.not_port_sets)
