# SPDX-License-Identifier: Apache-2.0
"""Policy with sockmap before the dataplane: what is denied is never made, what is established goes on, as without."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sockmap_world import Sockets, leg_of, topology
from test_sockmap import exchange

from dataplanes.iptables import IptablesDataplane
from dataplanes.sockmap import SockmapAccelerator
from lab.conformance.plugins import NodePlugins
from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.load import load_resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

DENY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny}
spec: {selector: all(), types: [Ingress], ingress: [{action: Deny}]}
"""
UNTRACKED = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: uplink, labels: {role: uplink}}
spec: {node: node-1, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: untracked}
spec:
  selector: role == 'uplink'
  doNotTrack: true
  applyOnForward: true
  types: [Ingress, Egress]
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
"""


class Policed:
    """A lab with iptables and sockmap on a node, and policies from text."""

    def __init__(self, directory: Path, lab: Lab, plugins: NodePlugins) -> None:
        self.lab = lab
        self._directory = directory
        self._plugins = plugins

    def apply(self, *policies: str) -> None:
        files = []
        for place, text in enumerate(policies):
            files.append(self._directory / f"{place}.yaml")
            files[-1].write_text(text, encoding="utf-8")
        snapshots = compile_snapshots(self.lab.topology, load_resources(files, self.lab.topology))
        self._plugins.apply(snapshots["node-1"], None)

    def counters(self) -> dict[str, int]:
        return dict(self._plugins.acceleration("sockmap").counters)

    def denied(self) -> int:
        """Packets that the policy has denied."""
        counters = self._plugins.evidence().counters
        return sum(count for name, count in counters.items() if "deny" in name)

    @contextmanager
    def sockets(self, name: str = "veth-ipv4", *, plain: bool = False, near: str | None = None) -> Iterator[Sockets]:
        leg = leg_of(self.lab, name, plain=plain)
        with ExitStack() as stack:
            yield Sockets(self.lab, replace(leg, near=near or leg.near), stack)


@contextmanager
def policed_by(directory: Path, accelerator: type[SockmapAccelerator]) -> Iterator[Policed]:
    """A lab with iptables and that accelerator on its first node."""
    with (
        Lab(topology(directory)) as lab,
        NodePlugins(lab.nodes["node-1"], IptablesDataplane, [accelerator]) as plugins,
    ):
        yield Policed(directory, lab, plugins)


@pytest.fixture
def policed(tmp_path: Path) -> Iterator[Policed]:
    with policed_by(tmp_path, SockmapAccelerator) as made:
        yield made


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "accelerated"])
def test_a_policy_that_comes_later_stops_new_connections_and_cuts_none(policed: Policed, plain: bool) -> None:
    policed.apply()
    with policed.sockets(plain=plain) as sockets:
        near, far = sockets.pair()
        exchange(near, far, b"before", 3)
        policed.apply(DENY)
        before, denied = policed.counters(), policed.denied()
        exchange(near, far, b"after", 3)
        assert policed.counters()["redirected.messages"] - before["redirected.messages"] == (0 if plain else 6)
        sockets.attempt()
        deadline = time.monotonic() + 10
        while policed.denied() == denied and time.monotonic() < deadline:
            pass
        assert policed.denied() > denied
        assert not sockets.waiting()
        assert policed.counters()["sockets.joined"] == before["sockets.joined"]


def test_flows_that_are_not_tracked_are_not_accelerated(policed: Policed) -> None:
    policed.apply(UNTRACKED)
    with policed.sockets("remote-ipv4") as sockets:
        near, far = sockets.pair()
        exchange(near, far, b"untracked", 5)
        tracked = policed.lab.nodes["node-1"].run(("cat", "/proc/net/nf_conntrack")).stdout
        # Answers come in by the uplink, and never were tracked.
        assert "ESTABLISHED" not in tracked
    assert policed.counters()["redirected.messages"] == 0


def test_a_node_that_talks_to_its_workload_is_not_accelerated(policed: Policed) -> None:
    policed.apply()
    with policed.sockets(near="node-1") as sockets:
        exchange(*sockets.pair(), b"from the node", 5)
    counters = policed.counters()
    assert (counters["redirected.messages"], counters["passed.peer"]) == (0, 5)
