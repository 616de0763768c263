# SPDX-License-Identifier: Apache-2.0
"""The generator of HTTP rules and requests: all that it draws loads, and it reaches every corner that it should."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from test_generate import drawn_only

from lab.conformance.generate import scenarios
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.flows import borders
from lab.conformance.scenario import Scenario
from lab.oracle import Oracle
from lab.oracle.verdict import RuleDecision
from lab.policy.resources import CalicoPolicy, Direction
from lab.topology.load import load_topology

SHARE = 0.15
"""Of the requests neither verdict may be rarer, nor rules that ask about requests decide less often."""


@pytest.fixture(scope="module")
def sample() -> list[Scenario]:
    found: list[Scenario] = []

    @settings(drawn_only, max_examples=80)
    @given(scenarios(sidecars=True))
    def draw(scenario: Scenario) -> None:
        found.append(scenario)

    draw()
    return found


def test_everything_drawn_loads_and_rules_about_requests_decide(sample: list[Scenario]) -> None:
    seen: Counter[str] = Counter()
    for scenario in sample:
        loaded = scenario.load()
        policies = [policy for policy in loaded.resources.policies if isinstance(policy, CalicoPolicy)]
        rules = {(policy.kind, policy.namespace, policy.name): policy.ingress for policy in policies}
        asked = [flow for flow in loaded.flows if flow.http]
        for verdict in Oracle(loaded.topology, loaded.resources).verdicts(asked):
            decision = verdict.decided_by
            seen["allow" if verdict.allowed else "deny"] += 1
            if isinstance(decision, RuleDecision) and decision.direction is Direction.INGRESS:
                asked_of = rules.get((decision.kind, decision.namespace, decision.name), ())
                seen["http"] += bool(asked_of) and asked_of[decision.rule].http is not None
    requests = seen["allow"] + seen["deny"]
    assert min(seen["allow"], seen["deny"]) / requests >= SHARE
    assert seen["http"] / requests >= SHARE / 2


@pytest.mark.parametrize("word", ['"methods"', '"*"', '"prefix"', '"exact"', "?q=1", "/else/..", "%73", "/below"])
def test_every_form_of_rule_and_request_is_drawn(sample: list[Scenario], word: str) -> None:
    assert any(word in json.dumps([scenario.resources, scenario.flows]) for scenario in sample)


def test_what_stands_beside_sidecars_is_left_out(sample: list[Scenario]) -> None:
    for scenario in sample:
        kinds = {str(document["kind"]) for document in scenario.resources}
        assert kinds.isdisjoint({"HostEndpoint", "FelixConfiguration", "IPPool", "Service"})
        assert "encapsulation" not in scenario.topology
        assert not any("source_port" in flow for flow in scenario.flows)


def test_requests_are_made_at_the_borders_of_a_rule_and_never_where_no_http_is_looked_for() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "tcp-sql", "port": 5432}]
    workload = {"addresses": ["198.18.1.1"], "sidecar": "envoy", "ports": ports}
    facts = Facts({"workloads": {"x/a": workload}}, with_requests=True)
    rule = {"action": "Allow", "http": {"methods": ["PUT"], "paths": [{"prefix": "/shop"}]}}
    packets = borders(facts, [{"kind": "GlobalNetworkPolicy", "spec": {"ingress": [rule]}}])
    asked = [packet for packet in packets if "http" in packet]
    assert {packet["port"] for packet in asked} == {80}
    assert {packet["http"]["path"] for packet in asked if packet["http"]["method"] == "PUT"} == {
        "/shop", "/shop/below", "/shopx", "/", "/shop?q=1", "/else/../shop", "/%73hop",
    }  # fmt: skip
    assert {packet["http"]["method"] for packet in asked if packet["http"]["path"] == "/shop"} == {"PUT", "GET"}


def test_without_being_asked_for_no_requests_are_drawn() -> None:
    @settings(drawn_only, max_examples=20)
    @given(scenarios(load_topology("sidecars")))
    def draw(scenario: Scenario) -> None:
        assert not any("http" in flow for flow in scenario.flows)

    draw()
