# SPDX-License-Identifier: Apache-2.0
"""``policylab diff``: the flows that two sets of resources decide differently, and how its line is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_schemas import faults

from lab.cli import cli
from lab.topology.shipped import shipped_topology

DENY_TO_WEB = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny-to-web}
spec: {selector: app == 'web', ingress: [{action: Deny}]}
"""
ALLOW_DB_TO_WEB = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: allow-db, namespace: shop}
spec: {order: 1, selector: app == 'web', ingress: [{action: Allow, source: {selector: app == 'db'}}]}
"""


def run(*argv: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, argv)])


def rows(*argv: object) -> list[dict[str, object]]:
    answer = run(*argv, "--output", "json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert faults("differences", told) == []
    assert told["summary"]["rows"] == len(told["rows"]) == told["summary"]["opened"] + told["summary"]["closed"]
    return list(told["rows"])


@pytest.fixture
def deny(tmp_path: Path) -> Path:
    (tmp_path / "deny.yaml").write_text(DENY_TO_WEB)
    return tmp_path / "deny.yaml"


@pytest.fixture
def allow(tmp_path: Path) -> Path:
    (tmp_path / "allow.yaml").write_text(ALLOW_DB_TO_WEB)
    return tmp_path / "allow.yaml"


def test_policy_that_comes_is_told_with_both_decisions(deny: Path) -> None:
    told = rows("one-node", "--", deny)
    assert [(row["from"], row["family"], row["old"], row["new"]) for row in told] == [
        ("shop/db", "ipv4", "allow", "deny"),
        ("shop/db", "ipv6", "allow", "deny"),
        ("ops/monitor", "ipv4", "allow", "deny"),
        ("ops/monitor", "ipv6", "allow", "deny"),
    ]
    assert told[0]["old_decided_by"]["owner"] == "kns.shop"  # type: ignore[index]  # JSON
    assert told[0]["new_decided_by"]["name"] == "deny-to-web"  # type: ignore[index]  # JSON


def test_policy_that_goes_opens_what_it_closed(deny: Path) -> None:
    assert {(row["old"], row["new"]) for row in rows("one-node", deny, "--")} == {("deny", "allow")}


def test_only_what_differs_between_two_sides_is_told(deny: Path, allow: Path) -> None:
    assert {row["from"] for row in rows("one-node", deny, "--", deny, allow)} == {"shop/db"}


def test_other_rule_with_the_same_verdict_is_no_difference(deny: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(DENY_TO_WEB.replace("deny-to-web", "another-name"))
    assert rows("one-node", deny, "--", tmp_path / "other.yaml") == []


def test_both_sides_may_be_empty() -> None:
    assert rows("one-node", "--") == []


def test_flows_file_limits_what_is_compared(deny: Path, tmp_path: Path) -> None:
    (tmp_path / "flows.json").write_text('[{"from": "shop/db", "to": "shop/web", "protocol": "TCP", "port": 9}]')
    told = rows("one-node", "--flows", tmp_path / "flows.json", "--", deny)
    assert [(row["from"], row["port"], row["family"]) for row in told] == [("shop/db", 9, "ipv4")]


def test_options_are_read_on_either_side_of_the_dashes(deny: Path) -> None:
    assert run("one-node", "--output", "json", "--", deny).stdout == run("one-node", "--", deny, "--output=json").stdout


@pytest.mark.parametrize(("new", "code"), [(True, 1), (False, 0)])
def test_exit_code_tells_of_a_difference_when_asked_to(deny: Path, new: bool, code: int) -> None:
    assert run("one-node", deny, "--exit-code", "--", *([] if new else [deny])).exit_code == code


def test_table_names_both_decisions_and_counts(deny: Path) -> None:
    told = run("one-node", "--", deny)
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0].split()[:6] == ["from", "to", "flow", "family", "old", "new"]
    assert "profile kns.shop" in lines[1]
    assert "deny-to-web rule 0" in lines[1]
    assert lines[-1] == "12 flows, 4 rows, 0 opened, 4 closed"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("one-node",), "no '--'"),
        (("--", "one-node"), "comes first"),
        (("one-node", "--flows", "--"), "has no value"),
        ((), "TOPOLOGY"),
    ],
)
def test_line_without_two_sides_is_a_usage_error(argv: tuple[str, ...], told: str) -> None:
    answer = run(*argv)
    assert answer.exit_code == 2
    assert told in answer.stderr


def test_wrong_resource_on_the_new_side_is_refused_or_left_out(tmp_path: Path, deny: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("kind: Nothing")
    assert run("one-node", "--", tmp_path / "wrong.yaml").exception
    lenient = run("one-node", "--", tmp_path / "wrong.yaml", deny, "--lenient")
    assert lenient.exit_code == 0
    assert "left out" in lenient.stderr


def test_shipped_example_closes_what_its_comment_says() -> None:
    topology = shipped_topology("three-by-three")
    assert topology is not None
    assert len(rows("three-by-three", "--", topology.parent / "policies" / "calico-order.yaml")) == 3 * 8 * 12 - 12
