# SPDX-License-Identifier: Apache-2.0
"""The command line called in this process, and policies with one thing in them that matters."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from lab.cli import main

TOPOLOGY = "three-by-three"
SHIPPED = Path(__file__).parents[2] / "topologies"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def call(*words: object) -> Ended:
    """Run ``policylab WORDS...``; whatever it raises besides its own exit is the test's failure."""
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["policylab", *map(str, words)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            return Ended(int(stop.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command line came back without an exit code")


def policy(spec: str = "  selector: all()\n", *, kind: str = "NetworkPolicy", meta: str = "  namespace: x\n") -> str:
    """A Calico policy called p; its spec begins on line 7."""
    return f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata:\n  name: p\n{meta}spec:\n{spec}"


def rule(body: str, action: str = "Allow") -> str:
    """A policy with one rule; ``body`` begins on line 10, its fields at column 7."""
    return policy(f"  selector: all()\n  ingress:\n    - action: {action}\n{body}")
