# SPDX-License-Identifier: Apache-2.0
"""The generator: all that it draws loads, both verdicts are common, and it reaches every corner that it should."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from dataplanes.api import Capability
from lab.conformance.generate import scenarios, topology_document
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.flows import MAX_FLOWS, _spread, borders
from lab.conformance.scenario import Scenario
from lab.errors import TopologyError
from lab.oracle import Oracle
from lab.oracle.verdict import RuleDecision
from lab.topology.load import load_topology

SHARE = 0.15
"""Neither verdict may be rarer than this."""
RULE_SHARE = 0.1
"""Nor may rules, rather than defaults, decide less often; over thousands of scenarios it is a fifth."""

drawn_only = settings(
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def _drawn(examples: int) -> list[Scenario]:
    found: list[Scenario] = []

    @settings(drawn_only, max_examples=examples)
    @given(scenarios())
    def draw(scenario: Scenario) -> None:
        found.append(scenario)

    draw()
    return found


@pytest.fixture(scope="module")
def sample() -> list[Scenario]:
    return _drawn(300)


def test_everything_drawn_loads_and_both_verdicts_are_common(sample: list[Scenario]) -> None:
    verdicts: Counter[bool] = Counter()
    deciders: Counter[str] = Counter()
    for scenario in sample:
        loaded = scenario.load()
        assert len(loaded.flows) == len(scenario.flows)
        for verdict in Oracle(loaded.topology, loaded.resources).verdicts(loaded.flows):
            verdicts[verdict.allowed] += 1
            decision = verdict.decided_by
            deciders["rule" if isinstance(decision, RuleDecision) else decision.reason] += 1
    assert min(verdicts[True], verdicts[False]) / verdicts.total() >= SHARE
    assert deciders["rule"] / deciders.total() >= RULE_SHARE, "rules, not defaults, are what is tested"


def test_flows_are_bounded_different_and_in_both_families(sample: list[Scenario]) -> None:
    for scenario in sample:
        assert 1 <= len(scenario.flows) <= MAX_FLOWS
        assert len({json.dumps(flow, sort_keys=True) for flow in scenario.flows}) == len(scenario.flows)
    families = Counter(flow["family"] for scenario in sample for flow in scenario.flows)
    assert min(families["ipv4"], families["ipv6"]) / families.total() >= SHARE


@pytest.mark.parametrize(
    "word",
    [
        '"Pass"', '"Log"', '"notNets"', '"notPorts"', '"notSelector"', '"serviceAccounts"', '"namespaceSelector"',
        '"ipVersion"', '"icmp"', '"notICMP"', '"notProtocol"', '"ipBlock"', '"except"', '"endPort"', '"podSelector"',
        '"labelsToApply"', '"Tier"', '"Profile"', '"NetworkSet"', '"GlobalNetworkSet"', '"source_port"', '"SCTP"',
        '"serviceAccountSelector"', "not in", "0.0.0.0/0", '"unheard-of"',
        '"HostEndpoint"', '"applyOnForward"', '"preDNAT"', '"doNotTrack"', '"expectedIPs"', '"FelixConfiguration"',
        '"failsafeInboundHostPorts"', '"natOutgoing"', '"services"', '"EndpointSlice"', '"nodePort"', "32010",
        '"StagedGlobalNetworkPolicy"', '"StagedNetworkPolicy"', '"StagedKubernetesNetworkPolicy"',
        '"AdminNetworkPolicy"', '"BaselineAdminNetworkPolicy"', '"ClusterNetworkPolicy"', '"portRange"',
        '"destinationNamedPort"', '"networks"', '"nodes"', '"carrierPigeon"', '"from": "node-1"', '"to": "node-1"',
    ],
)  # fmt: skip
def test_every_feature_is_drawn(sample: list[Scenario], word: str) -> None:
    def has_it(scenario: Scenario) -> bool:
        return word in json.dumps([scenario.resources, scenario.flows])

    # The rarest stand in about every hundredth scenario: what the sample misses is looked for among many more.
    assert any(map(has_it, sample)) or find(scenarios(), has_it, settings=settings(drawn_only, max_examples=3000))


def test_some_nodes_have_tunnels(sample: list[Scenario]) -> None:
    assert 0 < sum(scenario.topology.get("encapsulation") == "vxlan" for scenario in sample) / len(sample) < 0.5


def test_what_a_dataplane_does_not_declare_is_not_drawn_for_it() -> None:
    beyond = {Capability.SERVICES, Capability.ADMIN_POLICIES, Capability.TUNNELS}
    beyond |= {each for each in Capability if each.value.startswith("host.")}
    seen: set[str] = set()

    @settings(drawn_only, max_examples=60)
    @given(scenarios(capabilities=frozenset(Capability) - beyond))
    def draw(scenario: Scenario) -> None:
        seen.update(str(document["kind"]) for document in scenario.resources)
        assert "encapsulation" not in scenario.topology
        assert not any(end.startswith("node-") for flow in scenario.flows for end in (flow["from"], flow["to"]))

    draw()
    assert "NetworkPolicy" in seen
    concerned = {"HostEndpoint", "FelixConfiguration", "IPPool", "Service", "EndpointSlice"}
    assert not any(kind in concerned or "Admin" in kind or kind.startswith("Cluster") for kind in seen)


def test_some_scenarios_follow_another_policy(sample: list[Scenario]) -> None:
    assert 0.1 < sum(bool(scenario.before) for scenario in sample) / len(sample) < 0.6


def test_what_is_written_reads_back_as_the_same(sample: list[Scenario], tmp_path: Path) -> None:
    for number, scenario in enumerate(sample[:30]):
        scenario.write(tmp_path / str(number))
        assert Scenario.read(tmp_path / str(number)) == scenario
        text = "".join(file.read_text() for file in (tmp_path / str(number)).rglob("*.yaml"))
        assert "&id" not in text, "an alias is hard to read in a counterexample"


def test_drawing_again_gives_the_same() -> None:
    # One right after the other: Hypothesis also tries numbers that it finds in whatever modules are loaded by then.
    assert _drawn(30) == _drawn(30)


def test_what_is_found_shrinks_to_one_resource_and_one_pair() -> None:
    def passes(scenario: Scenario) -> bool:
        return '"action": "Pass"' in json.dumps(scenario.resources)

    smallest = find(scenarios(), passes, settings=settings(max_examples=1000, database=None, derandomize=True))
    assert len(smallest.resources) == 1
    assert smallest.before == ()
    assert len(Facts(smallest.topology).workloads) == 2


def test_a_given_topology_is_kept_and_fits_its_own_document(tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text(
        "nodes: {n1: {}, n2: {labels: {zone: a}}}\n"
        "namespaces: {ns: {labels: {team: red}, serviceAccounts: {bot: {}}}}\n"
        "workloads:\n"
        "  ns/one: {node: n1, serviceAccount: bot, ports: [{port: 81}]}\n"
        "  ns/two: {node: n2, profiles: [open], labels: {app: web}}\n"
        "externals: {out: {addresses: [203.0.113.5]}}\n"
    )
    given_topology = load_topology(file)
    document = topology_document(given_topology)

    @settings(max_examples=20, derandomize=True, database=None, deadline=None)
    @given(scenarios(given_topology))
    def check(scenario: Scenario) -> None:
        assert scenario.topology == document
        with tempfile.TemporaryDirectory() as directory:
            loaded = scenario.load(Path(directory))
        assert loaded.topology.workloads == given_topology.workloads
        assert loaded.topology.externals == given_topology.externals
        assert loaded.topology.namespaces == given_topology.namespaces

    check()


def test_a_topology_without_two_ends_that_can_talk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lonely.yaml"
    file.write_text("nodes: {n1: {}}\nnamespaces: {ns: {}}\nworkloads: {ns/one: {node: n1}}\n")
    with pytest.raises(TopologyError, match=r"lonely\.yaml: policy cannot be generated"):
        scenarios(load_topology(file))


@pytest.mark.parametrize("number", [1, 2, 99, 100, 101, 102, 210, 1000, 5 * 7 * 11 * 13])
def test_spread_reaches_as_many_as_may_be_and_every_pair(number: int) -> None:
    for first in (0, number // 2, number - 1):
        spread = list(_spread(number, first))
        assert spread[0] == first
        assert len(set(spread)) == len(spread) == min(number, 100)
        assert set(spread) <= set(range(number))
    for pairs in (each for each in (2, 3, 5, 6, 7) if number % each == 0 and number >= 100):
        assert {index % pairs for index in spread} == set(range(pairs))


def test_the_borders_of_a_range_are_its_edges_and_their_neighbours() -> None:
    facts = Facts({"workloads": {"x/a": {"addresses": ["198.18.1.1"], "ports": [{"port": 80}]}}})
    rule = {"action": "Allow", "protocol": "TCP", "destination": {"ports": ["8080:8090"]}}
    packets = borders(facts, [{"kind": "GlobalNetworkPolicy", "spec": {"ingress": [rule]}}])
    tcp = {packet["port"] for packet in packets if packet["protocol"] == "TCP"}
    udp = {packet["port"] for packet in packets if packet["protocol"] == "UDP"}
    assert tcp == {80, 8079, 8080, 8090, 8091}
    assert udp == {8079, 8080, 8090, 8091}


def test_the_borders_of_an_icmp_match_are_its_type_and_code_and_those_next_to_it() -> None:
    facts = Facts({"workloads": {"x/a": {"addresses": ["198.18.1.1"]}}})
    rule = {"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}}
    packets = borders(facts, [{"kind": "GlobalNetworkPolicy", "spec": {"ingress": [rule]}}])
    sent = {(packet["icmp"]["type"], packet["icmp"]["code"]) for packet in packets if packet["protocol"] == "ICMP"}
    assert {(8, 0), (8, 1), (0, 0)} <= sent
    assert any(packet["protocol"] == 1 and packet["family"] == "ipv6" for packet in packets)


def test_the_networks_drawn_begin_and_end_at_addresses_in_use() -> None:
    facts = Facts({"workloads": {"x/a": {"addresses": ["198.18.1.11"]}, "x/b": {"addresses": ["198.18.1.12"]}}})
    assert set(facts.nets(4)) == {
        "198.18.1.11/32",
        "198.18.1.12/32",
        "198.18.1.10/31",
        "198.18.1.12/31",
        "198.18.1.8/30",
        "198.18.1.12/30",
        "198.18.1.0/24",
    }
    assert facts.families == (4,)
