# SPDX-License-Identifier: Apache-2.0
"""The command line as a process of its own, and dataplanes of a stranger's that misbehave."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TOPOLOGY = CHECKOUT / "topologies" / "three-by-three.yaml"
POLICIES = CHECKOUT / "topologies" / "policies"
DENY = POLICIES / "kubernetes-default-deny.yaml"
ARGV = [sys.executable, "-m", "lab.cli"]
POLICYLAB = shlex.join(ARGV)

STRANGERS = '''
import sys
from dataplanes.iptables import IptablesDataplane

class Open(IptablesDataplane):
    name = "open"
    def apply(self, snapshot, delta=None):
        """Forgets to do it."""

class Raises(IptablesDataplane):
    name = "raises"
    def apply(self, snapshot, delta=None):
        raise KeyError("oops")

class Exits(IptablesDataplane):
    name = "exits"
    def apply(self, snapshot, delta=None):
        sys.exit(0)

class Mute(Open):
    name = "mute"
    def evidence(self):
        raise RuntimeError("not a word")

class Clings(IptablesDataplane):
    name = "clings"
    def stop(self):
        raise OSError("not going")
'''


def install_strangers(directory: Path) -> None:
    """What pip would leave of a package with STRANGERS in it."""
    (directory / "strangers.py").write_text(STRANGERS)
    metadata = directory / "strangers-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    points = "".join(f"{name} = strangers:{name.title()}\n" for name in ("open", "raises", "exits", "mute", "clings"))
    (metadata / "entry_points.txt").write_text(f"[policylab.dataplanes]\n{points}")


def environment(*plugins: Path, **more: str) -> dict[str, str]:
    """The environment of a user, with the checkout and the plugins importable."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (CHECKOUT, *plugins)))} | more


def run(argv: list[object], cwd: Path, *plugins: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = list(map(str, argv))
    return subprocess.run(
        words, cwd=cwd, env=environment(*plugins), capture_output=True, text=True, timeout=seconds, check=False
    )


def policylab(cwd: Path, *words: object, plugins: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``policylab WORDS...``."""
    return run([*ARGV, *words], cwd, *plugins)
