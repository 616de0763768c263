# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from lab.errors import TopologyError
from lab.fabric.lab import Lab
from lab.fabric.messages import Neighbour, OwnAddress, Route
from lab.fabric.plan import UNDERLAY, Plan, plan
from lab.topology.load import load_topology

NODES = """
nodes: {n1: {}, n2: {}}
namespaces: {x: {}}
"""


def planned(tmp_path: Path, text: str) -> Plan:
    file = tmp_path / "topology.yaml"
    file.write_text("name: planned\n" + text)
    return plan(load_topology(file))


@pytest.mark.parametrize(
    ("rest", "longest"),
    [
        ("", 2),
        ("workloads: {x/a: {node: n1}}", 3),
        ("workloads: {x/a: {node: n1}, x/b: {node: n1}}", 3),
        ("workloads: {x/a: {node: n1}, x/b: {node: n2}}", 4),
        ("externals: {client: {}, server: {}}", 2),
    ],
)
def test_longest_path_counts_the_wires_between_the_farthest_ends(tmp_path: Path, rest: str, longest: int):
    assert planned(tmp_path, NODES + rest).longest_path == longest


def test_lone_node_with_two_workloads_has_a_path_of_two_wires(tmp_path: Path):
    text = "nodes: {n1: {}}\nnamespaces: {x: {}}\nworkloads: {x/a: {node: n1}, x/b: {node: n1}}"
    assert planned(tmp_path, text).longest_path == 2


def test_interface_indexes_are_unique_in_a_lab():
    wires = [wire for step in plan(load_topology("three-by-three")).steps for wire in step.wires]
    indexes = [end.ifindex for wire in wires for end in (wire.near, wire.far)]
    assert len(indexes) == len(set(indexes)) == 2 * 11


def test_host_is_told_of_a_wire_only_after_it_is_made():
    made: dict[str, set[int]] = {}
    for step in plan(load_topology("external-client")).steps:
        for wire in step.wires:
            for end in (wire.near, wire.far):
                made.setdefault(end.host, {1}).add(end.ifindex)
        assert {deed.ifindex for deed in step.deeds} <= made[step.host]


def test_underlay_has_no_default_route_and_a_route_for_every_address():
    topology = load_topology("three-by-three")
    step = next(step for step in plan(topology).steps if step.host == UNDERLAY)
    routes = [deed.address for deed in step.deeds if isinstance(deed, Route)]
    ends = (*topology.nodes.values(), *topology.endpoints())
    assert sorted(map(str, routes)) == sorted(str(each) for end in ends for each in end.addresses)


def test_end_without_ipv6_gets_no_ipv6_gateway(tmp_path: Path):
    text = NODES + "workloads: {x/a: {node: n1, addresses: [198.18.1.1]}}"
    step = next(step for step in planned(tmp_path, text).steps if step.host == "x/a")
    told = [deed for deed in step.deeds if isinstance(deed, OwnAddress | Neighbour)]
    assert {deed.address.version for deed in told} == {4}


@pytest.mark.parametrize("kind", ["machine"])
def test_node_that_no_lab_can_have_is_refused_at_its_place(tmp_path: Path, kind: str):
    file = tmp_path / "topology.yaml"
    file.write_text(f"name: other\nnodes:\n  n1: {{kind: {kind}}}\n")
    with pytest.raises(TopologyError) as caught:
        Lab(load_topology(file))
    assert f"{file}:3:3: the node n1 is a {kind}" in str(caught.value)
