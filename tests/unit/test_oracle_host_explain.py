# SPDX-License-Identifier: Apache-2.0
"""Explanations of what hosts do: every stage with its name, in order, and what spares a packet one."""

from __future__ import annotations

from typing import Any

from oracle_hosts import ALLOW, DENY, NODES, felix, forward, hep, policy, pre_dnat, service, slice_of, untracked
from oracle_lab import Document, Lab, calico, gnp, lab

from lab.oracle import explanation_text
from lab.topology import Flow

__all__ = ["lab"]


def stages(judge: Any, *flow: Any) -> list[tuple[str, str | None, str, bool]]:
    """Stage, direction, whose or what, and whether it was reached."""
    asked = judge.oracle.explain(Flow(*flow)).directions
    return [(one.stage, one.direction.value if one.direction else None, one.endpoint, one.reached) for one in asked]


def test_every_stage_of_the_way_is_named_in_order(lab: Lab) -> None:
    judge = lab(hep("s", interface="*"), hep("h2", "node-2"), nodes=NODES)
    star, other = "HostEndpoint s on node-1", "HostEndpoint h2 on node-2"
    assert stages(judge, "x/a", "node-2", 6, 80, 4) == [
        ("pre-dnat", "ingress", star, True),
        ("apply-on-forward", "ingress", star, True),
        ("normal", "egress", "x/a", True),
        ("apply-on-forward", "egress", star, True),
        ("untracked", "ingress", other, True),
        ("pre-dnat", "ingress", other, True),
        ("normal", "ingress", other, True),
    ]


def test_stages_after_a_deny_are_walked_and_not_reached(lab: Lab) -> None:
    judge = lab(hep(), pre_dnat("d", ingress=[DENY]), policy("n", ingress=[ALLOW]), nodes=NODES)
    explanation = judge.oracle.explain(Flow("client", "node-1", 6, 80, 4))
    reached = {asked.stage: asked.reached for asked in explanation.directions}
    assert reached == {"untracked": True, "pre-dnat": True, "normal": False}
    text = explanation_text(explanation)
    assert "pre-dnat ingress of HostEndpoint h1 on node-1: deny" in text
    assert "untracked ingress of HostEndpoint h1 on node-1: goes on" in text
    assert "ingress of HostEndpoint h1 on node-1, not reached; had it been: allow" in text


def test_stage_that_an_early_accept_spares_is_told_as_such(lab: Lab) -> None:
    judge = lab(hep(), untracked("r", ingress=[ALLOW]), policy("n", ingress=[DENY]), nodes=NODES)
    explanation = judge.oracle.explain(Flow("client", "node-1", 6, 80, 4))
    assert explanation.verdict.allowed
    assert [asked.spared for asked in explanation.directions] == [False, True, True]
    assert "spared by what was accepted before; else: deny" in explanation_text(explanation)


def test_what_no_policy_decides_is_told_with_its_reason(lab: Lab) -> None:
    for documents, flow, words in (
        ([hep()], ("client", "node-1", 6, 80, 4), "HostEndpoint h1 on node-1, which has neither policy"),
        ([hep()], ("client", "node-1", 6, 22, 4), "a failsafe port"),
        ([], ("x/a", "node-1", 6, 80, 4), "defaultEndpointToHostAction"),
        ([], ("node-1", "x/a", 6, 80, 4), "its own workloads"),
        ([service()], ("client", "node-1", 6, 32010, 4), "node port on node-1"),
    ):
        assert words in explanation_text(lab(*documents, nodes=NODES).oracle.explain(Flow(*flow)))


def test_json_says_null_where_a_stage_has_nothing_to_say(lab: Lab) -> None:
    judge = lab(hep(), policy("n", ingress=[ALLOW]), nodes=NODES)
    asked = judge.oracle.explain(Flow("client", "node-1", 6, 80, 4)).to_dict()["directions"]
    assert [(one["stage"], one["verdict"]) for one in asked] == [
        ("untracked", None),
        ("pre-dnat", None),
        ("normal", "allow"),
    ]
    assert asked[0]["decided_by"] is None
    assert asked[2]["decided_by"]["name"] == "n"


def test_node_itself_is_a_stage_without_direction(lab: Lab) -> None:
    judge = lab(felix(defaultEndpointToHostAction="Accept"), nodes=NODES)
    asked = judge.oracle.explain(Flow("x/a", "node-1", 6, 80, 4)).to_dict()["directions"]
    assert [(one["stage"], one["direction"], one["verdict"]) for one in asked] == [
        ("normal", "egress", "allow"),
        ("node", None, "allow"),
    ]
    assert asked[1]["endpoint"] == "defaultEndpointToHostAction of node-1"


def test_node_port_is_explained_with_the_backend_that_it_leads_to(lab: Lab) -> None:
    rule = {**ALLOW, "protocol": "TCP", "destination": {"ports": [32010]}}
    documents = service(), slice_of("198.18.2.3"), hep()
    judge = lab(*documents, forward("f", ingress=[rule]), nodes=NODES)
    text = explanation_text(judge.oracle.explain(Flow("client", "node-1", 6, 32010, 4)))
    assert "destination.ports wants one of 32010; here it is 80/TCP (http)" in text


def staged(name: str, spec: Document) -> Document:
    whole = {"selector": "host == 'h1'", "types": ["Ingress"], "ingress": [DENY], **spec}
    return calico("StagedGlobalNetworkPolicy", name, whole)


def test_staged_policy_is_told_at_its_own_stages_alone(lab: Lab) -> None:
    early = staged("e", {"applyOnForward": True, "preDNAT": True})
    through = staged("f", {"applyOnForward": True})
    judge = lab(hep(), policy("n", ingress=[ALLOW]), early, through, nodes=NODES)

    def told(destination: str) -> dict[tuple[str, str], dict[str, bool]]:
        asked = judge.oracle.explain(Flow("client", destination, 6, 80, 4)).directions
        return {(one.stage, one.endpoint): {each.name: each.changes for each in one.staged} for one in asked}

    host = "HostEndpoint h1 on node-1"
    assert told("node-1") == {
        ("untracked", host): {},
        ("pre-dnat", host): {"e": True},
        ("normal", host): {"f": True},
    }
    assert told("x/a") == {
        ("untracked", host): {},
        ("pre-dnat", host): {"e": True},
        ("apply-on-forward", host): {"f": True},
        ("normal", "x/a"): {},
    }


def test_policy_for_everybody_is_told_at_host_and_workload(lab: Lab) -> None:
    everyone = gnp({"selector": "all()", "types": ["Ingress"], "ingress": [ALLOW], "applyOnForward": True})
    judge = lab(hep(), everyone, nodes=NODES)
    asked = judge.oracle.explain(Flow("client", "x/a", 6, 80, 4)).directions
    policies = [[p.name for tier in one.tiers for p in tier.policies] for one in asked]
    assert policies == [[], [], ["p"], ["p"]]
