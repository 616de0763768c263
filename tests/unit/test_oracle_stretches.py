# SPDX-License-Identifier: Apache-2.0
"""What is decided once for a stretch of ports holds for every port of it, told by walks that know of no stretches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle_worlds import World, admin_policies, flows_of, worlds

from lab.conformance.generate import scenarios
from lab.conformance.scenario import Scenario
from lab.document import parse_documents
from lab.errors import PolicyError
from lab.oracle import Oracle
from lab.oracle import oracle as oracle_module
from lab.oracle.stretches import PortRange, Stretches
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.topology.load import load_topology

often = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

# Ports at which the drawn worlds and scenarios have borders, and others.
PORTS = st.sampled_from(
    [0, 1, 22, 53, 79, 80, 81, 82, 90, 8079, 8080, 8081, 4788, 4789, 4790, 30080, 40000, 65534, 65535]
)


def moved(flow: Flow, port: int, source_port: int) -> Flow:
    return flow if flow.port is None else replace(flow, port=port, source_port=source_port)


def check(topology: Topology, resources: Resources, flows: list[Flow]) -> None:
    """One oracle that has judged others before gives what a walk over all rules gives."""
    oracle = Oracle(topology, resources)
    for flow, verdict in zip(flows, oracle.verdicts(flows), strict=True):
        assert oracle.explain(flow).verdict == verdict, flow


@often
@given(world=worlds() | worlds(admin_policies()), data=st.data())
def test_no_port_of_a_world_is_judged_by_another_that_differs(world: World, data: st.DataObject) -> None:
    ports = data.draw(st.lists(st.tuples(PORTS, PORTS), min_size=4, max_size=4))
    flows = [moved(flow, *pair) for flow in flows_of(world.topology)[:: len(ports) + 1] for pair in ports]
    check(world.topology, world.resources, flows)


@often
@given(scenario=scenarios(), data=st.data())
def test_no_port_of_a_scenario_is_judged_by_another_that_differs(scenario: Scenario, data: st.DataObject) -> None:
    loaded = scenario.load()
    ports = data.draw(st.lists(st.tuples(PORTS, PORTS), min_size=2, max_size=2))
    check(loaded.topology, loaded.resources, [moved(flow, *pair) for flow in loaded.flows for pair in ports])


RANGE = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: range}
spec:
  selector: all()
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: ["1000:2000"]}}]
"""


def verdicts_at_the_range(ports: list[int]) -> list[bool]:
    topology = load_topology("three-by-three")
    oracle = Oracle(topology, resources_of(parse_documents(RANGE, "range", PolicyError), topology))
    return [each.allowed for each in oracle.verdicts([Flow("x/a", "y/b", 6, port, 4) for port in ports])]


def test_both_edges_of_a_range_are_where_they_are_written() -> None:
    assert verdicts_at_the_range([1, 999, 1000, 1001, 2000, 2001, 65535]) == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_stretches_that_forget_where_a_range_ends_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(ranges: Iterable[PortRange], unsaid: int | None = None) -> Stretches:
        return Stretches([(first, 65535) for first, _ in ranges], unsaid)

    monkeypatch.setattr(oracle_module, "Stretches", forgetful)
    assert verdicts_at_the_range([1000, 2001]) == [True, True]


def test_stretches_part_the_whole_line() -> None:
    bounds = Stretches([(80, 81), (81, 90), (65535, 65535)]).bounds()
    assert bounds == [(0, 79), (80, 80), (81, 81), (82, 90), (91, 65534), (65535, 65535)]


def test_next_door_to_a_stretch_are_the_ports_on_both_its_sides() -> None:
    stretches = Stretches([(80, 81), (65000, 65535)])
    assert stretches.next_door(80) == stretches.next_door(81) == [79, 82]
    assert stretches.next_door(1) == [80]
    assert stretches.next_door(65535) == [64999]
    assert Stretches([]).next_door(80) == stretches.next_door(None) == []
