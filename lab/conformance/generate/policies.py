# SPDX-License-Identifier: Apache-2.0
"""Calico policies, tiers, profiles and network sets as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.admin import BASELINE, admin_policies
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.hosts import host_flags, host_resources, service_resources
from lab.conformance.generate.kubernetes import kubernetes_policies
from lab.conformance.generate.picks import chance, pick
from lab.conformance.generate.rules import Direction, rules
from lab.conformance.generate.selectors import selectors

__all__ = ["resources"]

Document = dict[str, Any]

NAMES = ("m", "b", "m-a", "z", "m.c")
"""Given in this order: neither the order of names, nor that of names with a '/' behind them."""
_LONG = "as-long-as-names-of-policies-are-in-some-clusters-"
"""What all of them begin with now and then."""

_API = "projectcalico.org/v3"
_KINDS = ("GlobalNetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy", "NetworkPolicy", "kubernetes", "admin")
_TYPES = (None, ("Ingress",), ("Egress",), ("Ingress", "Egress"))
_TIERS = (None, None, None, "late", "early")
_ORDERS = (None, 1, 1, 2.5)
_DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


def resources(draw: st.DrawFn, facts: Facts) -> tuple[Document, ...]:
    """Everything that is in force at one time; names depend on position alone, so that two draws differ in content."""
    # Without any policy little is tested; but nothing must stay behind of one that was in force before.
    bodies = draw(st.lists(_policy(facts), min_size=0 if chance(draw, 8) else 1, max_size=len(NAMES)))
    beginning = _LONG if chance(draw, 16) else ""
    policies = _without_second_baseline(
        [
            _named(body, position, beginning + name)
            for position, (body, name) in enumerate(zip(bodies, NAMES, strict=False))
        ]
    )
    used = dict.fromkeys(policy["spec"]["tier"] for policy in policies if _is_in_a_tier(policy))
    # A tier that does not exist is the last of all, so most exist.
    tiers = [_tier(draw, name) for name in used if not chance(draw, 8)]
    sets = [_network_set(draw, facts, f"set-{number}") for number in range(pick(draw, (0, 0, 1, 2)))]
    # A listed profile that nobody defines closes its workloads, so most are defined.
    defined = [name for name in facts.profiles if not chance(draw, 4)]
    profiles = [_profile(draw, facts, name) for name in defined]
    beside: list[Document] = []
    if facts.nodes and chance(draw, 3):
        beside += host_resources(draw, facts)
    if Capability.SERVICES in facts.capabilities and chance(draw, 4):
        beside += service_resources(draw, facts)
    return (*tiers, *sets, *profiles, *beside, *policies)


def _is_in_a_tier(policy: Document) -> bool:
    """Whether it names a tier of Calico's; ``tier`` of a ClusterNetworkPolicy is another thing."""
    return policy["apiVersion"] == _API and "tier" in policy["spec"]


def _tier(draw: st.DrawFn, name: str) -> Document:
    spec: Document = {"defaultAction": pick(draw, ("Deny", "Pass", "Pass"))}
    if (order := pick(draw, (1, 1, 2_000_000, None))) is not None:
        spec["order"] = order
    return {"apiVersion": _API, "kind": "Tier", "metadata": {"name": name}, "spec": spec}


def _named(policy: Document, position: int, name: str) -> Document:
    """The policy with its name, which bears that of its tier: older API servers demand it, newer ones take it.

    Admin policies are asked by a priority, which no two of them share.
    """
    if policy["kind"] == BASELINE:
        return {**policy, "metadata": {"name": "default"}}
    if policy["apiVersion"].startswith("policy."):
        return {**policy, "metadata": {"name": name}, "spec": {"priority": 10 * position, **policy["spec"]}}
    tier = policy["spec"].get("tier")
    full = name if tier is None else f"{tier}.{name}"
    return {**policy, "metadata": {"name": full, **policy["metadata"]}}


def _without_second_baseline(policies: list[Document]) -> list[Document]:
    baselines = [policy for policy in policies if policy["kind"] == BASELINE]
    return [policy for policy in policies if policy not in baselines[1:]]


