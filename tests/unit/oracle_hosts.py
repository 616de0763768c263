# SPDX-License-Identifier: Apache-2.0
"""The small cluster with host endpoints, for the hand-written tables of what hosts do."""

from __future__ import annotations

from typing import Any

from oracle_lab import Document, calico

ALLOW, DENY, PASS = ({"action": action} for action in ("Allow", "Deny", "Pass"))

NODES: Document = {
    "node-1": {"addresses": ["198.19.0.11", "fd00:19::11"]},
    "node-2": {"addresses": ["198.19.0.12", "fd00:19::12"]},
}
"""What the cluster's nodes are given, so that policies can name their addresses."""

ADDRESS = {
    ("node-1", 4): "198.19.0.11",
    ("node-1", 6): "fd00:19::11",
    ("node-2", 4): "198.19.0.12",
    ("node-2", 6): "fd00:19::12",
}


def hep(name: str = "h1", node: str = "node-1", interface: str | None = "eth0", **more: Any) -> Document:
    """A host endpoint with the label ``host`` of its name."""
    labels = {"host": name, **more.pop("labels", {})}
    spec = {"node": node, **({"interfaceName": interface} if interface else {}), **more}
    return calico("HostEndpoint", name, spec, labels=labels)


def policy(name: str, host: str = "h1", **spec: Any) -> Document:
    """A GlobalNetworkPolicy for a host endpoint; ``ingress`` and ``egress`` are lists of rules."""
    types = [word.capitalize() for word in ("ingress", "egress") if word in spec]
    return calico("GlobalNetworkPolicy", name, {"selector": f"host == '{host}'", "types": types, **spec})


def forward(name: str, host: str = "h1", **spec: Any) -> Document:
    return policy(name, host, applyOnForward=True, **spec)


def untracked(name: str, host: str = "h1", **spec: Any) -> Document:
    return policy(name, host, applyOnForward=True, doNotTrack=True, **spec)


def pre_dnat(name: str, host: str = "h1", **spec: Any) -> Document:
    return policy(name, host, applyOnForward=True, preDNAT=True, **spec)


def felix(name: str = "default", **spec: Any) -> Document:
    return calico("FelixConfiguration", name, spec)


def pool(name: str, cidr: str, **spec: Any) -> Document:
    return calico("IPPool", name, {"cidr": cidr, **spec})


def tier(name: str, order: float, action: str = "Deny") -> Document:
    return calico("Tier", name, {"order": order, "defaultAction": action})


def service(name: str = "web", node_port: int = 32010, **port: Any) -> Document:
    """A Service of type NodePort in namespace y."""
    ports = [{"name": "http", "port": 8055, "targetPort": 80, "nodePort": node_port, **port}]
    metadata = {"name": name, "namespace": "y"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "NodePort", "ports": ports}}


def slice_of(*addresses: str, name: str = "web-1", service: str = "web", port: int = 80, **more: Any) -> Document:
    """An EndpointSlice of the service, all of it ready unless ``ready`` says otherwise."""
    ready = more.get("ready", True)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "y", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
        "ports": [{"name": more.get("port_name", "http"), "port": port, "protocol": more.get("protocol", "TCP")}],
    }
