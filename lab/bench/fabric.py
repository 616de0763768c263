# SPDX-License-Identifier: Apache-2.0
"""``policylab bench lab``: how fast a lab comes up, against others doing the same work.

The lab is a star: one node with many workloads, IPv4 and IPv6. All take their turn in every round, and what each
has built is compared once, in a first round that does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from lab.bench.fabric_ip_batch import IpBatch
from lab.bench.fabric_pyroute2 import Pyroute2
from lab.bench.fabric_rival import Policylab, Rival
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.errors import LabError
from lab.topology import Namespace, Node, Pools, Topology, Workload

__all__ = ["run", "star"]

HOSTS: Final = 50
"""Workloads in the star."""

# What closed namespaces leave to the kernel is done in about 40 ms, whatever their number; the next one starts after.
_DRAIN_SECONDS: Final = 0.25


def run(rounds: int, hosts: int = HOSTS) -> BenchResult:
    """Bring a star of so many workloads up and down, so many rounds, in every way there is.

    Raises HostError when this host cannot (not root, iproute2 missing), LabError when one of them built something
    else than the others.
    """
    topology = star(hosts)
    rivals = (Policylab(topology), IpBatch(topology), Pyroute2(topology))
    _compare(rivals)
    up = interleave(rounds, {rival.name: _measured(rival) for rival in rivals})
    details = {"hosts": hosts}
    rows = [Row(rival.name, "ms", Spread.of(up[rival.name]), details, "up") for rival in rivals]
    rows += [Row(rival.name, "ms", Spread.of(rival.down_ms[-rounds:]), details, "down") for rival in rivals]
    ours = up[rivals[0].name]
    ratios = {"lab.ip_batch": ratio(up[rivals[1].name], ours), "lab.pyroute2": ratio(up[rivals[2].name], ours)}
    return BenchResult("lab", describe_host(), rounds, tuple(rows), ratios)


def star(hosts: int) -> Topology:
    """One node and so many workloads on it."""
    pods = Pools(IPv4Network("198.18.0.0/16"), IPv6Network("fd00:18::/32"))
    underlay = Pools(IPv4Network("198.19.0.0/24"), IPv6Network("fd00:19::/64"))
    node = Node("node", "namespace", {}, (underlay.ipv4[1], underlay.ipv6[1]))
    workloads = [
        Workload("bench", f"w{at}", node.name, {}, None, (pods.ipv4[at], pods.ipv6[at]), (), None, None)
        for at in range(1, hosts + 1)
    ]
    return Topology(
        name="star",
        pods=pods,
        underlay=underlay,
        nodes={node.name: node},
        namespaces={"bench": Namespace("bench", {}, {})},
        workloads={workload.name: workload for workload in workloads},
        externals={},
    )


def _compare(rivals: tuple[Rival, ...]) -> None:
    """Have each build it once and see that all of them built the same."""
    pictures = {rival.name: rival.picture() for rival in rivals}
    expected = pictures[rivals[0].name]
    for name, picture in pictures.items():
        if picture != expected:
            odd = sorted(map(str, picture ^ expected))
            raise LabError(
                f"{name} built something else than {rivals[0].name}: {len(odd)} things differ", value=odd[:4]
            )


def _measured(rival: Rival) -> Callable[[], float]:
    def measure() -> float:
        time.sleep(_DRAIN_SECONDS)
        return rival.up_and_down()

    return measure
