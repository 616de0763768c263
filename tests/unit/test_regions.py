# SPDX-License-Identifier: Apache-2.0
"""Regions of the space of flows: which there are, which are neighbours, and what counts as seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dataplanes.api import Capability
from lab.conformance.generated import _whole_ways
from lab.conformance.regions import Coverage, Regions
from lab.document import parse_documents
from lab.errors import PolicyError
from lab.oracle import Oracle
from lab.policy.load import load_resources, resources_of
from lab.protocols import SCTP, TCP
from lab.topology import Flow, default_flows
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_policies

TOPOLOGY = load_topology("three-by-three")
POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: range, namespace: y}
spec:
  selector: pod == 'b'
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: ["1000:2000"]}}]
"""
WAY = Flow("x/a", "y/b", TCP, 1500, 4)


@pytest.fixture(scope="module")
def regions() -> Regions:
    return Regions.of(TOPOLOGY, resources_of(parse_documents(POLICY, "policy", PolicyError), TOPOLOGY))


def at(port: int) -> Flow:
    return replace(WAY, port=port)


def test_ports_that_a_rule_tells_apart_are_in_other_regions(regions: Regions) -> None:
    assert regions.region(at(1000)) == regions.region(at(1999)) == regions.region(at(2000))
    assert len({regions.region(at(port)) for port in (999, 1000, 2001)}) == 3


def test_ports_of_a_way_on_which_no_rule_tells_them_apart_are_in_one_region(regions: Regions) -> None:
    other = [replace(at(port), destination="y/c") for port in (999, 1500, 2001)]
    assert len({regions.region(flow) for flow in other}) == 1


def test_source_port_makes_no_region_where_no_rule_names_one(regions: Regions) -> None:
    assert regions.region(WAY) == regions.region(replace(WAY, source_port=61000))


def test_first_and_last_port_of_each_region_are_drawn(regions: Regions) -> None:
    drawn = {flow.port for flow in regions.flows() if replace(flow, port=1500, source_port=None) == WAY}
    assert {1, 999, 1000, 2000, 2001, 65535} <= drawn


def test_neighbours_are_next_door_in_every_respect(regions: Regions) -> None:
    near = list(regions.neighbours(WAY))
    assert {at(999), at(2001), replace(WAY, family=6), replace(WAY, protocol=17)} <= set(near)
    assert replace(WAY, source="x/b") in near
    assert replace(WAY, destination="y/c") in near


def test_what_lies_at_a_border_has_a_neighbour_of_the_other_verdict(regions: Regions) -> None:
    assert at(999) in list(regions.opposites(WAY))
    inside = replace(WAY, source="x/a", destination="x/b", port=1)
    assert list(regions.opposites(inside)) == [replace(inside, destination="y/b")]


def test_flows_of_all_regions_see_all_borders_from_both_sides(regions: Regions) -> None:
    seen = Coverage.of(regions, regions.flows())
    assert seen.hit == seen.regions
    assert seen.both_sides == seen.at_borders > 0
    assert seen.share == 1


def test_one_side_of_a_border_is_not_both(regions: Regions) -> None:
    assert Coverage.of(regions, [WAY]).both_sides == 0
    assert Coverage.of(regions, [WAY, at(999)]).both_sides == 2


def test_flows_that_are_missing_hit_what_the_others_do_not(regions: Regions) -> None:
    flows = default_flows(TOPOLOGY)
    missing = regions.missing(flows)
    assert {regions.region(flow) for flow in flows}.isdisjoint(map(regions.region, missing))
    assert Coverage.of(regions, [*flows, *missing]).hit == Coverage.of(regions, []).regions


def test_what_a_dataplane_does_not_declare_is_no_region() -> None:
    declared = frozenset(Capability) - {Capability.SCTP, Capability.IPV6}
    found = list(Regions.of(TOPOLOGY, resources_of([], TOPOLOGY), declared).flows())
    assert found
    assert not [flow for flow in found if flow.protocol == SCTP or flow.family == 6]


def test_a_few_of_many_flows_are_whole_ways(regions: Regions) -> None:
    missing = regions.missing([])
    some = _whole_ways(missing, len(missing) // 4)
    assert len(missing) // 8 < len(some) < len(missing) // 2
    ways = {regions.region(flow)[0] for flow in some}
    assert [flow for flow in missing if regions.region(flow)[0] in ways] == some


@pytest.mark.parametrize("name", ["calico-tiers", "calico-named-ports", "kubernetes-egress-ports", "mixed"])
def test_under_shipped_policies_drawn_flows_reach_what_can_be_reached(name: str) -> None:
    (file,) = [file for file in shipped_policies() if file.stem == name]
    regions = Regions.of(TOPOLOGY, load_resources([file], TOPOLOGY))
    flows = default_flows(TOPOLOGY)
    assert Coverage.of(regions, flows).share < 0.5
    assert Coverage.of(regions, [*flows, *_whole_ways(regions.missing(flows), 20_000)]).share >= 0.95


@pytest.mark.parametrize("name", ["calico-tiers", "mixed"])
def test_what_is_counted_as_allowed_is_what_the_model_says_of_the_flow(name: str) -> None:
    """Regions are counted by a shorter way than that on which verdicts are asked for."""
    (file,) = [file for file in shipped_policies() if file.stem == name]
    resources = load_resources([file], TOPOLOGY)
    regions = Regions.of(TOPOLOGY, resources)
    flows = [*regions.flows()][::7]
    near = [next(regions.neighbours(flow), flow) for flow in flows]
    fresh = Oracle(TOPOLOGY, resources)
    for flow in (*flows, *near):
        way = (flow.source, flow.destination, flow.protocol, flow.family, flow.icmp)
        assert regions.oracle.allows(way, flow.source_port, flow.port) is fresh.verdict(flow).allowed
