# SPDX-License-Identifier: Apache-2.0
"""Accelerators in a real lab: no verdict changes, evidence is asked for, and what is wrong is told."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from early_accelerator import EarlyAccelerator, IdleAccelerator, StaleAccelerator
from shell_world import policylab, run

from dataplanes.api import Accelerator
from dataplanes.iptables import IptablesDataplane
from lab.conformance.case import Case, parse_case
from lab.conformance.harness import Harness
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

POLICY = """
      - apiVersion: projectcalico.org/v3
        kind: HostEndpoint
        metadata: {name: one, labels: {role: node}}
        spec: {node: node-1, interfaceName: eth0}
      - apiVersion: projectcalico.org/v3
        kind: GlobalNetworkPolicy
        metadata: {name: blocked}
        spec:
          selector: role == "node"
          applyOnForward: true
          doNotTrack: true
          types: [Ingress]
          ingress:
            - {action: Deny, source: {nets: [203.0.113.9/32]}}
            - {action: Allow}
"""
CASE = f"""\
id: test.early
title: Denied networks are dropped early.
source: this test
capabilities: [protocol.tcp, host.endpoints, host.do-not-track, update.live]
level: extended
topology: hosts
steps:
  - resources:{POLICY}
    flows:
      - {{from: client, to: node-1, protocol: TCP, port: 80, family: ipv4, expect: deny}}
    evidence:
      - {{node: node-1, plugin: accelerator, counter: "eth0.*.dropped", expect: grew}}
      - {{node: node-1, plugin: dataplane, counter: "* raw policy */blocked ingress", expect: still}}
  - resources:{POLICY}
    flows:
      - {{from: stranger, to: node-1, protocol: TCP, port: 80, family: ipv4, expect: allow}}
  - flows:
      - {{from: client, to: node-1, protocol: TCP, port: 80, family: ipv4, expect: allow}}
"""


def case() -> Case:
    return parse_case(CASE, "test.early.yaml")


@pytest.fixture
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Judge]:
    with Pool([request.param]) as pool:
        yield Judge(pool, tmp_path, patience=Patience(each=0))


def judged_with(accelerator: type[Accelerator]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("judge", [accelerator], indirect=True, ids=[accelerator.name])


@judged_with(EarlyAccelerator)
def test_sound_accelerator_changes_no_verdict_and_proves_that_it_was_used(judge: Judge) -> None:
    assert judge.hold_case(case(), IptablesDataplane) is None


@judged_with(IdleAccelerator)
def test_acceleration_that_is_claimed_and_not_used_fails(judge: Judge) -> None:
    failure = judge.hold_case(case(), IptablesDataplane)
    assert failure is not None
    assert "dataplane iptables+idle" in failure
    assert "evidence: node-1: idle counter eth0.*.dropped must have grown, but none changed" in failure
    assert "WRONG" not in failure
    assert "failed 5 of 5 times" in failure


@judged_with(StaleAccelerator)
def test_accelerator_that_gives_nothing_up_is_told_to_be_the_cause(judge: Judge, tmp_path: Path) -> None:
    failure = judge.hold_case(case(), IptablesDataplane)
    assert failure is not None
    assert "WRONG" in failure
    assert "with its accelerators suspended it fails no more" in failure
    bundle = tmp_path / "bundles" / "iptables+stale-test.early"
    assert json.loads((bundle / "bundle.json").read_text())["accelerators"] == ["stale"]
    assert "early" in (bundle / "rulesets" / "node-1.stale.txt").read_text()


def test_suspended_accelerator_leaves_everything_to_the_dataplane() -> None:
    (scenario, _) = (case().scenario(number) for number in range(2))
    loaded = scenario.load()

    def dropped(harness: Harness) -> int:
        harness.observe(loaded.flows)
        return sum(harness.acceleration()["node-1", "early"].counters.values())

    with Harness(loaded.topology, IptablesDataplane, [EarlyAccelerator]) as harness:
        harness.apply(loaded.resources)
        used = dropped(harness)
        with harness.unaccelerated():
            assert dropped(harness) == 0
            harness.apply(loaded.resources)
            assert dropped(harness) == 0
        assert dropped(harness) == used > 0


def install(directory: Path) -> Path:
    """What pip would leave of a package with these accelerators."""
    metadata = directory / "early-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: early\nVersion: 1\n")
    points = "early = early_accelerator:EarlyAccelerator\nidle = early_accelerator:IdleAccelerator\n"
    stale = "stale = early_accelerator:StaleAccelerator\n"
    (metadata / "entry_points.txt").write_text(f"[policylab.accelerators]\n{points}{stale}")
    return directory


def test_verify_and_replay_take_the_accelerators_with_them(tmp_path: Path) -> None:
    plugins = (install(tmp_path / "packages"), Path(__file__).parent)
    words = ("verify", "one-node", "--dataplane", "iptables", "--accelerator")
    assert policylab(tmp_path, *words, "early", plugins=plugins).returncode == 0
    wrong = policylab(tmp_path, *words, "no-such", plugins=plugins)
    assert wrong.returncode == 2
    assert re.search("allowed: early, .*idle, .*stale", wrong.stderr), "what is installed is named"

    with Pool([StaleAccelerator]) as pool:
        assert Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(case(), IptablesDataplane) is not None
    again = policylab(tmp_path, "replay", "bundles/iptables+stale-test.early", plugins=plugins)
    assert again.returncode == 1
    assert "test.early with iptables+stale" in again.stdout


def test_suite_judges_a_dataplane_alone_and_with_the_accelerators(tmp_path: Path) -> None:
    plugins = (install(tmp_path / "packages"), Path(__file__).parent)
    suite = ("--pyargs", "lab.conformance", "-p", "lab.conformance.plugin", "-k", "control.no-policy", "-v")
    words = (*suite, "--dataplane", "iptables", "--accelerator", "early", "--junitxml", "junit.xml")
    ended = run([sys.executable, "-m", "pytest", *words], tmp_path, *plugins)
    assert ended.returncode == 0, ended.stdout
    assert "policylab: dataplanes iptables, iptables+early; profile dev" in ended.stdout
    junit = (tmp_path / "junit.xml").read_text()
    assert re.findall(r'name="test_expectation_holds\[([^"]*)\]"', junit) == [
        "iptables-control.no-policy",
        "iptables+early-control.no-policy",
    ]
