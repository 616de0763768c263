# SPDX-License-Identifier: Apache-2.0
"""Standard streams that go away, are closed or full: the exit code stays true, and nothing is traced back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import SHIPPED

POLICYLAB = f"{sys.executable} -m lab.cli"
TOPOLOGY = SHIPPED / "three-by-three.yaml"


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash that fails when any part of a pipe does; the source tree stays importable."""
    environment = os.environ | {"PYTHONPATH": str(SHIPPED.parent)}
    argv = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("tail", "code", "told"),
    [
        ("| head -1 >/dev/null", 0, ""),
        ("--output json | head -1 >/dev/null", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 3, "policylab: No space left on device; next: make room where the output goes\n"),
        ("--flows nowhere.yaml 2>/dev/full", 2, ""),
        ("--flows nowhere.yaml 2>&-", 2, ""),
        ("--nonsense 2>/dev/full", 2, ""),
    ],
)
def test_stream_that_takes_nothing_is_borne(tmp_path: Path, tail: str, code: int, told: str) -> None:
    ended = shell(f"{POLICYLAB} expect {TOPOLOGY} {tail}", tmp_path)
    assert (ended.returncode, ended.stderr) == (code, told)


def test_names_that_are_no_ascii_are_told_in_any_locale(tmp_path: Path) -> None:
    (tmp_path / "é.yaml").write_text("é: 1\n", encoding="utf-8")
    ended = shell(f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {POLICYLAB} expect é.yaml", tmp_path)
    assert ended.returncode == 2
    assert ".yaml:1:1: unknown key" in ended.stderr


def test_nothing_is_coloured(tmp_path: Path) -> None:
    ended = shell(f"FORCE_COLOR=1 NO_COLOR=1 {POLICYLAB} expect {TOPOLOGY} --flows nowhere.yaml", tmp_path)
    assert "\x1b" not in ended.stdout + ended.stderr
