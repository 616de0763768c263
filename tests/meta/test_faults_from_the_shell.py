# SPDX-License-Identifier: Apache-2.0
"""A broken dataplane as its user meets it: installed as a stranger's package, judged by the command line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NAME = "iptables+range-lacks-last-port"
MODULE = """
from dataplanes.iptables import IptablesDataplane
from faults import lay
from snapshot_faults import SNAPSHOT_FAULTS

(fault,) = (fault for fault in SNAPSHOT_FAULTS if fault.name == "range-lacks-last-port")
Broken = lay(fault, IptablesDataplane)
"""
POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: bystander, namespace: ops}
spec: {selector: app == "monitor", types: [Egress], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: two-ports, namespace: shop}
spec:
  selector: app == "db"
  ingress:
    - {action: Allow, protocol: TCP, source: {selector: app == "web"}, destination: {ports: ["5431:5432"]}}
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package with a broken dataplane is installed, as pip would leave it."""
    packages = tmp_path / "packages"
    metadata = packages / "broken-0.1.dist-info"
    metadata.mkdir(parents=True)
    (packages / "broken.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(f"[policylab.dataplanes]\n{NAME} = broken:Broken\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(packages), str(Path(__file__).parent)))}


def policylab(arguments: str, environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab.cli", *shlex.split(arguments)]
    return subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )


def test_verify_of_a_broken_dataplane_ends_1_with_a_counterexample_that_replays(
    installed: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    question = "verify one-node policy.yaml --output json --dataplane"

    sound = policylab(f"{question} iptables", installed, tmp_path)
    assert (sound.returncode, sound.stderr) == (0, "")

    broken = policylab(f"{question} {NAME}", installed, tmp_path)
    assert broken.returncode == 1
    assert "two-ports" in broken.stderr
    assert "bystander" not in broken.stderr  # it was cut away
    assert broken.stderr.count("WRONG") == 1
    assert re.search(
        r"expected allow, because of ingress: default/NetworkPolicy shop/two-ports rule 0 \(.+:\d+\)", broken.stderr
    )
    assert "observed deny: sent, not seen again" in broken.stderr

    reproduce = re.search(r"^reproduce: policylab (replay .+)$", broken.stderr, re.MULTILINE)
    assert reproduce is not None
    again = policylab(reproduce[1], installed, tmp_path)
    assert (again.returncode, again.stdout.count("WRONG")) == (1, 1)
    mended = policylab(f"{reproduce[1]} --dataplane iptables", installed, tmp_path)
    assert (mended.returncode, mended.stdout.count("WRONG")) == (0, 0)
