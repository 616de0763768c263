# SPDX-License-Identifier: Apache-2.0
"""What ``lint`` says of rules is true in random worlds: the oracle never decides anything by them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from oracle_worlds import World, flows_of, worlds

from lab.lint.linter import lint
from lab.oracle import Oracle, RuleDecision
from lab.policy.resources import Resources

IDLE_RULES = {"lint.rule-never-matches", "lint.rule-shadowed", "lint.rule-unreachable"}


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
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
