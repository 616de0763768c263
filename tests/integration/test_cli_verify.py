# SPDX-License-Identifier: Apache-2.0
"""``policylab verify`` from the shell: rows, exit codes, counterexamples, and plugins that misbehave."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from shell_world import ARGV, DENY, POLICIES, POLICYLAB, TOPOLOGY, environment, install_strangers, policylab, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("strangers")
    install_strangers(directory)
    return directory


def test_rows_are_those_of_expect_with_what_was_observed(tmp_path: Path) -> None:
    words = (TOPOLOGY, *sorted(POLICIES.glob("*.yaml")), "--output", "json")
    expected, verified = (
        policylab(tmp_path, "expect", *words),
        policylab(tmp_path, "verify", *words, "--dataplane", "iptables"),
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    told = json.loads(verified.stdout)
    assert told["rows"] == [{**row, "observed": row["expected"]} for row in json.loads(expected.stdout)["rows"]]
    assert told["summary"] == json.loads(expected.stdout)["summary"]
    assert told["summary"]["rows"] == 864
    assert 0 < told["summary"]["denied"] < 864
    assert list(tmp_path.iterdir()) == []


def test_two_runs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(
            [*ARGV, "verify", str(TOPOLOGY), *policies, "--dataplane", dataplane, "--output", "json"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        for dataplane, policies in (("iptables", [str(DENY)]), ("iptables-legacy", []))
    ]
    told = [json.loads(run.communicate(timeout=60)[0])["summary"] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [each["mismatches"] + each["inconclusive"] for each in told] == [0, 0]
    assert told[0]["denied"] > told[1]["denied"] == 0


def test_node_port_leads_back_to_the_sender_or_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text(
        """\
apiVersion: v1
kind: Service
metadata: {name: mirror, namespace: ops}
spec: {type: NodePort, ports: [{name: own, port: 80, nodePort: 32010}, {name: void, port: 81, nodePort: 32011}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mirror-4, namespace: ops, labels: {kubernetes.io/service-name: mirror}}
addressType: IPv4
ports: [{name: own, port: 80}]
endpoints: [{addresses: [198.18.0.3]}]
"""
    )
    (tmp_path / "flows.yaml").write_text(
        """\
- {from: ops/monitor, to: node-1, protocol: TCP, port: 32010}
- {from: node-1, to: node-1, protocol: TCP, port: 32011}
- {from: node-1, to: node-1, protocol: TCP, port: 32012}
"""
    )
    words = ("one-node", "service.yaml", "--flows", "flows.yaml", "--dataplane", "iptables", "--output", "json")
    ended = policylab(tmp_path, "verify", *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [row["observed"] for row in json.loads(ended.stdout)["rows"]] == ["allow", "deny", "allow"]


def test_mismatch_ends_1_with_a_counterexample_that_replays(tmp_path: Path, strangers: Path) -> None:
    words = ("verify", TOPOLOGY, DENY, "--dataplane", "open", "--output", "json")
    ended = policylab(tmp_path, *words, plugins=(strangers,))
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["summary"]["mismatches"] > 0
    command = ended.stderr.strip().splitlines()[-1].removeprefix("reproduce: policylab ").split()
    replayed = policylab(tmp_path, *command, plugins=(strangers,))
    assert (replayed.returncode, replayed.stderr) == (1, "")
    assert "WRONG" in replayed.stdout


def test_mismatch_ends_1_though_nobody_reads_it(tmp_path: Path, strangers: Path) -> None:
    line = f"{POLICYLAB} verify {TOPOLOGY} {DENY} --dataplane open 2>&1 | head -1 >/dev/null"
    assert run(["bash", "-o", "pipefail", "-c", line], tmp_path, strangers).returncode == 1


@pytest.mark.parametrize(
    ("dataplane", "told"),
    [
        ("raises", "policylab: node node-1: raises raised KeyError('oops') in apply(); next: mend the plugin, at"),
        ("exits", "policylab: node node-1: exits raised SystemExit(0) in apply()"),
        ("clings", "clings raised OSError('not going') in stop()"),
    ],
)
def test_plugin_that_raises_or_exits_is_not_conformant(
    tmp_path: Path, strangers: Path, dataplane: str, told: str
) -> None:
    ended = policylab(tmp_path, "verify", TOPOLOGY, "--dataplane", dataplane, plugins=(strangers,))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert told in ended.stderr
    assert "strangers.py:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_plugin_without_evidence_is_told_of_all_the_same(tmp_path: Path, strangers: Path) -> None:
    ended = policylab(tmp_path, "verify", TOPOLOGY, DENY, "--dataplane", "mute", plugins=(strangers,))
    assert ended.returncode == 1
    assert "reproduce: policylab replay" in ended.stderr
    (ruleset,) = tmp_path.glob("policylab-report/bundles/*/rulesets/node-1.txt")
    assert "not a word" in ruleset.read_text()
