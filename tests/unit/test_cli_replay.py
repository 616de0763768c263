# SPDX-License-Identifier: Apache-2.0
"""``policylab replay`` of what is no bundle, or no longer a whole one: exit 2 and the part that is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli_world import SHIPPED, call

from lab.conformance.bundle import BUNDLE_VERSION
from lab.conformance.scenario import Scenario

MANIFEST = {
    "bundle_version": BUNDLE_VERSION,
    "policylab": "0.1.0",
    "dataplane": "iptables",
    "expectation": "verify-three-by-three",
    "seed": None,
    "host": {},
}
POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}}
FLOW = {"from": "y/a", "to": "x/b", "protocol": "TCP", "port": 80}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as a run writes it, less what is only there to be read by people."""
    directory = tmp_path / "bundle"
    topology = yaml.safe_load((SHIPPED / "three-by-three.yaml").read_text())
    Scenario(topology, (POLICY,), (FLOW,), ((POLICY,),)).write(directory)
    (directory / "bundle.json").write_text(json.dumps(MANIFEST))
    return directory


def without(key: str) -> str:
    return json.dumps({name: value for name, value in MANIFEST.items() if name != key})


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("bundle.json", "", "this is not what a bundle says of itself"),
        ("bundle.json", "[]", "this is not what a bundle says of itself"),
        ("bundle.json", "{", "broken YAML"),
        ("bundle.json", json.dumps(MANIFEST | {"bundle_version": 99}), "another version; given: 99; allowed: 1"),
        ("bundle.json", without("bundle_version"), "this is not what a bundle says of itself"),
        ("bundle.json", without("dataplane"), "dataplane must be given"),
        ("bundle.json", without("expectation"), "expectation must be given"),
        ("bundle.json", json.dumps(MANIFEST | {"dataplane": "nope"}), "no such dataplane"),
        ("topology.yaml", "", "topology.yaml: the file holds nothing"),
        ("topology.yaml", "7\n", "topology.yaml:1:1: "),
        ("resources.yaml", "- 1\n", "resources.yaml:1:1: "),
        ("resources.yaml", "{", "resources.yaml:2:1: broken YAML"),
        ("flows.yaml", "", "flows.yaml: the file holds nothing"),
        ("flows.yaml", "[]\n", "no flow to judge"),
        ("flows.yaml", "- 5\n", "flows.yaml:1:3: "),
        ("before/01.yaml", "{", "before/01.yaml:2:1: broken YAML"),
    ],
)
def test_part_that_is_wrong_is_named(bundle: Path, name: str, text: str, told: str) -> None:
    (bundle / name).write_text(text)
    ended = call("replay", bundle)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


@pytest.mark.parametrize("name", ["bundle.json", "topology.yaml", "resources.yaml", "flows.yaml"])
@pytest.mark.parametrize("instead", [None, Path.mkdir], ids=["missing", "directory"])
def test_part_that_is_missing_is_named(bundle: Path, name: str, instead: Callable[[Path], None] | None) -> None:
    (bundle / name).unlink()
    if instead is not None:
        instead(bundle / name)
    ended = call("replay", bundle)
    assert (ended.code, ended.out) == (2, "")
    assert name in ended.err


def test_pipe_as_manifest_is_not_waited_for(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()
    os.mkfifo(bundle / "bundle.json")
    assert call("replay", bundle).code == 2
