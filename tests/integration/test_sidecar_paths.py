# SPDX-License-Identifier: Apache-2.0
"""However a path is spelled, a real sidecar and the oracle read the same one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sidecar_world import World, answer_http, get, world

from lab.errors import LabError
from lab.oracle.requests import path_as_judged
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.topology import Topology
from lab.topology.flows_file import read_flow
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TOPOLOGY = """
nodes: {n1: {}}
namespaces: {x: {}}
workloads:
  x/client: {node: n1}
  x/server: {node: n1, labels: {app: server}, ports: [{name: http, port: 80}], sidecar: envoy}
"""
SEGMENTS = (
    "a",
    "b",
    "",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "a%2Fb",
    "%61",
    "a:b",
    "a%3Ab",
    "%5c..",
    "\\",
    "%25",
    "%2561",
    "~",
    "%7E",
)

segments = st.lists(st.sampled_from(SEGMENTS) | st.text("a.%2eF/", max_size=4), max_size=5)
paths = st.builds(lambda parts, query: "/" + "/".join(parts) + query, segments, st.sampled_from(["", "?", "?a=/../b"]))


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    file = tmp_path_factory.mktemp("paths") / "topology.yaml"
    file.write_text(TOPOLOGY)
    with world(load_topology(file)) as found:
        found.serve("x/server", 80, answer_http())
        yield found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies") / "policy.json"


def allowing(path: str, scratch: Path, topology: Topology) -> Resources:
    """Nothing is allowed but this path."""
    rule = {"action": "Allow", "protocol": "TCP", "http": {"paths": [{"exact": path}]}}
    policy = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"selector": "all()", "types": ["Ingress"], "ingress": [rule]},
    }
    scratch.write_text(json.dumps(policy))
    return load_resources([scratch], topology)


def is_a_flow(path: str, topology: Topology) -> bool:
    http = {"method": "GET", "path": path}
    try:
        read_flow({"from": "x/client", "to": "x/server", "protocol": "TCP", "port": 80, "http": http}, topology, "test")
    except LabError:
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(paths)
@example("/a/%2e%2e/b")
@example("//a")
@example("/a%2Fb/%5c..")
@example("/a\\b")
@example("/%2561")
@example("/a/..?b")
@example("//")
@example("/%C3%BC")
def test_a_path_is_read_as_the_oracle_reads_it(sidecar: World, scratch: Path, path: str) -> None:
    assume(is_a_flow(path, sidecar.topology))
    judged = path_as_judged(path)
    # No rule can name others.
    assume(judged.isprintable() and not set("?# ") & set(judged))
    for wanted, status in ((judged, 200), (f"{judged}x", 403)):
        sidecar.enforce(allowing(wanted, scratch, sidecar.topology))
        with sidecar.connect("x/client", "x/server", 80) as client:
            assert get(client, path)[0] == status, (path, wanted)
