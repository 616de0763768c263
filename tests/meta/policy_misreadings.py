# SPDX-License-Identifier: Apache-2.0
"""Misreadings of Calico's policies, sets, profiles and services: whom they are for, and when they are asked."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from misread import (
    Change,
    Misreading,
    Reading,
    calico,
    policies,
    rules,
    sides,
    workloads,
)

from lab.policy.resources import (
    AdminPolicy,
    CalicoPolicy,
    Direction,
    EntityRule,
    KubernetesNetworkPolicy,
    NetworkSet,
    PortRange,
    Profile,
    ProtocolMatch,
    Resources,
    Rule,
    StagedAction,
)
from lab.protocols import TCP
from lab.topology import Topology

__all__ = ["POLICY_MISREADINGS"]


def _without(direction: Direction) -> Change:
    return policies(
        lambda policy: policy if isinstance(policy, AdminPolicy) else replace(policy, types=policy.types - {direction})
    )


def _types_of_rules(policy: CalicoPolicy) -> CalicoPolicy:
    written = ((Direction.INGRESS, policy.ingress), (Direction.EGRESS, policy.egress))
    return replace(policy, types=frozenset(direction for direction, found in written if found))


def _ordered_as_written(by_name: bool) -> Change:
    """Orders are kept; what is equal is told apart by the place in the file, or by kind and name."""

    def changed(topology: Topology, told: Resources) -> Reading:
        found = [policy for policy in told.policies if isinstance(policy, CalicoPolicy)]
        if by_name:
            found.sort(key=lambda policy: (policy.name, policy.kind, policy.namespace or ""))
        rank = {(policy.kind, policy.namespace, policy.name): index / 1e3 for index, policy in enumerate(found)}

        def with_order(policy: CalicoPolicy) -> CalicoPolicy:
            own = rank[policy.kind, policy.namespace, policy.name]
            return replace(policy, order=(1e6 if policy.order is None else policy.order) + own)

        return calico(with_order)(topology, told)

    return changed


def _tiers_as_orders(topology: Topology, told: Resources) -> Reading:
    tiers = tuple(replace(tier, order=(tier.order or 0) + 10_000) for tier in told.tiers)
    return topology, replace(told, tiers=tiers)


def _without_missing_tiers(topology: Topology, told: Resources) -> Reading:
    known = {"default", "kube-admin", "kube-baseline", *(tier.name for tier in told.tiers)}
    return calico(lambda policy: policy if policy.tier in known else None)(topology, told)


def _enforced(policy: CalicoPolicy | KubernetesNetworkPolicy) -> CalicoPolicy | KubernetesNetworkPolicy:
    if policy.staged is not StagedAction.SET:
        return policy
    if isinstance(policy, KubernetesNetworkPolicy):
        return replace(policy, staged=None)
    kind = "NetworkPolicy" if policy.namespace else "GlobalNetworkPolicy"
    return replace(policy, staged=None, kind=kind)


def _first_of_each_tier(topology: Topology, told: Resources) -> Reading:
    seen: set[str] = set()

    def first(policy: CalicoPolicy) -> CalicoPolicy | None:
        known = policy.tier in seen
        seen.add(policy.tier)
        return None if known else policy

    return calico(first)(topology, told)


def _without_sets(topology: Topology, told: Resources) -> Reading:
    return topology, replace(told, network_sets=())


def _sets_of_everybody(topology: Topology, told: Resources) -> Reading:
    """A set is found from every namespace: each has a copy of it."""

    def copies(found: NetworkSet) -> list[NetworkSet]:
        if found.namespace is None:
            return [found]
        return [
            replace(found, namespace=name, name=f"{found.name}-of-{found.namespace}") for name in topology.namespaces
        ]

    return topology, replace(told, network_sets=tuple(copy for each in told.network_sets for copy in copies(each)))


def _service_nets(topology: Topology, told: Resources) -> Reading:
    def side(entity: EntityRule) -> EntityRule:
        if entity.services is None:
            return entity
        named = [part for part in told.endpoint_slices if part.service == entity.services.name]
        nets = tuple(ip_network(address) for part in named for address in part.addresses)
        return replace(entity, services=None, nets=tuple(dict.fromkeys(nets)))

    return sides(side)(topology, told)


def _service_ports_at_the_source(topology: Topology, told: Resources) -> Reading:
    def rule(found: Rule) -> Rule:
        if found.source.services is None:
            return found
        named = [part for part in told.endpoint_slices if part.service == found.source.services.name]
        ports = tuple(PortRange(port.port, port.port) for part in named for port in part.ports)
        opened = replace(found.destination, ports=ports) if not found.destination.ports else found.destination
        return replace(found, destination=opened, protocol=ProtocolMatch(TCP, by_name=True))

    return rules(rule)(topology, told)


def _first_slice_only(topology: Topology, told: Resources) -> Reading:
    first = {part.service: part for part in reversed(told.endpoint_slices)}
    return topology, replace(told, endpoint_slices=tuple(first.values()))


def _forged_labels_count(topology: Topology, told: Resources) -> Reading:
    forged = {
        name: {key: value for key, value in workload.labels.items() if key.startswith(("pcns.", "pcsa."))}
        for name, workload in topology.workloads.items()
    }
    profiles = tuple(Profile(f"of {name}", (), (), labels) for name, labels in forged.items() if labels)

    def posing(_topology: Topology, _told: Resources, name: str) -> dict[str, object]:
        if not forged[name]:
            return {}
        return {"profiles": (f"of {name}", f"kns.{topology.workloads[name].namespace}")}

    read, _ = workloads(posing)(topology, told)
    return read, replace(told, profiles=(*told.profiles, *profiles))


def _last_profile_first(topology: Topology, told: Resources) -> Reading:
    """Labels of the last profile with a key win; its rules are asked in order all the same."""
    seen: dict[str, str] = {}
    for profile in told.profiles:
        if profile.name in ("first", "second"):
            seen |= profile.labels_to_apply if profile.name == "second" else {}
    profiles = tuple(
        replace(
            each,
            labels_to_apply={**each.labels_to_apply, **{k: v for k, v in seen.items() if k in each.labels_to_apply}},
        )
        for each in told.profiles
    )
    return topology, replace(told, profiles=profiles)


def _profiles_labels_win(topology: Topology, told: Resources) -> Reading:
    inherited = {key for profile in told.profiles for key in profile.labels_to_apply}

    def bare(_topology: Topology, _told: Resources, name: str) -> dict[str, object]:
        workload = topology.workloads[name]
        if workload.profiles is None:
            return {}
        return {"labels": {key: value for key, value in workload.labels.items() if key not in inherited}}

    return workloads(bare)(topology, told)


POLICY_MISREADINGS = (
    Misreading(
        "forgets-egress",
        "No policy is asked of what workloads send.",
        (
            "path.both-ends.each-must-allow",
            "path.same-node.both-policies",
            "kubernetes.default-deny.egress",
            "kubernetes.policy.both-ends-must-allow",
            "policy.types.absent-with-both",
            "policy.types.absent-with-egress",
            "update.policy.split",
            "host.policy.egress",
            "host.to-own-node.after-workload-policy",
            "host.policy.both-nodes-must-allow",
        ),
        _without(Direction.EGRESS),
    ),
    Misreading(
        "forgets-ingress",
        "No policy is asked of what comes in.",
        (
            "kubernetes.default-deny.ingress",
            "policy.types.absent-without-rules",
            "host.policy.ingress",
            "policy.ingress.empty-isolates",
            "host.forward.workload-policy-too",
        ),
        _without(Direction.INGRESS),
    ),
    Misreading(
        "types-of-rules",
        "The directions of a policy are those for which it has rules.",
        ("policy.types.unlisted-direction-ignored",),
        calico(_types_of_rules),
    ),
    Misreading(
        "every-type",
        "Every policy holds for both directions.",
        ("tier.direction.ingress-only", "policy.types.absent-with-egress"),
        calico(lambda policy: replace(policy, types=frozenset(Direction))),
    ),
    Misreading(
        "subjects-of-any-namespace",
        "A policy's namespaceSelector is not looked at.",
        ("policy.namespace-selector.limits-subjects", "host.policy.namespace-selector-spares-hosts"),
        calico(lambda policy: replace(policy, namespace_selector=None)),
    ),
    Misreading(
        "subjects-of-any-account",
        "A policy's serviceAccountSelector is not looked at.",
        ("policy.service-account-selector.limits-subjects",),
        calico(lambda policy: replace(policy, service_account_selector=None)),
    ),
    Misreading(
        "no-order-is-zero",
        "A policy without an order is asked as if it were 0.",
        ("policy.order.absent-is-last",),
        calico(lambda policy: replace(policy, order=policy.order or 0)),
    ),
    Misreading(
        "ties-as-written",
        "Policies of equal order are asked as they are written.",
        ("policy.order.ties-by-name",),
        _ordered_as_written(by_name=False),
    ),
    Misreading(
        "ties-by-name-alone",
        "Policies of equal order are asked by name, and one of equal names by kind.",
        ("policy.order.ties-by-whole-string",),
        _ordered_as_written(by_name=True),
    ),
    Misreading(
        "tiers-after-the-built-in",
        "Tiers of the user's are asked after those that are always there.",
        ("admin.order.among-tiers",),
        _tiers_as_orders,
    ),
    Misreading(
        "missing-tiers-are-nobodys",
        "Policies of a tier that does not exist are left out.",
        ("tier.missing.asked-last",),
        _without_missing_tiers,
    ),
    Misreading(
        "staged-is-enforced",
        "Staged policies are in force.",
        (
            "staged.policy.not-enforced",
            "staged.kubernetes.not-enforced",
            "staged.tier.transparent",
            "staged.update.enforced-at-last",
        ),
        policies(lambda policy: policy if isinstance(policy, AdminPolicy) else _enforced(policy)),
    ),
    Misreading(
        "one-policy-a-tier",
        "Of several policies of a tier only the first is in force.",
        ("update.policy.split",),
        _first_of_each_tier,
    ),
    Misreading("forgets-sets", "Network sets are nobody.", ("network-set.members.cover-pods",), _without_sets),
    Misreading(
        "sets-of-everybody",
        "A network set is found from every namespace.",
        ("network-set.scope.own-namespace",),
        _sets_of_everybody,
    ),
    Misreading(
        "services-without-ports",
        "A service is the addresses behind it.",
        ("service.egress.only-its-ports",),
        _service_nets,
    ),
    Misreading(
        "services-with-ports-everywhere",
        "What comes from a service may go to the service's ports only.",
        ("service.ingress.ports-of-service-ignored",),
        _service_ports_at_the_source,
    ),
    Misreading("one-slice-a-service", "A service has one slice.", ("service.slices.add-up",), _first_slice_only),
    Misreading(
        "forged-labels-count",
        "Labels of a pod that begin as inherited ones do are taken for inherited ones.",
        ("endpoint.label.forged-prefix",),
        _forged_labels_count,
    ),
    Misreading(
        "last-profile-wins",
        "Of two profiles' labels the last counts.",
        ("profile.label.first-wins",),
        _last_profile_first,
    ),
    Misreading(
        "profiles-labels-win",
        "A profile's label beats the endpoint's.",
        ("profile.label.own-wins",),
        _profiles_labels_win,
    ),
)
