# SPDX-License-Identifier: Apache-2.0
"""What goes through VXLAN between nodes: by which interface policy sees it, and who may send such packets at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from compile_world import topology, workload
from oracle_hosts import ALLOW, DENY, NODES, felix, forward, hep, policy, pre_dnat, untracked
from oracle_lab import CLUSTER, Document, Judge, Lab

from lab.oracle import Oracle
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.topology import Flow
from lab.topology.load import load_topology

both = pytest.mark.parametrize("family", [4, 6])
VXLAN = ("UDP", 4789)
ON_VXLAN = {"protocol": "UDP", "destination": {"ports": [4789]}}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    def judge(*documents: Document) -> Judge:
        (tmp_path / "topology.yaml").write_text(json.dumps({**CLUSTER, "nodes": NODES, "encapsulation": "vxlan"}))
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        (tmp_path / "policy.json").write_text(json.dumps(items))
        found = load_topology(tmp_path / "topology.yaml")
        return Judge(Oracle(found, load_resources([tmp_path / "policy.json"], found)))

    return judge


@both
def test_workloads_of_two_nodes_meet_no_policy_of_eth0(lab: Lab, family: int) -> None:
    closed = forward("f", ingress=[DENY], egress=[DENY])
    judge = lab(hep(), closed)
    assert judge.allows("x/a", "x/b", family=family)
    assert judge.allows("x/b", "x/a", family=family)
    assert judge.rule("client", "x/a", family=family)[1] == "f"
    assert judge.rule("x/a", "client", family=family)[1] == "f"


@pytest.mark.parametrize(("interface", "family"), [("*", 4), ("*", 6), ("vxlan.calico", 4), ("vxlan-v6.calico", 6)])
def test_endpoint_of_the_tunnel_is_asked_of_what_goes_through_it(lab: Lab, interface: str, family: int) -> None:
    inward = lab(hep(interface=interface), forward("f", ingress=[DENY]))
    assert inward.rule("x/b", "x/a", family=family)[1] == "f"
    outward = lab(hep(interface=interface), forward("f", egress=[DENY]))
    assert outward.rule("x/a", "x/b", family=family)[1] == "f"
    own = lab(hep(interface=interface), policy("o", egress=[DENY]))
    assert own.rule("node-1", "x/b", family=family)[1] == "o"
    assert own.allows("x/b", "x/a", family=family)


def test_endpoint_of_the_tunnel_of_one_family_has_nothing_to_do_with_the_other(lab: Lab) -> None:
    judge = lab(hep(interface="vxlan.calico"), forward("f", ingress=[DENY], egress=[DENY]))
    assert not judge.allows("x/a", "x/b", family=4)
    assert judge.allows("x/a", "x/b", family=6)


@both
def test_node_reaches_a_workload_elsewhere_past_its_own_eth0(lab: Lab, family: int) -> None:
    judge = lab(hep())
    assert judge.allows("node-1", "x/b", family=family)
    assert judge.default("node-1", "node-2", family=family)[1] == "host-endpoint-without-policy"


@both
@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_closed_host_endpoints_let_nodes_speak_vxlan_and_nobody_else(lab: Lab, interface: str, family: int) -> None:
    judge = lab(hep(interface=interface), hep("h2", "node-2", interface))
    assert judge.default("node-2", "node-1", *VXLAN, family=family) == (None, "tunnel", None)
    assert judge.allows("node-2", "node-1", *VXLAN, family=family)
    assert judge.allows("node-1", "node-1", *VXLAN, family=family)
    for source in ("client", "x/b"):
        assert judge.default(source, "node-1", *VXLAN, family=family)[1] in {"tunnel", "encapsulation"}
        assert not judge.allows(source, "node-1", *VXLAN, family=family)
    assert judge.default("client", "node-1", "UDP", 4790, family=family)[1] == "host-endpoint-without-policy"


@both
def test_nobody_but_nodes_speaks_vxlan_to_a_node_without_host_endpoint(lab: Lab, family: int) -> None:
    judge = lab(felix(defaultEndpointToHostAction="Accept", allowVXLANPacketsFromWorkloads=True))
    assert judge.default("client", "node-1", *VXLAN, family=family) == (None, "tunnel", None)
    assert not judge.allows("x/a", "node-1", *VXLAN, family=family)
    assert judge.allows("x/a", "node-1", "UDP", 4790, family=family)
    # To a workload it is a packet like any other.
    assert judge.allows("client", "x/a", *VXLAN, family=family)


@both
@pytest.mark.parametrize("make", [untracked, pre_dnat])
def test_early_policy_of_eth0_stops_the_tunnel_itself(lab: Lab, make: object, family: int) -> None:
    assert callable(make)
    judge = lab(hep(), make("early", ingress=[{**DENY, **ON_VXLAN}, ALLOW]))
    assert judge.rule("x/b", "x/a", family=family)[1] == "early"
    assert judge.allows("x/a", "x/b", family=family)
    named = lab(hep(), make("early", ingress=[{**DENY, "protocol": "TCP"}]))
    # It never sees what is inside.
    assert named.allows("x/b", "x/a", family=family)
    assert not named.allows("client", "x/a", family=family)


@both
def test_untracked_policy_of_the_way_out_stops_the_tunnel_itself(lab: Lab, family: int) -> None:
    judge = lab(hep(), untracked("early", egress=[{**DENY, **ON_VXLAN}]))
    assert judge.rule("x/a", "x/b", family=family)[1] == "early"
    assert judge.allows("x/b", "x/a", family=family)


def test_tunnel_of_a_node_that_leaves_ipv6_alone_is_open(lab: Lab) -> None:
    judge = lab(felix("node.node-1", ipv6Support=False), hep())
    assert judge.allows("client", "node-1", *VXLAN, family=6)
    assert not judge.allows("client", "node-1", *VXLAN, family=4)


def test_endpoint_found_by_an_address_is_not_that_of_the_tunnel(lab: Lab) -> None:
    judge = lab(hep(interface=None, expectedIPs=["198.19.0.11"]), forward("f", ingress=[DENY]))
    assert judge.allows("x/b", "x/a")
    assert judge.rule("client", "x/a")[1] == "f"


def test_tunnel_between_nodes_without_addresses_is_no_tunnel() -> None:
    here, there = workload("x/a", 1), workload("x/b", 2, node="node-2")
    world = replace(topology(here, there), encapsulation="vxlan")
    with pytest.raises(ValueError, match="node-1 has no address of IPv4"):
        Oracle(world, Resources(())).verdict(Flow("x/a", "x/b", 6, 80, 4))
