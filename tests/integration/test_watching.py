# SPDX-License-Identifier: Apache-2.0
"""Which flows are watched while policy changes: only those of which each node by itself keeps its word."""

from __future__ import annotations

import os

import pytest

from dataplanes.nftables import NftablesDataplane
from lab.conformance.harness import Harness
from lab.conformance.states import State
from lab.conformance.watching import watch, watches_of
from lab.document import document_of
from lab.policy.load import resources_of
from lab.protocols import UDP
from lab.topology import Flow
from lab.topology.load import topology_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TOPOLOGY = {
    "name": "apart",
    "nodes": {"near": {}, "away": {}},
    "namespaces": {"x": {}},
    "workloads": {
        "x/from": {"node": "near", "labels": {"app": "from"}},
        "x/beside": {"node": "near", "labels": {"app": "to"}},
        "x/far": {"node": "away", "labels": {"app": "to"}},
    },
}


def closed(app: str, direction: str) -> dict[str, object]:
    """A policy that lets nothing out of some workloads, or nothing into them."""
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": f"closed-{app}"},
        "spec": {"selector": f"app == '{app}'", "types": [direction]},
    }


def test_what_one_node_denies_before_and_another_one_after_is_not_watched() -> None:
    """Nodes do not change at the same moment: a course of nftables failed so, five times of five."""
    topology = topology_of(document_of(TOPOLOGY, "topology"))
    sender, receivers = (
        State(resources_of([document_of(each, "policy")], topology), topology)
        for each in (closed("from", "Egress"), closed("to", "Ingress"))
    )
    flows = [Flow("x/from", to, 6, 80, 4) for to in ("x/beside", "x/far")]
    with Harness(topology, NftablesDataplane) as harness:
        moving = [each.flow for each in watches_of(harness, flows, sender, receivers)]
        staying = [each.flow for each in watches_of(harness, flows, sender, sender)]
    assert moving == flows[:1]
    assert staying == flows


def test_flow_that_is_masqueraded_is_not_held() -> None:
    """Its answer goes to another address than it came from: a course of iptables failed so, five times of five."""
    pool = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "pool"},
        "spec": {"cidr": "198.18.0.0/16", "natOutgoing": True},
    }
    topology = topology_of(document_of({**TOPOLOGY, "externals": {"out": {"addresses": ["203.0.113.9"]}}}, "topology"))
    states = [
        State(resources_of([document_of(each, "policy") for each in documents], topology), topology)
        for documents in ((), (pool,), (pool, closed("from", "Egress")))
    ]
    flows = [Flow("x/from", to, UDP, 80, 4) for to in ("out", "x/far")]
    with Harness(topology, NftablesDataplane) as harness:
        alike, masqueraded, denied = states
        from_none = [each.flow for each in watches_of(harness, flows, alike, denied) if each.held]
        from_pool = [each.flow for each in watches_of(harness, flows, masqueraded, denied) if each.held]
        harness.apply(masqueraded.resources)
        seen = watch(harness, flows, (("the pool", masqueraded), ("a policy", denied)), 1)
    assert from_none == flows
    assert from_pool == flows[1:]
    assert seen.results.conformant, seen.moments
