# SPDX-License-Identifier: Apache-2.0
"""Dataplanes compared in real labs: sound ones agree, broken ones are told with their flows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from shell_world import install_strangers, policylab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {selector: app == "db", types: [Ingress]}
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "packages"
    directory.mkdir()
    install_strangers(directory)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return directory


def compare(tmp_path: Path, plugins: Path, *names: str) -> tuple[int, dict]:
    words = [word for name in names for word in ("--dataplane", name)]
    ended = policylab(tmp_path, "compare", "one-node", "policy.yaml", *words, "--output", "json", plugins=(plugins,))
    return ended.returncode, json.loads(ended.stdout)


def test_sound_dataplanes_do_not_differ(tmp_path: Path, plugins: Path) -> None:
    code, told = compare(tmp_path, plugins, "iptables", "iptables-legacy")
    assert (code, told["rows"]) == (0, [])
    assert told["summary"] == {"flows": 12, "differing": 0, "mismatches": 0, "failed": 0}


def test_broken_dataplanes_are_told_with_their_flows(tmp_path: Path, plugins: Path) -> None:
    code, told = compare(tmp_path, plugins, "iptables", "open", "raises")
    assert code == 1
    assert [(row["to"], row["observed"]) for row in told["rows"]] == [
        ("shop/db", {"iptables": "deny", "open": "allow", "raises": None})
    ] * len(told["rows"])
    assert told["summary"]["differing"] == len(told["rows"]) == 4
    assert "raises raised KeyError('oops') in apply()" in told["failures"]["raises"]
    assert {"between": ["iptables", "open"], "flows": 4} in told["differences"]
