# SPDX-License-Identifier: Apache-2.0
"""In whatever the generator draws, hosts and tunnels included, ``explain`` and the verdicts of ``verify`` agree."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from lab.conformance.generate import scenarios
from lab.conformance.scenario import Scenario
from lab.oracle import Oracle, RuleDecision


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_explanation_of_every_flow_gives_what_decides_it(scenario: Scenario) -> None:
    loaded = scenario.load()
    oracle = Oracle(loaded.topology, loaded.resources)
    for flow, verdict in zip(loaded.flows, oracle.verdicts(loaded.flows), strict=True):
        explanation = oracle.explain(flow)
        assert explanation.verdict == verdict
        assert oracle.verdict(flow) == verdict
        told = verdict.decided_by
        if isinstance(told, RuleDecision):
            # The rule is among those that were asked, and matched.
            asked = [
                (stage.direction, policy.kind, policy.namespace, policy.name, rule.index)
                for stage in explanation.directions
                for tier in stage.tiers
                for policy in tier.policies
                for rule in policy.rules
                if rule.matched
            ]
            assert (told.direction, told.kind, told.namespace, told.name, told.rule) in asked
