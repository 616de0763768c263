# SPDX-License-Identifier: Apache-2.0
"""``policylab expect``: the rows of the design, for every flow, without root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import SHIPPED, TOPOLOGY, call, rule

POLICIES = sorted((SHIPPED / "policies").glob("*.yaml"))
ROW = {"from", "to", "protocol", "port", "family", "expected", "observed", "decided_by"}


def test_every_flow_without_policy_is_expected_to_be_allowed() -> None:
    ended = call("expect", TOPOLOGY, "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["summary"] == {"rows": 864, "allowed": 864, "denied": 0, "mismatches": 0, "inconclusive": 0}
    assert all(set(row) == ROW and row["observed"] is None for row in told["rows"])
    assert len({tuple(map(str, list(row.values())[:5])) for row in told["rows"]}) == 864


def test_rule_that_decides_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(rule("      protocol: TCP\n"))
    (tmp_path / "flows.json").write_text(json.dumps([{"from": "y/a", "to": "x/b", "protocol": "tcp", "port": 80}]))
    ended = call("expect", TOPOLOGY, tmp_path / "policies", "--flows", tmp_path / "flows.json", "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    (told,) = json.loads(ended.out)["rows"]
    assert told == {
        "from": "y/a",
        "to": "x/b",
        "protocol": "TCP",
        "port": 80,
        "family": "ipv4",
        "expected": "allow",
        "observed": None,
        "decided_by": {
            "direction": "ingress",
            "tier": "default",
            "kind": "NetworkPolicy",
            "namespace": "x",
            "name": "p",
            "rule": 0,
            "file": str(tmp_path / "policies" / "p.yaml"),
            "line": 9,
        },
    }


def test_flow_keeps_its_icmp_and_source_port(tmp_path: Path) -> None:
    entries = [
        {"from": "x/a", "to": "y/a", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}},
        {"from": "x/a", "to": "y/a", "protocol": "UDP", "port": 53, "source_port": 5353, "family": "ipv6"},
    ]
    (tmp_path / "flows.yaml").write_text(json.dumps(entries))
    first, second = json.loads(call("expect", TOPOLOGY, "--flows", tmp_path / "flows.yaml", "--output", "json").out)[
        "rows"
    ]
    assert first["port"] is None
    assert entries[0].items() <= first.items()
    assert entries[1].items() <= second.items()


@pytest.mark.parametrize("nothing", ["", "# only a comment\n", "---\n---\n"])
def test_file_without_documents_holds_no_resources(tmp_path: Path, nothing: str) -> None:
    (tmp_path / "p.yaml").write_text(nothing)
    ended = call("expect", TOPOLOGY, tmp_path / "p.yaml")
    assert ended.code == 0
    assert "864 rows, 864 allowed, 0 denied" in ended.out


def test_table_has_a_line_a_flow_and_a_summary() -> None:
    lines = call("expect", TOPOLOGY, *POLICIES).out.splitlines()
    assert len(lines) == 1 + 864 + 1
    assert lines[0].split() == ["from", "to", "flow", "family", "expected", "observed", "decided", "by"]
    assert "0 mismatches" in lines[-1]


def test_directory_that_cannot_be_looked_into_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.scandir

    def refuse(path: object) -> Iterator[os.DirEntry[str]]:
        if Path(str(path)) == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return look(str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # root may look into everything
    ended = call("expect", TOPOLOGY, tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"policylab: {tmp_path}: cannot be read: Permission denied\n"
