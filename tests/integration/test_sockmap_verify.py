# SPDX-License-Identifier: Apache-2.0
"""``verify`` with real Envoys and sockmap between them: all rows right, and acceleration proven, or told to be none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from shell_world import policylab

from lab.schemas import load_schema

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FLOWS = """
- {from: shop/frontend, to: shop/cart, protocol: TCP, port: 8080, http: {method: GET, path: /}}
- {from: ops/batch, to: data/db, protocol: TCP, port: 5432}
"""
REFUSED = """
- {from: shop/frontend, to: shop/cart, protocol: TCP, port: 8080, http: {method: PUT, path: /}}
- {from: ops/monitor, to: shop/cart, protocol: TCP, port: 8080, http: {method: GET, path: /}}
"""
READ_ONLY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: read-only, namespace: shop}
spec:
  selector: app == 'cart'
  ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'frontend'}, http: {methods: [GET]}}]
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
    assert "evidence: 6 sidecars: 1 let through, 0 forbidden" in ended.stderr


@pytest.mark.parametrize("words", [(), ("--accelerator", "sockmap")], ids=["without", "sockmap"])
def test_evidence_tells_refused_requests_and_where_bytes_went(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(FLOWS + REFUSED)
    (tmp_path / "policy.yaml").write_text(READ_ONLY)
    ended = policylab(
        tmp_path,
        *("verify", "sidecars", "policy.yaml", "--flows", "flows.yaml", "--dataplane", "iptables"),
        *("--output", "json", *words),
    )
    assert ended.returncode == 0, ended.stderr
    results = json.loads(ended.stdout)
    Draft202012Validator(load_schema("results")).validate(results)
    evidence = results["evidence"]
    # One request got 403; the connection that the dataplane denies was never a request.
    assert evidence["sidecar"]["shop/cart"]["http.inbound-http1.rbac.denied"] == 1
    assert evidence["sidecar"]["shop/cart"]["http.inbound-http1.rbac.allowed"] == 1
    assert evidence["interfaces"]["shop/cart"]["bytes"] > 0
    if not words:
        assert evidence.keys() == {"sidecar", "interfaces"}
        return
    assert evidence["sockmap"]["node-1"]["redirected.bytes"] > 0
    assert evidence["sockmap"]["node-1"]["order.violated"] == 0
