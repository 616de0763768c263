# SPDX-License-Identifier: Apache-2.0
"""Small topologies: one to three nodes, two to six workloads at neighbouring addresses, up to two externals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.picks import chance, pick
from lab.conformance.scenario import Entry
from lab.protocols import protocol_label
from lab.topology import Endpoint, Namespace, Port, Topology, Workload

__all__ = ["topologies", "topology_document"]

MAX_WORKLOADS, MAX_MESHED = 6, 4
WORKLOADS = ("x/a", "y/b", "x/c", "y/d", "x/e", "x/f")

_LABELS: tuple[Mapping[str, str], ...] = (
    {"app": "web"},
    {"app": "db"},
    {},
    {"app": ""},
    {"app": "web", "role": "front"},
    {"role": "front"},
    {"app": "db", "role": ""},
)
_PORTS: tuple[tuple[Mapping[str, object], ...], ...] = (
    ({"name": "http", "protocol": "TCP", "port": 80},),
    ({"name": "http", "protocol": "TCP", "port": 8080},),
    ({"name": "http", "protocol": "UDP", "port": 80},),
    (),
    ({"name": "http", "protocol": "SCTP", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}),
    ({"name": "dns", "protocol": "UDP", "port": 53}, {"name": "dns", "protocol": "TCP", "port": 53}),
)
_NAMESPACES: tuple[Mapping[str, Mapping[str, object]], ...] = (
    {"x": {"labels": {"stage": "prod"}}, "y": {"labels": {"stage": "test"}}},
    {"x": {"labels": {"stage": "prod"}}, "y": {}},
    {"x": {"labels": {"stage": ""}}, "y": {"labels": {"stage": "prod", "team": "one"}}},
)
_PROFILES: tuple[tuple[str, ...] | None, ...] = (None,) * 6 + (("first",), ("first", "second"), ())
_NODE_LABELS: tuple[Mapping[str, str], ...] = ({"zone": "a"}, {"zone": "b"}, {})
_EXTERNALS = {
    "out": {"addresses": ["203.0.113.8", "2001:db8::8"], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
    "far": {"addresses": ["203.0.113.9", "2001:db8::9"]},
}


@st.composite
def topologies(draw: st.DrawFn, *, tunnels: bool = True, sidecars: bool = False) -> Entry:
    """A topology document; every end has its addresses written out. With ``tunnels`` some nodes speak VXLAN.

    With ``sidecars`` it is smaller, and most workloads have one.
    """
    nodes = [f"node-{number + 1}" for number in range(draw(st.integers(1, 2 if sidecars else 3)))]
    names = WORKLOADS[: draw(st.integers(2, MAX_MESHED if sidecars else MAX_WORKLOADS))]
    namespaces = pick(draw, _NAMESPACES)
    document: dict[str, object] = {
        "name": "drawn",
        "nodes": {name: _node(number) for number, name in enumerate(nodes)},
        "namespaces": {name: {**body, **_accounts()} for name, body in namespaces.items()},
        "workloads": {name: _workload(draw, number, nodes, meshed=sidecars) for number, name in enumerate(names)},
    }
    if tunnels and len(nodes) > 1 and chance(draw, 4):
        document["encapsulation"] = "vxlan"
    outside = draw(st.integers(0, len(_EXTERNALS)))
    if outside:
        document["externals"] = dict(list(_EXTERNALS.items())[:outside])
    return document


def _node(number: int) -> Entry:
    return {
        "labels": dict(_NODE_LABELS[number]),
        "addresses": [f"198.19.0.{11 + number}", f"fd00:19::{11 + number:x}"],
    }


def _accounts() -> Entry:
    """The service accounts of a namespace, made anew each time: YAML would write a shared one as an alias."""
    return {"serviceAccounts": {"robot": {"labels": {"kind": "machine"}}, "guest": {}}}


def _workload(draw: st.DrawFn, number: int, nodes: list[str], *, meshed: bool) -> Entry:
    body: dict[str, object] = {
        "node": pick(draw, nodes),
        # From .11 on: pairs and fours of neighbours begin and end between workloads.
        "addresses": [f"198.18.1.{11 + number}", f"fd00:18:1::{11 + number:x}"],
        "labels": dict(pick(draw, _LABELS)),
        "ports": [dict(port) for port in pick(draw, _PORTS)],
    }
    if meshed and not (number and chance(draw, 4)):
        body["sidecar"] = "envoy"
    if (profiles := pick(draw, _PROFILES)) is not None:
        body["profiles"] = list(profiles)
    elif (account := pick(draw, (None, None, "robot", "guest"))) is not None:
        body["serviceAccount"] = account
    return body


def topology_document(topology: Topology) -> Entry:
    """A loaded topology as a document, with the addresses that the loader gave."""
    return {
        "name": topology.name,
        "pods": {"ipv4": str(topology.pods.ipv4), "ipv6": str(topology.pods.ipv6)},
        "underlay": {"ipv4": str(topology.underlay.ipv4), "ipv6": str(topology.underlay.ipv6)},
        "nodes": {
            name: {
                "kind": node.kind,
                "labels": dict(node.labels),
                "addresses": [str(address) for address in node.addresses],
            }
            for name, node in topology.nodes.items()
        },
        "namespaces": {name: _namespace(body) for name, body in topology.namespaces.items()},
        "workloads": {name: _given_workload(body) for name, body in topology.workloads.items()},
        "externals": {name: _served(body) for name, body in topology.externals.items()},
        "encapsulation": topology.encapsulation,
        "links": [
            {"between": list(link.between), "interface": link.interface, **({"mtu": link.mtu} if link.mtu else {})}
            for link in topology.links
        ],
    }


def _namespace(namespace: Namespace) -> dict[str, object]:
    accounts = {name: {"labels": dict(labels)} for name, labels in namespace.service_accounts.items()}
    return {"labels": dict(namespace.labels), "serviceAccounts": accounts}


def _given_workload(workload: Workload) -> dict[str, Any]:
    body: dict[str, Any] = {"node": workload.node, "labels": dict(workload.labels), **_served(workload)}
    optional = {
        "serviceAccount": workload.service_account,
        "profiles": None if workload.profiles is None else list(workload.profiles),
        "sidecar": workload.sidecar,
    }
    return body | {key: value for key, value in optional.items() if value is not None}


def _served(end: Endpoint) -> dict[str, Any]:
    return {"addresses": [str(address) for address in end.addresses], "ports": [_port(port) for port in end.ports]}


def _port(port: Port) -> dict[str, object]:
    named = {"name": port.name} if port.name else {}
    return {**named, "protocol": protocol_label(port.protocol), "port": port.port}
