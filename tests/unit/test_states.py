# SPDX-License-Identifier: Apache-2.0
"""What the cluster knows of a topology while a state is in force, and what the model says of whom it does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.conformance.scenario import Scenario
from lab.conformance.shrink import shrink
from lab.conformance.states import is_about_cluster, topology_said
from lab.errors import LabError
from lab.oracle import PartialOracle
from lab.oracle.tracking import Said, Tracker
from lab.oracle.verdict import DefaultDecision
from lab.topology import Flow

TOPOLOGY = {
    "name": "two",
    "nodes": {"n": {}, "m": {}},
    "namespaces": {"x": {"labels": {"stage": "prod"}}},
    "workloads": {
        "x/a": {"node": "n", "labels": {"app": "web"}, "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        "x/b": {"node": "m", "labels": {"app": "db"}},
    },
}
POLICY = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "GlobalNetworkPolicy",
    "metadata": {"name": "guard"},
    "spec": {
        "selector": "app == 'web'",
        "types": ["Ingress"],
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'db'"}}],
    },
}
FLOW = {"from": "x/b", "to": "x/a", "protocol": "TCP", "port": 80, "family": "ipv4"}
TO_A, FROM_A = Flow("x/b", "x/a", 6, 80, 4), Flow("x/a", "x/b", 6, 80, 4)


def scenario(*known: dict[str, object]) -> Scenario:
    return Scenario(TOPOLOGY, (*known, POLICY), (FLOW,), ((POLICY,),))


def oracle(*known: dict[str, object]) -> PartialOracle:
    loaded = scenario(*known).load()
    return PartialOracle(loaded.topology, loaded.resources, loaded.state.known)


def test_labels_of_a_workload_take_the_place_of_those_of_the_topology() -> None:
    other = {"workloads": {"x/b": {"labels": {"app": "cache"}}}}
    loaded = scenario(other).load()
    assert loaded.state.known.workloads["x/b"].labels == {"app": "cache"}
    assert loaded.state.known.workloads["x/a"] == loaded.topology.workloads["x/a"]
    assert loaded.topology.workloads["x/b"].labels == {"app": "db"}
    assert loaded.before[0].known is loaded.topology
    (before,), (after,) = (each.verdicts([TO_A]) for each in (oracle(), oracle(other)))
    assert (before.allowed, after.allowed) == (True, False)


def test_nothing_is_said_of_ipv6_of_a_workload_that_is_gone_where_it_is_not_policed() -> None:
    """A course of nftables failed by what the model said of it, five times of five."""
    felix = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "FelixConfiguration",
        "metadata": {"name": "default"},
        "spec": {"ipv6Support": False},
    }
    gone = oracle({"workloads": {"x/b": None}}, felix)
    assert not gone.verdicts([TO_A])[0].allowed
    with pytest.raises(LabError, match="ipv6Support"):
        gone.verdicts([replace(TO_A, family=6)])


def test_node_denies_alone_what_its_policy_denies_and_what_its_own_workload_is_missing_for() -> None:
    cache = oracle({"workloads": {"x/b": {"labels": {"app": "cache"}}}})
    assert (cache.denies(TO_A, "n"), cache.denies(TO_A, "m")) == (True, False)
    assert not any(oracle().denies(TO_A, node) for node in ("n", "m"))
    gone = oracle({"workloads": {"x/b": None}})
    assert (gone.denies(TO_A, "n"), gone.denies(TO_A, "m")) == (False, True)
    assert not gone.denies(Flow("m", "x/b", 6, 80, 4), "m")


def test_workload_that_is_gone_is_cut_off_but_from_its_own_node() -> None:
    gone = oracle({"workloads": {"x/a": None}})
    told = gone.verdicts(
        [TO_A, FROM_A, Flow("m", "x/a", 6, 80, 4), Flow("n", "x/a", 6, 80, 4), Flow("x/b", "m", 6, 80, 4)]
    )
    reasons = [each.decided_by.reason for each in told[:4] if isinstance(each.decided_by, DefaultDecision)]
    assert reasons == ["unknown-workload"] * 3 + ["host-to-own-workload"]
    assert [each.allowed for each in told[:4]] == [False, False, False, True]
    assert gone.unknown(Flow("x/b", "m", 6, 80, 4)) is None


def test_connection_of_a_workload_that_is_gone_is_cut_and_goes_on_when_it_comes_back() -> None:
    tracker = Tracker(scenario().load().topology)
    there, gone = oracle(), oracle({"workloads": {"x/b": None}})
    said = (Said(TO_A, flags=2), Said(FROM_A, flags=18), Said(TO_A, flags=16))
    assert [tracker.judge(each, there).allowed for each in said] == [True, True, True]
    assert not tracker.judge(said[2], gone).allowed
    assert tracker.judge(said[2], there).allowed


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"workloads": {"x/c": None}}, "no such thing in workloads.*given: 'x/c'; allowed: x/a, x/b"),
        ({"namespaces": {"y": {"labels": {}}}}, "no such thing in namespaces"),
        ({"workloads": {"x/a": {"node": "m"}}}, "this does not change in a lab.*given: 'node'; allowed: labels, ports"),
        ({"workloads": {"x/a": {"serviceAccount": "nobody"}}}, "unknown service account"),
    ],
)
def test_what_cannot_be_known_is_refused(known: dict[str, object], told: str) -> None:
    with pytest.raises(LabError, match=told):
        scenario(known).load()


def test_resource_is_nothing_that_the_cluster_knows() -> None:
    assert not is_about_cluster(POLICY)
    assert not is_about_cluster({})
    assert not is_about_cluster({"workloads": {}, "nodes": {}})
    assert is_about_cluster({"workloads": {"x/a": None}})


def test_scenario_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = scenario({"namespaces": {"x": {"labels": {}}}, "workloads": {"x/b": None}})
    loaded = given.load(tmp_path)
    assert Scenario.read(tmp_path) == given
    assert "x/b" not in loaded.state.known.workloads
    assert loaded.state.known.namespaces["x"].labels == given.load().state.known.namespaces["x"].labels


def test_what_is_known_is_cut_down_like_policy() -> None:
    known = {"namespaces": {"x": {"labels": {}}}, "workloads": {"x/a": {"labels": {"app": "web"}}, "x/b": None}}

    def fails(candidate: Scenario) -> bool:
        return any(dict(each).get("workloads", {}).get("x/b", 0) is None for each in candidate.resources)

    smallest = shrink(scenario(known), fails, 5.0)
    assert smallest.resources == ({"namespaces": {}, "workloads": {"x/b": None}},)


def test_topology_is_read_once_and_anew_when_anything_of_it_differs() -> None:
    read = topology_said(TOPOLOGY, "t.yaml")
    assert topology_said({**TOPOLOGY}, "t.yaml") is read
    assert topology_said(TOPOLOGY, "other.yaml").file == "other.yaml"
    other = topology_said({**TOPOLOGY, "nodes": {"n": {"labels": {"zone": "a"}}, "m": {}}}, "t.yaml")
    assert other.nodes["n"].labels != read.nodes["n"].labels
    with pytest.raises(LabError):
        topology_said({**TOPOLOGY, "nodes": {}}, "t.yaml")
