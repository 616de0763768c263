# SPDX-License-Identifier: Apache-2.0
"""``policylab lint`` on the command line: its forms of output, and what it ends with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_schemas import faults

from lab.cli import cli
from lab.lint.finding import CATALOGUE

UNREACHABLE = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  selector: app == 'web'
  ingress:
    - action: Deny
    - {action: Allow, protocol: TCP}
"""
STAGED = """
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: s}
spec: {selector: app == 'web', ingress: [{action: Deny}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(UNREACHABLE)
    return tmp_path / "p.yaml"


def run(*argv: object) -> Result:
    return CliRunner().invoke(cli, ["lint", *map(str, argv)])


def test_finding_is_one_line_with_its_place(file: Path) -> None:
    answer = run("one-node", file)
    assert answer.exit_code == 0
    line, summary = answer.stdout.splitlines()
    assert line.startswith(f"{file}:9:7: warning: GlobalNetworkPolicy p ingress rule 1: the rule is never asked")
    assert line.endswith("[lint.rule-unreachable]")
    assert summary == "1 warnings, 0 infos"


def test_json_holds_to_its_schema(file: Path) -> None:
    told = json.loads(run("one-node", file, "--output", "json").stdout)
    assert faults("findings", told) == []
    assert told["summary"] == {"warnings": 1, "infos": 0}
    (finding,) = told["findings"]
    assert (finding["line"], finding["column"], finding["rule"], finding["name"]) == (9, 7, 1, "p")


def test_flows_of_a_staged_policy_are_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STAGED)
    told = json.loads(run("one-node", tmp_path / "s.yaml", "--output", "json").stdout)
    assert faults("findings", told) == []
    (finding,) = told["findings"]
    assert [(flow["expected"], flow["staged"]) for flow in finding["flows"]] == [("allow", "deny")] * 4
    table = run("one-node", tmp_path / "s.yaml").stdout
    assert "shop/db -> shop/web 80/TCP ipv4: allow, then deny" in table
    assert "and 1 more flows" in table


def test_flows_file_says_on_which_flows_verdicts_are_compared(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STAGED)
    (tmp_path / "flows.json").write_text('[{"from": "shop/db", "to": "shop/web", "protocol": "UDP", "port": 9}]')
    told = json.loads(
        run("one-node", tmp_path / "s.yaml", "--flows", tmp_path / "flows.json", "--output", "json").stdout
    )
    assert [(flow["protocol"], flow["port"]) for flow in told["findings"][0]["flows"]] == [("UDP", 9)]


@pytest.mark.parametrize(("text", "code"), [(UNREACHABLE, 1), (STAGED, 0)])
def test_strict_ends_1_for_a_warning_and_0_for_an_info(text: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    assert run("one-node", tmp_path / "p.yaml", "--strict").exit_code == code


def test_topology_without_declared_ports_is_no_obstacle(tmp_path: Path, file: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "nodes: {n: }\nnamespaces: {x: }\nworkloads: {x/a: {node: n, labels: {app: web}}}"
    )
    assert run(tmp_path / "lab.yaml", file).exit_code == 0


def test_reference_lists_every_finding() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()
    assert set(re.findall(r"^\| `(lint\.[a-z-]+)` \|", text, re.MULTILINE)) == CATALOGUE.keys()
