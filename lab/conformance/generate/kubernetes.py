# SPDX-License-Identifier: Apache-2.0
"""Network policies of Kubernetes."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.facts import Facts
from lab.conformance.generate.rules import Direction, near
from lab.conformance.generate.selectors import label_selectors

__all__ = ["kubernetes_policies"]

_TYPES: tuple[list[str] | None, ...] = (None, ["Ingress"], ["Egress"], ["Ingress", "Egress"])
_PEER_KEY: dict[Direction, str] = {"ingress": "from", "egress": "to"}


@st.composite
def kubernetes_policies(draw: st.DrawFn, facts: Facts, name: str) -> dict[str, Any]:
    """A NetworkPolicy of networking.k8s.io/v1."""
    spec: dict[str, Any] = {"podSelector": draw(label_selectors(facts.pod_labels))}
    if (types := draw(st.sampled_from(_TYPES))) is not None:
        spec["policyTypes"] = types
    directions: tuple[Direction, ...] = ("ingress", "egress")
    for direction in directions:
        if types is None or direction.capitalize() in types:
            spec[direction] = draw(st.lists(_rule(facts, direction), max_size=2))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": draw(st.sampled_from(facts.namespaces))},
        "spec": {key: value for key, value in spec.items() if value or key == "podSelector"},
    }


@st.composite
def _rule(draw: st.DrawFn, facts: Facts, direction: Direction) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    shape = draw(st.sampled_from(("", "peers", "ports", "peers ports")))
    if "peers" in shape:
        rule[_PEER_KEY[direction]] = draw(st.lists(_peer(facts), min_size=1, max_size=2))
    if "ports" in shape:
        rule["ports"] = draw(st.lists(_port(facts), min_size=1, max_size=2))
    return rule


@st.composite
def _peer(draw: st.DrawFn, facts: Facts) -> dict[str, Any]:
    form = draw(st.sampled_from(("podSelector", "namespaceSelector", "both", "ipBlock", "ipBlock-except")))
    peer: dict[str, Any] = {}
    if form in {"podSelector", "both"}:
        peer["podSelector"] = draw(label_selectors(facts.pod_labels))
    if form in {"namespaceSelector", "both"}:
        peer["namespaceSelector"] = draw(label_selectors(facts.namespace_labels))
    if form.startswith("ipBlock"):
        family = draw(st.sampled_from([family for family in (4, 6) if facts.nets(family)]))
        peer["ipBlock"] = draw(_block(facts.nets(family), excepting=form.endswith("except")))
    return peer


@st.composite
def _block(draw: st.DrawFn, nets: tuple[str, ...], *, excepting: bool) -> dict[str, Any]:
    """A range, and with ``excepting`` one strictly inside it, as the API server demands."""
    outer = ip_network(draw(st.sampled_from(nets)))
    inside = [
        text
        for text, net in ((text, ip_network(text)) for text in nets)
        if net.prefixlen > outer.prefixlen and outer.overlaps(net)
    ]
    if not excepting or not inside:
        return {"cidr": str(outer)}
    return {"cidr": str(outer), "except": [draw(st.sampled_from(inside))]}


@st.composite
def _port(draw: st.DrawFn, facts: Facts) -> dict[str, Any]:
    protocol, port = draw(st.sampled_from(facts.ports))
    # Kubernetes knows names of at most 15 lower-case letters, digits and '-'.
    name = draw(st.sampled_from([each for each in facts.port_names if _is_service_name(each)]))
    choices: tuple[dict[str, Any], ...] = (
        {"protocol": protocol, "port": port},
        {"port": port},
        {"protocol": protocol, "port": port, "endPort": near(port, 1)},
        {"protocol": protocol, "port": near(port, -1), "endPort": port},
        {"protocol": protocol, "port": name},
        {"protocol": protocol},
    )
    return draw(st.sampled_from(choices))


def _is_service_name(name: str) -> bool:
    """Whether a name is an IANA service name (RFC 6335, section 5.1), the only ones that Kubernetes takes."""
    words = name.split("-")
    plain = name.isascii() and name == name.lower() and all(word.isalnum() for word in words)
    return plain and len(name) <= 15 and any(letter.isalpha() for letter in name)
