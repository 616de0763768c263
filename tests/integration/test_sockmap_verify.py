# SPDX-License-Identifier: Apache-2.0
"""``verify`` with real Envoys and sockmap between them: all rows right, and acceleration proven, or told to be none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shell_world import policylab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FLOWS = """
- {from: shop/frontend, to: shop/cart, protocol: TCP, port: 8080, http: {method: GET, path: /}}
- {from: ops/batch, to: data/db, protocol: TCP, port: 5432}
"""
IDLE = """
from dataclasses import replace
from dataplanes.sockmap import SockmapAccelerator

class Idle(SockmapAccelerator):
    name = "idle-sockmap"

    def apply(self, snapshot, delta=None):
        super().apply(replace(snapshot, endpoints={}), delta)
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """What pip would leave of a package with an accelerator that does nothing."""
    metadata = tmp_path / "packages" / "idle-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: idle\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[policylab.accelerators]\nidle-sockmap = idle_sockmap:Idle\n")
    (metadata.parent / "idle_sockmap.py").write_text(IDLE)
    return metadata.parent


@pytest.mark.parametrize("accelerator", [None, "sockmap", "idle-sockmap"])
def test_requests_are_judged_the_same_and_acceleration_is_proven(
    accelerator: str | None, packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "flows.yaml").write_text(FLOWS)
    words = () if accelerator is None else ("--accelerator", accelerator)
    ended = policylab(
        tmp_path, "verify", "sidecars", "--flows", "flows.yaml", "--dataplane", "iptables", *words, plugins=(packages,)
    )
    assert "2 rows, 2 allowed, 0 denied, 0 mismatches, 0 inconclusive" in ended.stdout, ended.stderr
    idle = accelerator == "idle-sockmap"
    assert ended.returncode == (1 if idle else 0), ended.stderr
    told = "accelerated in name only: node-1: idle-sockmap counter redirected.bytes must have grown"
    assert (told in ended.stderr) == idle
