# SPDX-License-Identifier: Apache-2.0
"""``policylab explain`` says of every flow what ``policylab expect`` says, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_world import SHIPPED, TOPOLOGY, call

from lab.conformance.results import decision_to_dict
from lab.oracle import Oracle
from lab.policy.load import load_resources
from lab.topology.flows import default_flows
from lab.topology.load import load_topology

POLICIES = sorted((SHIPPED / "policies").glob("*.yaml"))
X_TO_Y = (TOPOLOGY, "--from", "x/a", "--to", "y/b")
EXTERNAL = ("external-client", "--from", "client", "--to", "shop/web")


def rules_that_matched(direction: dict[str, Any]) -> list[tuple[str, str | None, str, int]]:
    """Every rule of a direction that matched: kind, namespace and name of its policy, and its number."""
    return [
        (policy["kind"], policy["namespace"], policy["name"], rule["rule"])
        for tier in direction["tiers"]
        for policy in tier["policies"]
        for rule in policy["rules"]
        if rule["matched"]
    ]


@pytest.mark.parametrize("files", [POLICIES, *([file] for file in POLICIES)], ids=lambda files: files[0].stem)
def test_explanation_of_every_flow_names_what_decides_it(files: list[Any]) -> None:
    topology = load_topology(TOPOLOGY)
    oracle = Oracle(topology, load_resources(files, topology))
    flows = default_flows(topology)
    for flow, verdict in zip(flows, oracle.verdicts(flows), strict=True):
        told: Any = oracle.explain(flow).to_dict()
        decided = decision_to_dict(verdict.decided_by)
        assert told["verdict"] == ("allow" if verdict.allowed else "deny")
        assert told["decided_by"] == decided
        if "rule" in decided and "kind" in decided:
            direction = [each for each in told["directions"] if each["decided_by"] == decided][-1]
            wanted = (decided["kind"], decided["namespace"], decided["name"], decided["rule"])
            assert rules_that_matched(direction)[-1] == wanted


@pytest.mark.parametrize(
    "words",
    [
        (*X_TO_Y, "--port", "80"),
        (*X_TO_Y, *POLICIES, "--protocol", "sctp", "--port", "81", "--family", "ipv6", "--source-port", "99"),
        (*X_TO_Y, "--protocol", "ICMP"),
        (*X_TO_Y, "--protocol", "ICMPv6", "--icmp-type", "135"),
        (*X_TO_Y, "--protocol", "47"),
        (TOPOLOGY, "--from", "x/a", "--to", "x/a", "--port", "80"),
        (*EXTERNAL, "--port", "80"),
        (EXTERNAL[0], "--from", "shop/web", "--to", "client", "--port", "443"),
    ],
)
def test_any_flow_is_explained(words: tuple[object, ...]) -> None:
    shown, data = call("explain", *words), call("explain", *words, "--output", "json")
    assert (shown.code, shown.err, data.code, data.err) == (0, "", 0, "")
    assert f"verdict: {json.loads(data.out)['verdict']}, decided by" in shown.out


def test_denied_egress_is_explained_and_ingress_not_reached() -> None:
    egress = SHIPPED / "policies" / "kubernetes-egress-ports.yaml"
    rows = json.loads(call("expect", TOPOLOGY, egress, "--output", "json").out)["rows"]
    denied = next(row for row in rows if row["expected"] == "deny")
    assert denied["decided_by"]["direction"] == "egress"
    ends = ("--from", denied["from"], "--to", denied["to"], "--protocol", denied["protocol"], "--port", denied["port"])
    ended = call("explain", TOPOLOGY, egress, *ends)
    assert ended.code == 0
    assert "verdict: deny" in ended.out
    assert f"ingress of {denied['to']}, not reached" in ended.out


UNTRACKED = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: one, labels: {role: node}}
spec: {node: node-1, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: blocked}
spec:
  selector: role == "node"
  applyOnForward: true
  doNotTrack: true
  types: [Ingress]
  ingress: [{action: Deny, source: {nets: [203.0.113.0/24]}}]
"""


def test_explanation_tells_what_plugins_would_make_of_it(tmp_path):
    (tmp_path / "untracked.yaml").write_text(UNTRACKED)
    words = (*X_TO_Y[:1], tmp_path / "untracked.yaml", *X_TO_Y[1:], "--port", "80")
    plugins = ("--accelerator", "xdp", "--dataplane", "iptables")
    shown = call("explain", *words, *plugins)
    assert shown.code == 0
    assert "xdp on node-1: accelerated: " in shown.out
    assert shown.out.rstrip().endswith("iptables declares all that this needs")
    told = json.loads(call("explain", *words, *plugins, "--output", "json").out)
    assert [each["accelerated"] for each in told["acceleration"]].count(True) >= 1
    assert told["not_declared"] == []
    assert "acceleration" not in json.loads(call("explain", *words, "--output", "json").out)
    of_all = json.loads(call("explain", *words, "--dataplane", "iptables", "--output", "json").out)
    assert told["acceleration"] == [each for each in of_all["acceleration"] if each["accelerator"] == "xdp"]
