# SPDX-License-Identifier: Apache-2.0
"""Whatever a file says, reading it gives resources or errors with a place: never another exception."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.document import parse_documents
from lab.errors import LabError, Place, PolicyError
from lab.policy.read.kinds import read_resource
from lab.policy.read.source import Source
from lab.topology import Topology

SIDE = {
    "nets": ["10.0.0.0/8"],
    "notNets": ["10.1.0.0/16"],
    "selector": "has(a)",
    "namespaceSelector": "global()",
    "serviceAccounts": {"names": ["a"], "selector": "has(b)"},
    "ports": [80, "a"],
    "notPorts": ["1:2"],
}
RULE = {
    "action": "Allow",
    "ipVersion": 4,
    "protocol": "TCP",
    "notProtocol": 1,
    "notICMP": {"type": 1, "code": 1},
    "source": SIDE,
    "destination": SIDE,
    "http": {"methods": ["GET"], "paths": [{"exact": "/"}]},
    "metadata": {"annotations": {"a": "b"}},
}
CALICO = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "GlobalNetworkPolicy",
    "metadata": {"name": "n", "labels": {"a": "b"}},
    "spec": {
        "tier": "t",
        "order": 1,
        "selector": "all()",
        "types": ["Ingress"],
        "ingress": [RULE],
        "doNotTrack": False,
    },
}
PEER = {
    "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
}
KUBERNETES = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "n", "namespace": "x"},
    "spec": {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [PEER, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
        "ingress": [{"ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "a"}]}],
    },
}
SET = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "GlobalNetworkSet",
    "metadata": {"name": "n"},
    "spec": {"nets": ["10.0.0.1", "fd00::/8"]},
}

HOST_ENDPOINT = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "HostEndpoint",
    "metadata": {"name": "n", "labels": {"a": "b"}},
    "spec": {
        "node": "node-1",
        "interfaceName": "eth0",
        "expectedIPs": ["10.0.0.1", "fd00::1"],
        "profiles": ["p"],
        "ports": [{"name": "a", "protocol": "TCP", "port": 80}],
    },
}
POOL = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "IPPool",
    "metadata": {"name": "n"},
    "spec": {"cidr": "10.0.0.0/16", "blockSize": 26, "natOutgoing": True, "nodeSelector": "all()"},
}
FELIX = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "FelixConfiguration",
    "metadata": {"name": "default"},
    "spec": {
        "failsafeInboundHostPorts": [{"protocol": "TCP", "port": 22, "net": "10.0.0.0/8"}],
        "defaultEndpointToHostAction": "Drop",
        "vxlanPort": 4789,
        "disableConntrackInvalidCheck": False,
        "ipv6Support": True,
        "natPortRange": "",
        "ipipMTU": 1400,
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "n", "namespace": "x"},
    "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80, "targetPort": "b", "nodePort": 30000}]},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "n", "namespace": "x", "labels": {"kubernetes.io/service-name": "n"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    "ports": [{"name": "a", "port": 80}],
}
ADMIN = {
    "apiVersion": "policy.networking.k8s.io/v1alpha1",
    "kind": "AdminNetworkPolicy",
    "metadata": {"name": "n"},
    "spec": {
        "priority": 1,
        "subject": {"pods": {"namespaceSelector": {}, **PEER}},
        "ingress": [{"name": "a", "action": "Deny", "from": [{"namespaces": PEER["podSelector"]}]}],
        "egress": [
            {
                "action": "Allow",
                "to": [{"networks": ["10.0.0.0/8"]}, {"nodes": {}}, {"domainNames": ["a.b"]}],
                "ports": [
                    {"portNumber": {"port": 80}},
                    {"portRange": {"start": 1, "end": 2}},
                    {"namedPort": "a"},
                ],
            }
        ],
    },
}
CLUSTER = {
    "apiVersion": "policy.networking.k8s.io/v1alpha2",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "n"},
    "spec": {
        "tier": "Admin",
        "priority": 1,
        "subject": {"namespaces": {}},
        "egress": [
            {
                "action": "Pass",
                "to": [{"networks": ["10.0.0.0/8"]}],
                "protocols": [
                    {"tcp": {"destinationPort": {"number": 80}}},
                    {"udp": {"destinationPort": {"range": {"start": 1, "end": 2}}}},
                    {"destinationNamedPort": "a"},
                ],
            }
        ],
    },
}
RESOURCES = (CALICO, KUBERNETES, SET, HOST_ENDPOINT, POOL, FELIX, SERVICE, SLICE, ADMIN, CLUSTER)

Path = tuple[str | int, ...]


def paths_in(value: Any, path: Path = ()) -> list[Path]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, child in children for deeper in paths_in(child, (*path, key)))]


def replaced(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


NUMBERS = st.integers(-1, 70_000) | st.sampled_from([10**40, 1.5, 1e300])
CHARACTERS = st.characters(categories=["L", "N", "P", "S"], include_characters=" ")
TEXTS = st.text(CHARACTERS, max_size=10) | st.sampled_from(
    ["::/0", "10.0.0.0/8", "fd00::/8", "1:2", "global()", "ICMP", "Pass"]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A good resource with one or two of its values replaced by anything."""
    resource: Any = draw(st.sampled_from(RESOURCES))
    for _ in range(draw(st.integers(1, 2))):
        resource = replaced(resource, draw(st.sampled_from(paths_in(resource))), draw(JSON))
    return resource


def read(resource: Any, topology: Topology) -> tuple[object, list[LabError]]:
    errors: list[LabError] = []
    documents = parse_documents(json.dumps(resource, ensure_ascii=False), "policy.json", PolicyError)
    read = [read_resource(Source(document, (), errors, [], topology), {}) for document in documents]
    return next((each for each in read if each is not None), None), errors


@settings(max_examples=600, deadline=None)
@given(resource=spoiled())
def test_spoiled_resource_is_read_or_refused_with_a_place(resource: Any, topology: Topology) -> None:
    found, errors = read(resource, topology)
    assert resource is None or (found is None) == bool(errors)
    assert all(isinstance(error.place, Place) and error.place.line == 1 and error.place.column for error in errors)
    assert all(str(error) for error in errors)


def test_resources_that_are_spoiled_are_good_before(topology: Topology) -> None:
    for resource in RESOURCES:
        found, errors = read(resource, topology)
        assert found is not None
        assert errors == []
