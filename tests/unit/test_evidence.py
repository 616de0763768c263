# SPDX-License-Identifier: Apache-2.0
"""Evidence that must hold: counters that grew or stood still, of plugins that claim the case."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataplanes.api import Capability, Evidence
from lab.conformance.case import parse_case
from lab.conformance.evidence import DATAPLANE, ExpectedEvidence, unmet
from lab.conformance.scenario import Scenario
from lab.errors import LabError

CASE = """\
id: a.b
title: A sentence.
source: somewhere
capabilities: [protocol.tcp, host.do-not-track]
level: extended
topology: hosts
steps:
  - flows:
      - {from: client, to: node-1, protocol: TCP, port: 80, expect: allow}
    evidence:
      - {node: node-1, plugin: accelerator, counter: "eth0.*", expect: grew}
      - {node: node-1, plugin: dataplane, counter: "raw *", expect: still}
"""


def told(plugin: str, **counters: int) -> dict[tuple[str, str], Evidence]:
    return {("node-1", plugin): Evidence(counters)}


@pytest.mark.parametrize(
    ("expect", "before", "after", "why"),
    [
        ("grew", {"drop": 1}, {"drop": 2}, None),
        ("grew", {}, {"drop": 2}, None),
        ("grew", {"drop": 1, "drops": 0}, {"drop": 1, "drops": 1}, None),
        ("grew", {"drop": 1}, {"drop": 1}, "none changed"),
        ("grew", {"drop": 1}, {"drop": 1, "pass": 7}, "none changed"),
        ("grew", {"drop": 2}, {"drop": 1}, "drop went from 2 to 1"),
        ("grew", {"drop": 1, "drops": 3}, {"drop": 2, "drops": 0}, "drop went from 1 to 2, drops went from 3 to 0"),
        ("grew", {}, {"pass": 1}, "there is no such counter"),
        ("still", {"drop": 1}, {"drop": 1, "pass": 7}, None),
        ("still", {}, {"drop": 0}, None),
        ("still", {"drop": 1}, {"drop": 2}, "drop went from 1 to 2"),
        ("still", {"drop": 1}, {"drop": 0}, "drop went from 1 to 0"),
        ("still", {"drop": 1}, {}, "drop went from 1 to 0"),
        ("still", {}, {"pass": 1}, "there is no such counter"),
    ],
)
def test_counters_that_did_what_they_must_not_are_told(expect, before, after, why):
    expected = ExpectedEvidence("node-1", "fast", "drop*", expect)
    found = unmet([expected], told("fast", **before), told("fast", **after))
    if why is None:
        assert found == ()
    else:
        must = "must have grown" if expect == "grew" else "must have stood still"
        assert found == (f"node-1: fast counter drop* {must}, but {why}",)


def test_evidence_of_another_plugin_or_node_proves_nothing():
    after = told("slow", drop=1) | {("node-2", "fast"): Evidence({"drop": 1})}
    assert unmet([ExpectedEvidence("node-1", "fast", "drop", "grew")], {}, after)


class Fast:
    name = "fast"
    capabilities = frozenset(Capability)


class Tcp:
    name = "tcp-only"
    capabilities = frozenset({Capability.TCP})


def test_evidence_is_asked_of_every_accelerator_that_claims_the_case():
    case = parse_case(CASE, "a.b.yaml")
    assert case.scenario(0).evidence == ()
    assert case.scenario(0, [Tcp]).evidence == ()
    assert case.scenario(0, [Tcp, Fast]).evidence == (
        ExpectedEvidence("node-1", "fast", "eth0.*", "grew"),
        ExpectedEvidence("node-1", DATAPLANE, "raw *", "still"),
    )


def test_scenario_with_evidence_is_read_as_it_was_written(tmp_path: Path):
    scenario = parse_case(CASE, "a.b.yaml").scenario(0, [Fast])
    scenario.write(tmp_path)
    assert Scenario.read(tmp_path) == scenario


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("plugin: accelerator", "plugin: xdp", "a.b.yaml:11:9: evidence of no such plugin; given: 'xdp'; allowed: acc"),
        ("node: node-1, plugin: acc", "node: node-3, plugin: acc", "given: 'node-3'; allowed: node-1, node-2"),
        ("expect: grew", "expect: shrank", "a.b.yaml:11:72"),
        ('counter: "eth0.*", ', "", "a.b.yaml:11:9"),
    ],
)
def test_wrong_evidence_is_refused_at_its_place(old, new, message):
    with pytest.raises(LabError, match=re.escape(message)):
        parse_case(CASE.replace(old, new), "a.b.yaml")
