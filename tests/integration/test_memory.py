# SPDX-License-Identifier: Apache-2.0
"""A process that holds scenarios for hours: after three times as many it has no more memory, nor open files."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from dataplanes.api import Dataplane, Snapshot, SnapshotDelta
from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance.generate import topology_document
from lab.conformance.harness import Harness
from lab.conformance.plugins import NodePlugins
from lab.conformance.pool import Pool
from lab.conformance.scenario import Scenario
from lab.document import parse_documents
from lab.errors import PolicyError
from lab.policy.resources import Resources
from lab.topology.flows import default_flows
from lab.topology.flows_file import flow_to_dict
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FIRST = 6
"""Scenarios after which memory is looked at, and again after three times as many."""
BOUND = 30
"""Python's blocks of memory that a scenario may leave: those of a snapshot of 20 policies are hundreds."""
POLICY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: "number-{number}"}}
spec:
  selector: app == "db"
  ingress: [{{action: {action}, protocol: TCP, destination: {{ports: [{port}]}}}}]
"""


class Hoarding(NftablesDataplane):
    """Keeps what it was told."""

    name = "hoarding"
    kept: ClassVar[list[object]] = []

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        super().apply(snapshot, delta)
        self.kept.append(repr(snapshot.policies).split())


class Spilling(NftablesDataplane):
    """Leaves a file open."""

    name = "spilling"
    kept: ClassVar[list[object]] = []

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        super().apply(snapshot, delta)
        self.kept.append(Path(os.devnull).open())  # noqa: SIM115 - that is the fault


def _growth(once: Callable[[int], None]) -> tuple[float, int]:
    """Blocks that each turn leaves, and files that all leave open, from the first look to the second."""
    seen: list[tuple[int, int]] = []
    for number in range(3 * FIRST):
        once(number)
        if number + 1 in (FIRST, 3 * FIRST):
            gc.collect()
            seen.append((sys.getallocatedblocks(), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208 - only counted
    (blocks, files), (more_blocks, more_files) = seen
    return (more_blocks - blocks) / (2 * FIRST), more_files - files


def _scenarios(dataplane: type[Dataplane]) -> tuple[float, int]:
    """The same lab all the time, whose policies change."""
    topology = load_topology("one-node")
    flows = tuple(map(flow_to_dict, default_flows(topology)))

    def documents(number: int) -> tuple[dict[str, object], ...]:
        texts = (
            POLICY.format(number=each, action=("Allow", "Deny")[(number + each) % 2], port=5400 + each + number % 3)
            for each in range(20)
        )
        return tuple(each.value for text in texts for each in parse_documents(text, "policy", PolicyError))

    with Pool() as pool:

        def once(number: int) -> None:
            assert pool.run(Scenario(topology_document(topology), documents(number), flows), dataplane).conformant

        return _growth(once)


@pytest.mark.parametrize("dataplane", [NftablesDataplane, IptablesDataplane], ids=lambda each: each.name)
def test_three_times_as_many_scenarios_take_no_more_memory(dataplane: type[Dataplane]) -> None:
    blocks, files = _scenarios(dataplane)
    assert blocks < BOUND
    assert files == 0


def test_plugin_that_keeps_what_it_was_told_is_noticed() -> None:
    assert _scenarios(Hoarding)[0] > BOUND


def test_plugin_that_leaves_files_open_is_noticed() -> None:
    assert _scenarios(Spilling)[1] >= 2 * FIRST


def _restarts() -> tuple[float, int]:
    """Another lab each time, whose plugins are dropped without ``stop`` as if they had been killed."""
    topology = load_topology("one-node")

    def once(_: int) -> None:
        with Harness(topology, NftablesDataplane) as harness:
            harness.apply(Resources())
            harness.restart()
            harness.apply(Resources())

    return _growth(once)


def test_plugins_that_were_dropped_go_with_their_lab() -> None:
    blocks, files = _restarts()
    assert blocks < BOUND
    assert files == 0


def test_dropped_plugins_that_are_kept_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    real = NodePlugins.abandon

    def abandon(self: NodePlugins) -> None:
        real(self)
        kept.append(self)

    monkeypatch.setattr(NodePlugins, "abandon", abandon)
    assert _restarts()[0] > BOUND
