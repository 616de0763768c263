# SPDX-License-Identifier: Apache-2.0
"""What ``lint`` says of rules is true in random worlds: the oracle never decides anything by them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import HealthCheck, example, given, settings
from oracle_worlds import HERE, POOLS, World, flows_of, worlds

from lab.lint.linter import lint
from lab.oracle import Oracle, RuleDecision
from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    CalicoPolicy,
    Direction,
    EntityRule,
    LabelSelector,
    PortRange,
    ProtocolMatch,
    Resources,
    Rule,
)
from lab.policy.selector import parse_selector
from lab.topology import Namespace, Node, Port, Topology, Workload

IDLE_RULES = {"lint.rule-never-matches", "lint.rule-shadowed", "lint.rule-unreachable"}

TCP = ProtocolMatch(6, by_name=True)
EVERYBODY, NOBODY = LabelSelector({}, ()), LabelSelector({"k": "nobody"}, ())


def pod(index: int) -> Workload:
    addresses = ip_address(f"198.18.0.{index}"), ip_address(f"fd00:18::{index}")
    return Workload("x", f"w{index}", "node-1", {}, None, addresses, (), None, None)


TWO = Topology(
    "two", POOLS, POOLS, {"node-1": Node("node-1", "namespace", {}, ())}, {"x": Namespace("x", {}, {})},
    {w.name: w for w in (pod(1), pod(2))}, {}, (),
)  # fmt: skip


def denying_nobody_on_an_unknown_port() -> World:
    """A rule that fails closed as a whole: it denies everything, though nobody is its peer."""
    rule = AdminRule("", Action.DENY, (AdminPeer(namespaces=NOBODY),), (AdminPort(),), HERE)
    policy = AdminPolicy("AdminNetworkPolicy", "p", False, 0, AdminPeer(namespaces=EVERYBODY), (), (rule,), HERE)
    return World(TWO, Resources(policies=(policy,)))


def allowing_all_but_one_of_those_selected() -> World:
    """A rule behind one whose notNets spare it a single one of several ends to which the same applies."""
    spared = EntityRule(not_nets=(ip_network("198.18.0.2/32"),))
    first, rest = (
        CalicoPolicy(
            "GlobalNetworkPolicy", name, None, "default", None, parse_selector("all()"), None, None,
            frozenset({Direction.INGRESS}), (Rule(Action.ALLOW, HERE, ip_version=4, destination=destination),), (),
            HERE,
        )
        for name, destination in (("p", spared), ("q", EntityRule()))
    )  # fmt: skip
    return World(TWO, Resources(policies=(first, rest)))


def opening_a_port_by_its_name_behind_others() -> World:
    """A rule behind one for a port that one end declares, and another does not."""
    named = EntityRule(ports=("http",))
    first, rest = (
        CalicoPolicy(
            "GlobalNetworkPolicy", name, None, "default", None, parse_selector("all()"), None, None,
            frozenset({Direction.INGRESS}), (Rule(Action.ALLOW, HERE, protocol=TCP, destination=destination),), (),
            HERE,
        )
        for name, destination in (("p", named), ("q", EntityRule(ports=(PortRange(80, 80),))))
    )  # fmt: skip
    serving = replace(pod(1), ports=(Port("http", 6, 80),))
    return World(replace(TWO, workloads={w.name: w for w in (serving, pod(2))}), Resources(policies=(first, rest)))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
@example(denying_nobody_on_an_unknown_port())
@example(allowing_all_but_one_of_those_selected())
@example(opening_a_port_by_its_name_behind_others())
def test_rules_of_which_lint_says_that_they_are_idle_decide_nothing(world: World) -> None:
    resources = world.resources
    assert isinstance(resources, Resources)
    flows = flows_of(world.topology)
    findings = lint(world.topology, resources, flows).findings
    idle = {
        (each.about.kind, each.about.namespace, each.about.name, each.about.direction, each.about.rule)
        for each in findings
        if each.id in IDLE_RULES or (each.id == "lint.rule-matches-nobody" and "is peer" not in each.message)
    }
    nobody = {
        (each.about.kind, each.about.namespace, each.about.name)
        for each in findings
        if each.id == "lint.policy-selects-nobody"
    }
    for verdict in Oracle(world.topology, resources).verdicts(flows):
        told = verdict.decided_by
        if isinstance(told, RuleDecision):
            assert (told.kind, told.namespace, told.name, told.direction, told.rule) not in idle
            assert (told.kind, told.namespace, told.name) not in nobody
