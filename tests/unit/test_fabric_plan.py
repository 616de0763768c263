# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from lab.errors import TopologyError
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


def test_link_to_a_machine_is_refused_at_its_place(tmp_path: Path):
    text = "nodes: {n1: {}, n2: {kind: machine}}\nlinks:\n  - {between: [n1, n2], interface: wire0}\n"
    with pytest.raises(TopologyError, match=r"topology\.yaml:4:5: the node n2 is a machine"):
        planned(tmp_path, text)


def test_sidecar_on_a_machine_is_refused_at_its_place(tmp_path: Path):
    text = "nodes: {n1: {kind: machine}}\nnamespaces: {x: {}}\nworkloads:\n  x/a: {node: n1, sidecar: envoy}\n"
    with pytest.raises(TopologyError, match=r"topology\.yaml:5:3: the workload x/a is on a machine"):
        planned(tmp_path, text)


def test_shares_of_a_plan_are_all_of_it_and_overlap_nowhere():
    whole = plan(load_topology("mixed"))
    shares = [whole.share(), whole.share("node-3")]
    for what in ("routers", "ends", "steps"):
        parts = [getattr(share, what) for share in shares]
        assert sorted(map(repr, (*parts[0], *parts[1]))) == sorted(map(repr, getattr(whole, what)))
    assert shares[1].routers == ("node-3",)
    assert set(shares[1].ends) == {"x/c", "y/c"}
    assert list(shares[0].taps) == ["node-3"]
    assert not shares[1].taps


def test_machine_hangs_on_a_tap_and_on_no_wire():
    whole = plan(load_topology("mixed"))
    tap = whole.taps["node-3"]
    assert tap == whole.ports["node-3"].far
    assert tap.host == UNDERLAY
    wires = [wire for step in whole.steps for wire in step.wires]
    assert tap.ifindex not in {end.ifindex for wire in wires for end in (wire.near, wire.far)}
