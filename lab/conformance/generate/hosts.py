# SPDX-License-Identifier: Apache-2.0
"""What concerns nodes: host endpoints, what Felix is told, pools, services with their node ports."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.picks import chance, pick

__all__ = ["host_flags", "host_resources", "service_resources"]

Document = dict[str, Any]

_API = "projectcalico.org/v3"
_FAILSAFES: tuple[list[Document], ...] = (
    [],
    [{"protocol": "TCP", "port": 80}],
    [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 22}],
)
_NODE_PORT = 32010


def host_resources(draw: st.DrawFn, facts: Facts) -> tuple[Document, ...]:
    """Host endpoints on some nodes, and at times what Felix is told and which addresses are masqueraded."""
    endpoints = [_endpoint(draw, facts, node) for node in facts.nodes if chance(draw, 2)]
    found = [*endpoints, *([_felix(draw, facts)] if chance(draw, 3) else [])]
    if Capability.NAT_OUTGOING in facts.capabilities and chance(draw, 4):
        found.append(_pool(draw, facts))
    return tuple(found)


def _endpoint(draw: st.DrawFn, facts: Facts, node: str) -> Document:
    """A host endpoint; it bears a label of the pods, so that selectors for them reach it."""
    key = pick(draw, tuple(facts.pod_labels))
    metadata = {"name": f"host-{node}", "labels": {key: pick(draw, facts.pod_labels[key])}}
    spec: Document = {"node": node}
    if (interface := pick(draw, ("eth0", "*", "eth0", None))) is not None:
        spec["interfaceName"] = interface
    if interface is None or chance(draw, 2):
        spec["expectedIPs"] = list(facts.addresses(node))
    if chance(draw, 4):
        spec["profiles"] = [f"kns.{pick(draw, facts.namespaces)}"]
    return {"apiVersion": _API, "kind": "HostEndpoint", "metadata": metadata, "spec": spec}


def _felix(draw: st.DrawFn, facts: Facts) -> Document:
    spec: Document = {"defaultEndpointToHostAction": pick(draw, ("Accept", "Return", "Drop"))}
    for key in ("failsafeInboundHostPorts", "failsafeOutboundHostPorts"):
        if chance(draw, 2):
            spec[key] = [dict(port) for port in pick(draw, _FAILSAFES)]
    if Capability.IPV6_SUPPORT in facts.capabilities and chance(draw, 4):
        spec["ipv6Support"] = False
    return {"apiVersion": _API, "kind": "FelixConfiguration", "metadata": {"name": "default"}, "spec": spec}


def _pool(draw: st.DrawFn, facts: Facts) -> Document:
    cidr = pick(draw, facts.nets(pick(draw, facts.families)))
    # Of one address each, so that a pool may be as small.
    spec = {"cidr": cidr, "natOutgoing": True, "blockSize": 128 if ":" in cidr else 32}
    return {"apiVersion": _API, "kind": "IPPool", "metadata": {"name": "pool"}, "spec": spec}


def host_flags(draw: st.DrawFn, facts: Facts) -> Document:
    """At which hooks a GlobalNetworkPolicy is asked; those that are early bring their fields with them."""
    known = (
        ("", None),
        ("applyOnForward", Capability.APPLY_ON_FORWARD),
        ("preDNAT", Capability.PRE_DNAT),
        ("doNotTrack", Capability.DO_NOT_TRACK),
    )
    flags = [flag for flag, capability in known if capability is None or capability in facts.capabilities]
    flag = pick(draw, flags)
    if not flag:
        return {}
    return {"applyOnForward": True, flag: True} | ({"types": ["Ingress"]} if flag == "preDNAT" else {})


def service_resources(draw: st.DrawFn, facts: Facts) -> tuple[Document, ...]:
    """The slices of the service that rules speak of, and now and then the Service with its node port."""
    namespace, name = facts.service
    metadata = {"namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
    slices: list[Document] = []
    protocol, port = pick(draw, facts.ports)
    for family in facts.families:
        behind = [each for each in facts.workloads if family in facts.families_of(each) and chance(draw, 2)]
        addresses = [text for each in behind for text in facts.addresses(each) if (":" in text) == (family == 6)]
        if addresses:
            slices.append(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": f"{name}-{family}", **metadata},
                    "addressType": f"IPv{family}",
                    "endpoints": [{"addresses": [text]} for text in addresses],
                    "ports": [{"name": "p", "port": port, "protocol": protocol}],
                }
            )
    if not slices or not facts.nodes or not chance(draw, 2):
        return tuple(slices)
    ports = [{"name": "p", "port": port, "protocol": protocol, "nodePort": _NODE_PORT}]
    spec = {"type": "NodePort", "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return (*slices, service)
