# SPDX-License-Identifier: Apache-2.0
"""Network policies of Kubernetes."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.facts import Facts
from lab.conformance.generate.picks import chance, pick
from lab.conformance.generate.rules import Direction, near
from lab.conformance.generate.selectors import label_selectors

__all__ = ["kubernetes_policies"]

_TYPES = (None, ("Ingress",), ("Egress",), ("Ingress", "Egress"))
_PEER_KEY: dict[Direction, str] = {"ingress": "from", "egress": "to"}


def kubernetes_policies(draw: st.DrawFn, facts: Facts) -> dict[str, Any]:
    """A NetworkPolicy of networking.k8s.io/v1, but for its name."""
    spec: dict[str, Any] = {"podSelector": {} if chance(draw, 2) else label_selectors(draw, facts.pod_labels)}
    if (types := pick(draw, _TYPES)) is not None:
        spec["policyTypes"] = list(types)
    directions: tuple[Direction, ...] = ("ingress", "egress")
    for direction in directions:
        if types is None or direction.capitalize() in types:
            spec[direction] = draw(st.lists(_rule(facts, direction), max_size=2))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": pick(draw, facts.namespaces)},
        "spec": {key: value for key, value in spec.items() if value or key == "podSelector"},
    }


@st.composite
def _rule(draw: st.DrawFn, facts: Facts, direction: Direction) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    shape = pick(draw, ("", "peers", "ports", "peers ports"))
    if "peers" in shape:
        rule[_PEER_KEY[direction]] = [_peer(draw, facts) for _ in range(pick(draw, (1, 1, 2)))]
    if "ports" in shape:
        rule["ports"] = [_port(draw, facts) for _ in range(pick(draw, (1, 1, 2)))]
    return rule


def _peer(draw: st.DrawFn, facts: Facts) -> dict[str, Any]:
    form = pick(draw, ("podSelector", "namespaceSelector", "both", "ipBlock", "ipBlock-except"))
    peer: dict[str, Any] = {}
    if form in {"podSelector", "both"}:
        peer["podSelector"] = label_selectors(draw, facts.pod_labels)
    if form in {"namespaceSelector", "both"}:
        peer["namespaceSelector"] = label_selectors(draw, facts.namespace_labels)
    if form.startswith("ipBlock"):
        family = pick(draw, facts.families)
        peer["ipBlock"] = _block(draw, facts.nets(family), excepting=form.endswith("except"))
    return peer


def _block(draw: st.DrawFn, nets: tuple[str, ...], *, excepting: bool) -> dict[str, Any]:
    """A range, and with ``excepting`` one strictly inside it, as the API server demands."""
    if not excepting:
        return {"cidr": pick(draw, nets)}
    outer = pick(draw, [text for text in nets if _inside(text, nets)])
    return {"cidr": outer, "except": [pick(draw, _inside(outer, nets))]}


@cache
def _inside(outer: str, nets: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``nets`` that are a part of another one; every address in use has a subnet round it."""
    whole = ip_network(outer)
    networks = ((text, ip_network(text)) for text in nets)
    return tuple(text for text, net in networks if net.prefixlen > whole.prefixlen and whole.overlaps(net))


def _port(draw: st.DrawFn, facts: Facts) -> dict[str, Any]:
    protocol, port = pick(draw, facts.ports)
    # Kubernetes knows names of at most 15 lower-case letters, digits and '-'.
    name = pick(draw, [each for each in facts.port_names if _is_service_name(each)])
    choices: tuple[dict[str, Any], ...] = (
        {"protocol": protocol, "port": port},
        {"port": port},
        {"protocol": protocol, "port": port, "endPort": near(port, 1)},
        {"protocol": protocol, "port": near(port, -1), "endPort": port},
        {"protocol": protocol, "port": name},
        {"protocol": protocol},
    )
    return pick(draw, choices)


def _is_service_name(name: str) -> bool:
    """Whether a name is an IANA service name (RFC 6335, section 5.1), the only ones that Kubernetes takes."""
    words = name.split("-")
    plain = name.isascii() and name == name.lower() and all(word.isalnum() for word in words)
    return plain and len(name) <= 15 and any(letter.isalpha() for letter in name)
