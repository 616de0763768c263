# SPDX-License-Identifier: Apache-2.0
"""The example policies do what the comment at their top says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.oracle.oracle import Oracle
from lab.policy.load import load_resources
from lab.topology import default_flows
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_topology

DENIED = {
    "calico-host-endpoint": 2 * 4 * 5 * 4,  # SCTP between the four workloads of a node and the five of the other
    "calico-named-ports": 2 * 8 * 12 - 2 * 5 * 2,  # all into x/a and x/b, but five sources' 80/TCP in two families
    "calico-network-set": 3 * 12,  # x/a to three workloads
    "calico-order": 3 * 8 * 12 - 12,  # all into x, but y/b to x/a
    "calico-services": 3 * 8 * 12 - 3 * 3,  # all out of x, but 80/TCP to three addresses
    "calico-staged": 0,
    "calico-tiers": 3 * 8 * 12 - 3 * 8 * 4 + 8 * 2,  # all into y, but TCP, of which y/a takes 80 alone
    # from z: all; from x and y: to x/a all but 80/TCP, to the other two UDP
    "kubernetes-admin": 3 * 3 * 12 + 5 * (12 - 2) + 5 * 2 * 4,
    "kubernetes-cluster-policy": 3 * 8 * 2 + 3 * 3 * 8,  # out of y: 81/TCP to all, UDP and SCTP to z
    "kubernetes-default-deny": 3 * 8 * 12 - 3 * 2,  # all into x, but three sources' 80/TCP in two families
    "kubernetes-egress-ports": 3 * 8 * 6 - 3,  # half of all out of z, but what z/c sends to z/b besides
    "kubernetes-peers": 7 * 12 + 4 * 12,  # y/a hears one of eight, y/b four of eight
    "mixed": 2 * 8 * 12,  # all into x/a and x/b, where no port is called web; x/c is passed on to its profile
    "sidecars": 0,  # it is about another topology
}


def policies() -> Path:
    topology = shipped_topology("three-by-three")
    assert topology is not None
    return topology.parent / "policies"


def test_every_example_is_counted_and_says_what_it_shows() -> None:
    files = list(policies().rglob("*.yaml"))
    assert {file.stem for file in files if file.parent == policies()} == DENIED.keys()
    assert all("# Shows: " in file.read_text() for file in files)


def test_blocklist_of_mixed_denies_all_that_the_client_sends_to_workloads() -> None:
    topology = load_topology("mixed")
    oracle = Oracle(topology, load_resources([policies() / "mixed"], topology))
    denied = {flow for flow in default_flows(topology) if not oracle.verdict(flow).allowed}
    assert denied == {flow for flow in default_flows(topology) if flow.source == "client"}
    assert len(denied) == 6 * 2 * 2


@pytest.mark.parametrize(("name", "denied"), DENIED.items())
def test_example_denies_what_its_comment_says(name: str, denied: int) -> None:
    topology = load_topology("three-by-three")
    oracle = Oracle(topology, load_resources([policies() / f"{name}.yaml"], topology))
    assert sum(not oracle.verdict(flow).allowed for flow in default_flows(topology)) == denied
