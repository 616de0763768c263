# SPDX-License-Identifier: Apache-2.0
"""Ways to misread resources: each changes what a dataplane is told to what somebody would make of it by mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from lab.errors import Place
from lab.policy.resources import (
    AdminPeer,
    AdminPolicy,
    AdminRule,
    CalicoPolicy,
    EntityRule,
    FelixConfiguration,
    HostEndpoint,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesRule,
    Policy,
    Resources,
    Rule,
)
from lab.policy.selector import Selector, parse_selector
from lab.topology import Topology

__all__ = [
    "Misreading",
    "admin_peers",
    "admin_policies",
    "admin_rules",
    "calico",
    "felix",
    "hosts",
    "kubernetes",
    "kubernetes_peers",
    "kubernetes_rules",
    "policies",
    "rules",
    "selectors",
    "sides",
    "workloads",
]

Item = TypeVar("Item")
_NOWHERE = Place("misread")
Reading = tuple[Topology, Resources]
Change = Callable[[Topology, Resources], Reading]
Changed = Item | None | tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Misreading:
    """What is read wrongly, in words and in deed, and the expectations of which each must notice it."""

    name: str
    wrong: str
    caught_by: tuple[str, ...]
    change: Change


def _each(items: Iterable[Item], change: Callable[[Item], Changed[Item]]) -> tuple[Item, ...]:
    """What a change makes of each item: another one, several, or (None) nothing."""
    found: list[Item] = []
    for item in items:
        changed = change(item)
        if isinstance(changed, tuple):
            found += changed
        elif changed is not None:
            found.append(changed)
    return tuple(found)


def policies(change: Callable[[Policy], Changed[Policy]]) -> Change:
    """Every policy of whatever kind."""
    return lambda topology, told: (topology, replace(told, policies=_each(told.policies, change)))


def calico(change: Callable[[CalicoPolicy], Changed[Policy]]) -> Change:
    """Every policy of Calico's kinds."""
    return policies(lambda policy: change(policy) if isinstance(policy, CalicoPolicy) else policy)


def kubernetes(change: Callable[[KubernetesNetworkPolicy], Changed[Policy]]) -> Change:
    """Every Kubernetes NetworkPolicy."""
    return policies(lambda policy: change(policy) if isinstance(policy, KubernetesNetworkPolicy) else policy)


def admin_policies(change: Callable[[AdminPolicy], Changed[Policy]]) -> Change:
    """Every admin policy, of all three kinds."""
    return policies(lambda policy: change(policy) if isinstance(policy, AdminPolicy) else policy)


def rules(change: Callable[[Rule], Changed[Rule]]) -> Change:
    """Every rule of Calico's policies and profiles."""

    def changed(topology: Topology, told: Resources) -> Reading:
        _, read = calico(lambda policy: _with_rules(policy, change))(topology, told)
        profiles = tuple(
            replace(each, ingress=_each(each.ingress, change), egress=_each(each.egress, change))
            for each in read.profiles
        )
        return topology, replace(read, profiles=profiles)

    return changed


def _with_rules(policy: CalicoPolicy, change: Callable[[Rule], Changed[Rule]]) -> CalicoPolicy:
    return replace(policy, ingress=_each(policy.ingress, change), egress=_each(policy.egress, change))


def sides(change: Callable[[EntityRule], EntityRule]) -> Change:
    """Both sides of every rule."""
    return rules(lambda rule: replace(rule, source=change(rule.source), destination=change(rule.destination)))


def selectors(pattern: str, instead: str) -> Change:
    """The text of every selector, of policies and rules; ``pattern`` is a regular expression."""

    def read(selector: Selector | None) -> Selector | None:
        return None if selector is None else parse_selector(re.sub(pattern, instead, selector.text))

    def side(entity: EntityRule) -> EntityRule:
        given = {name: read(getattr(entity, name)) for name in ("selector", "not_selector", "namespace_selector")}
        return replace(entity, **given)

    def policy(found: CalicoPolicy) -> CalicoPolicy:
        given = {name: read(getattr(found, name)) for name in ("namespace_selector", "service_account_selector")}
        return replace(found, selector=parse_selector(re.sub(pattern, instead, found.selector.text)), **given)

    def changed(topology: Topology, told: Resources) -> Reading:
        return calico(policy)(*sides(side)(topology, told))

    return changed


def kubernetes_rules(change: Callable[[KubernetesRule], Changed[KubernetesRule]]) -> Change:
    """Every rule of Kubernetes NetworkPolicies."""
    return kubernetes(
        lambda policy: replace(policy, ingress=_each(policy.ingress, change), egress=_each(policy.egress, change))
    )


def kubernetes_peers(change: Callable[[KubernetesPeer], Changed[KubernetesPeer]]) -> Change:
    """Every peer of Kubernetes NetworkPolicies."""
    return kubernetes_rules(lambda rule: replace(rule, peers=_each(rule.peers, change)))


def admin_rules(change: Callable[[AdminRule], Changed[AdminRule]]) -> Change:
    """Every rule of admin policies."""
    return admin_policies(
        lambda policy: replace(policy, ingress=_each(policy.ingress, change), egress=_each(policy.egress, change))
    )


def admin_peers(change: Callable[[AdminPeer], Changed[AdminPeer]]) -> Change:
    """Every peer of admin policies; a rule that has none left goes."""

    def rule(found: AdminRule) -> AdminRule | None:
        peers = _each(found.peers, change)
        return replace(found, peers=peers) if peers else None

    return admin_rules(rule)


def hosts(change: Callable[[HostEndpoint], Changed[HostEndpoint]]) -> Change:
    """Every host endpoint."""
    return lambda topology, told: (topology, replace(told, host_endpoints=_each(told.host_endpoints, change)))


def felix(change: Callable[[FelixConfiguration], Changed[FelixConfiguration]]) -> Change:
    """Every FelixConfiguration, and one for all nodes where there is none."""

    def changed(topology: Topology, told: Resources) -> Reading:
        given = told.felix_configurations
        if all(each.node is not None for each in given):
            place = given[0].place if given else _NOWHERE
            given = (FelixConfiguration(*[None] * 8, place=place), *given)
        return topology, replace(told, felix_configurations=_each(given, change))

    return changed


def workloads(change: Callable[[Topology, Resources, str], dict[str, object]]) -> Change:
    """Every workload: ``change`` gets its name and returns the fields that are read otherwise."""

    def changed(topology: Topology, told: Resources) -> Reading:
        read = {
            name: replace(workload, **change(topology, told, name)) for name, workload in topology.workloads.items()
        }
        return replace(topology, workloads=read), told

    return changed
