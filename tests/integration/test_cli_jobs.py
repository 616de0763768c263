# SPDX-License-Identifier: Apache-2.0
"""``policylab conformance --jobs``: the same outcomes, whoever holds an expectation, and nothing else is left there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from shell_world import ARGV, environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

WORDS = ("--dataplane", "nftables", "--dataplane", "iptables", "--only", "control or tier or generated.changes")


def _outcomes(directory: Path, jobs: int) -> tuple[set[tuple[str, str, str]], list[str]]:
    """What became of each expectation, and what lies in the report's directory."""
    words = [*ARGV, "conformance", *WORDS, "--profile", "dev", "--jobs", str(jobs), "--report", f"jobs-{jobs}"]
    ended = subprocess.run(words, cwd=directory, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = directory / f"jobs-{jobs}"
    told = json.loads((report / "report.json").read_text())["dataplanes"]
    found = {(name, each["id"], each["outcome"]) for name, column in told.items() for each in column["expectations"]}
    return found, sorted(each.name for each in report.iterdir())


def test_expectations_end_alike_however_many_hold_them(tmp_path: Path) -> None:
    (alone, files), (shared, shared_files) = _outcomes(tmp_path, 1), _outcomes(tmp_path, 2)
    assert alone == shared
    assert len(alone) > 20
    assert files == shared_files == ["junit.xml", "report.json"]