@st.composite
def _policy(draw: st.DrawFn, facts: Facts) -> Document:
    """A policy but for its name, so that Hypothesis can leave one out and the others stay what they are."""
    kind = pick(draw, _KINDS)
    if kind == "admin" and Capability.ADMIN_POLICIES in facts.capabilities:
        return admin_policies(draw, facts)
    if kind in {"kubernetes", "admin"}:
        return _perhaps_staged(draw, kubernetes_policies(draw, facts))
    metadata: Document = {}
    spec: Document = {"selector": "all()" if chance(draw, 2) else selectors(draw, facts.pod_labels)}
    if (tier := pick(draw, _TIERS)) is not None:
        spec["tier"] = tier
    if kind == "NetworkPolicy":
        metadata["namespace"] = pick(draw, facts.namespaces)
    else:
        spec |= _limits(draw, facts)
    if (order := pick(draw, _ORDERS)) is not None:
        spec["order"] = order
    if (types := pick(draw, _TYPES)) is not None:
        spec["types"] = list(types)
    if kind == "GlobalNetworkPolicy" and facts.nodes and chance(draw, 5):
        spec |= host_flags(draw, facts)
        types = spec.get("types", types)
    spec |= _both_directions(draw, facts, types)
    if spec.get("preDNAT"):
        spec.pop("egress", None)
    return _perhaps_staged(draw, {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec})


def _perhaps_staged(draw: st.DrawFn, policy: Document) -> Document:
    """Now and then a policy is only staged: it must do nothing."""
    if not chance(draw, 12):
        return policy
    kubernetes = policy["apiVersion"] != _API
    kind = "StagedKubernetesNetworkPolicy" if kubernetes else f"Staged{policy['kind']}"
    return {**policy, "apiVersion": _API, "kind": kind}


def _limits(draw: st.DrawFn, facts: Facts) -> Document:
    """What else limits the subjects of a GlobalNetworkPolicy; mostly nothing."""
    form = pick(draw, ("", "", "", "", "", "namespaceSelector", "serviceAccountSelector"))
    if form == "namespaceSelector":
        return {form: selectors(draw, facts.namespace_labels)}
    return {form: selectors(draw, facts.account_labels)} if form else {}


def _both_directions(draw: st.DrawFn, facts: Facts, types: Sequence[str] | None) -> Document:
    """Rules for the directions in force, and now and then for one that is not, where they must do nothing."""
    spec: Document = {}
    for direction in _DIRECTIONS:
        idle = types is not None and direction.capitalize() not in types
        if idle and not chance(draw, 4):
            continue
        if drawn := draw(st.lists(rules(facts, direction), min_size=0 if chance(draw, 6) else 1, max_size=4)):
            # Behind a rule that allows everything, what the others deny or pass on shows; at the tier's end it may not.
            # Rules about requests allow, and that would not show.
            open_end = not (facts.sidecars and direction == "ingress") and chance(draw, 2)
            spec[direction] = [*drawn, {"action": "Allow"}] if open_end else drawn
    return spec


def _network_set(draw: st.DrawFn, facts: Facts, name: str) -> Document:
    """A set that bears a label of the pods, so that selectors for them reach it."""
    key = pick(draw, tuple(facts.pod_labels))
    metadata: Document = {"name": name, "labels": {key: pick(draw, facts.pod_labels[key])}}
    kind = pick(draw, ("GlobalNetworkSet", "NetworkSet"))
    if kind == "NetworkSet":
        metadata["namespace"] = pick(draw, facts.namespaces)
    choices = ("0.0.0.0/0", "::/0", *facts.nets(4), *facts.nets(6))
    nets = [pick(draw, choices) for _ in range(pick(draw, (1, 1, 2, 3)))]
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": {"nets": nets}}


def _profile(draw: st.DrawFn, facts: Facts, name: str) -> Document:
    """A profile: open, with some rules, or with none; its labels compete with those of the pods."""
    spec: Document = {}
    form = pick(draw, ("open", "open", "rules", "closed"))
    for direction in _DIRECTIONS:
        if form == "open":
            spec[direction] = [{"action": "Allow"}]
        elif form == "rules" and (drawn := draw(st.lists(rules(facts, direction, profile=True), max_size=2))):
            spec[direction] = drawn
    if chance(draw, 2):
        key = pick(draw, tuple(facts.pod_labels))
        spec["labelsToApply"] = {key: pick(draw, facts.pod_labels[key])}
    return {"apiVersion": _API, "kind": "Profile", "metadata": {"name": name}, "spec": spec}
