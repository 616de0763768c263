# SPDX-License-Identifier: Apache-2.0
"""Admin policies of the network policy API: v1alpha1 and v1alpha2."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.facts import Facts
from lab.conformance.generate.picks import chance, pick
from lab.conformance.generate.rules import Direction, near
from lab.conformance.generate.selectors import label_selectors

__all__ = ["BASELINE", "admin_policies"]

Document = dict[str, Any]

BASELINE = "BaselineAdminNetworkPolicy"
"""The kind of which there is one, named ``default``, without a priority."""

_KINDS = ("AdminNetworkPolicy", "ClusterNetworkPolicy", "AdminNetworkPolicy", BASELINE)
_PEER_KEY: dict[Direction, str] = {"ingress": "from", "egress": "to"}
_DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
_UNKNOWN: Document = {"carrierPigeon": {}}


def admin_policies(draw: st.DrawFn, facts: Facts) -> Document:
    """An admin policy but for its name and priority, which depend on where it stands: equal ones have no order."""
    kind = pick(draw, _KINDS)
    cluster = kind == "ClusterNetworkPolicy"
    spec: Document = {"subject": _pods(draw, facts)}
    if cluster:
        spec["tier"] = pick(draw, ("Admin", "Baseline"))
    actions = ["Accept" if cluster else "Allow", "Deny", *(() if kind == BASELINE else ("Pass",))]
    for direction in _DIRECTIONS:
        rules = [_rule(draw, facts, direction, actions, cluster=cluster) for _ in range(pick(draw, (1, 1, 0, 2)))]
        if rules:
            spec[direction] = rules
    version = "v1alpha2" if cluster else "v1alpha1"
    return {"apiVersion": f"policy.networking.k8s.io/{version}", "kind": kind, "metadata": {}, "spec": spec}


def _pods(draw: st.DrawFn, facts: Facts) -> Document:
    """A subject, or a peer: all pods of some namespaces, or those with certain labels."""
    namespaces = label_selectors(draw, facts.namespace_labels)
    if chance(draw, 2):
        return {"namespaces": namespaces}
    return {"pods": {"namespaceSelector": namespaces, "podSelector": label_selectors(draw, facts.pod_labels)}}


def _rule(draw: st.DrawFn, facts: Facts, direction: Direction, actions: list[str], *, cluster: bool) -> Document:
    action = pick(draw, actions)
    peers = [_peer(draw, facts, direction) for _ in range(pick(draw, (1, 1, 2)))]
    rule: Document = {"action": action, _PEER_KEY[direction]: peers}
    if chance(draw, 2):
        ports = [_port(draw, facts) for _ in range(pick(draw, (1, 1, 2)))]
        rule["protocols" if cluster else "ports"] = [_as_protocol(port) for port in ports] if cluster else ports
    return rule


def _peer(draw: st.DrawFn, facts: Facts, direction: Direction) -> Document:
    form = pick(draw, ("pods", "pods", "pods", "networks", "nodes", "unknown"))
    if form == "unknown" and chance(draw, 2):
        return dict(_UNKNOWN)
    if direction == "egress" and form == "networks":
        return {"networks": [pick(draw, facts.nets(pick(draw, facts.families)))]}
    if direction == "egress" and form == "nodes":
        return {"nodes": label_selectors(draw, facts.node_labels)}
    return _pods(draw, facts)


def _port(draw: st.DrawFn, facts: Facts) -> Document:
    """An entry of ``ports`` as v1alpha1 has it."""
    protocol, port = pick(draw, facts.ports)
    choices: tuple[Document, ...] = (
        {"portNumber": {"protocol": protocol, "port": port}},
        {"portRange": {"protocol": protocol, "start": near(port, -1), "end": near(port, 1)}},
        {"namedPort": pick(draw, facts.port_names)},
        {"portRange": {"protocol": protocol, "start": port, "end": near(port, 2)}},
        {"namedPort": pick(draw, facts.port_names)},
    )
    return pick(draw, choices)


def _as_protocol(port: Document) -> Document:
    """The same as v1alpha2 has it."""
    if "namedPort" in port:
        return {"destinationNamedPort": port["namedPort"]}
    (given,) = port.values()
    ends = {key: given[key] for key in ("start", "end") if key in given}
    at: Document = {"range": ends} if ends else {"number": given["port"]}
    return {given["protocol"].lower(): {"destinationPort": at}}
