# SPDX-License-Identifier: Apache-2.0
"""Calico policies, tiers, profiles and network sets as documents."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.facts import Facts
from lab.conformance.generate.kubernetes import kubernetes_policies
from lab.conformance.generate.rules import Direction, rules
from lab.conformance.generate.selectors import selectors

__all__ = ["resources"]

Document = dict[str, Any]

NAMES = ("m", "b", "m-a", "z", "m.c")
"""Given in this order: neither the order of names, nor that of names with a '/' behind them."""
MAX_POLICIES = 4
MAX_TIERS = 2
TIERS = ("late", "early")

_API = "projectcalico.org/v3"
_KINDS = ("GlobalNetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy", "NetworkPolicy", "kubernetes")
_TYPES: tuple[list[str] | None, ...] = (None, ["Ingress"], ["Egress"], ["Ingress", "Egress"])
_ORDERS = (None, 1, 1, 2.5)
_DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


@st.composite
def resources(draw: st.DrawFn, facts: Facts) -> tuple[Document, ...]:
    """Everything that is in force at one time; names depend on position alone, so that two draws differ in content."""
    tiers = [draw(_tier(name)) for name in TIERS[: draw(st.sampled_from((0, 0, 1, MAX_TIERS)))]]
    policies = [draw(_policy(facts, name, tiers)) for name in NAMES[: draw(st.integers(0, MAX_POLICIES))]]
    sets = [draw(_network_set(facts, f"set-{number}")) for number in range(draw(st.sampled_from((0, 0, 1, 2))))]
    # A listed profile that nobody defines closes its workloads, so most are defined.
    defined = [name for name in facts.profiles if draw(st.sampled_from((True, True, True, False)))]
    return (*tiers, *sets, *[draw(_profile(facts, name)) for name in defined], *policies)


@st.composite
def _tier(draw: st.DrawFn, name: str) -> Document:
    spec: Document = {"defaultAction": draw(st.sampled_from(("Deny", "Pass", "Pass")))}
    if (order := draw(st.sampled_from((1, 1, 2_000_000, None)))) is not None:
        spec["order"] = order
    return {"apiVersion": _API, "kind": "Tier", "metadata": {"name": name}, "spec": spec}


@st.composite
def _policy(draw: st.DrawFn, facts: Facts, name: str, tiers: list[Document]) -> Document:
    kind = draw(st.sampled_from(_KINDS))
    if kind == "kubernetes":
        return draw(kubernetes_policies(facts, name))
    metadata: Document = {"name": name}
    spec: Document = {"selector": draw(selectors(facts.pod_labels))}
    if tiers and draw(st.booleans()):
        spec["tier"] = draw(st.sampled_from(tiers))["metadata"]["name"]
        metadata["name"] = f"{spec['tier']}.{name}"  # older API servers demand the prefix, newer ones take it
    if kind == "NetworkPolicy":
        metadata["namespace"] = draw(st.sampled_from(facts.namespaces))
    else:
        spec |= draw(_limits(facts))
    if (order := draw(st.sampled_from(_ORDERS))) is not None:
        spec["order"] = order
    if (types := draw(st.sampled_from(_TYPES))) is not None:
        spec["types"] = types
    spec |= draw(_both_directions(facts, types))
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}


@st.composite
def _limits(draw: st.DrawFn, facts: Facts) -> Document:
    """What else limits the subjects of a GlobalNetworkPolicy; mostly nothing."""
    form = draw(st.sampled_from(("", "", "", "", "", "namespaceSelector", "serviceAccountSelector")))
    if form == "namespaceSelector":
        return {form: draw(selectors(facts.namespace_labels))}
    return {form: draw(selectors(facts.account_labels))} if form else {}


@st.composite
def _both_directions(draw: st.DrawFn, facts: Facts, types: list[str] | None) -> Document:
    """Rules for the directions in force, and now and then for one that is not, where they must do nothing."""
    spec: Document = {}
    for direction in _DIRECTIONS:
        idle = types is not None and direction.capitalize() not in types
        if idle and not draw(st.sampled_from((False, False, False, True))):
            continue
        if drawn := draw(st.lists(rules(facts, direction), max_size=3)):
            spec[direction] = drawn
    return spec


@st.composite
def _network_set(draw: st.DrawFn, facts: Facts, name: str) -> Document:
    """A set that bears a label of the pods, so that selectors for them reach it."""
    key = draw(st.sampled_from(tuple(facts.pod_labels)))
    metadata: Document = {"name": name, "labels": {key: draw(st.sampled_from(facts.pod_labels[key]))}}
    kind = draw(st.sampled_from(("GlobalNetworkSet", "NetworkSet")))
    if kind == "NetworkSet":
        metadata["namespace"] = draw(st.sampled_from(facts.namespaces))
    choices = (*facts.nets(4), *facts.nets(6), "0.0.0.0/0", "::/0")
    nets = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3))
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": {"nets": nets}}


@st.composite
def _profile(draw: st.DrawFn, facts: Facts, name: str) -> Document:
    """A profile: open, with some rules, or with none; its labels compete with those of the pods."""
    spec: Document = {}
    form = draw(st.sampled_from(("open", "open", "rules", "closed")))
    for direction in _DIRECTIONS:
        if form == "open":
            spec[direction] = [{"action": "Allow"}]
        elif form == "rules" and (drawn := draw(st.lists(rules(facts, direction, profile=True), max_size=2))):
            spec[direction] = drawn
    if draw(st.booleans()):
        key = draw(st.sampled_from(tuple(facts.pod_labels)))
        spec["labelsToApply"] = {key: draw(st.sampled_from(facts.pod_labels[key]))}
    return {"apiVersion": _API, "kind": "Profile", "metadata": {"name": name}, "spec": spec}
