# SPDX-License-Identifier: Apache-2.0
"""Floods in a real lab: every packet arrives, is valid, and comes from the sources that were given."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from lab.bench.dos_lists import ipv4_list, ipv6_list, mixed
from lab.bench.dos_ways import nothing
from lab.errors import LabError
from lab.fabric.lab import EndPort, Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.topology.load import load_topology
from lab.traffic.flood import Flood, FloodKind, Sources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PACKETS = 4096
FIRST = 0x0B000000
V4 = np.arange(FIRST, FIRST + 1024, dtype=np.uint64)
V6 = np.full(1024, 0x20010DB8 << 32, np.uint64), np.arange(1, 1025, dtype=np.uint64)


class Target:
    """A node that takes what a flood sends, and what its kernel counts."""

    def __init__(self, lab: Lab) -> None:
        (name,) = lab.nodes
        self.node: NamespaceNode = lab.nodes[name]
        self.wire: EndPort = lab.upstream(name)
        self.addresses = {address.version: address for address in self.wire.addresses}
        self.way = nothing(self.node)

    def counted(self, *names: str) -> dict[str, int]:
        return {name: value for name, value in self._all().items() if name in names}

    def _all(self) -> dict[str, int]:
        found = {}
        lines = self.node.run(("cat", "/proc/net/snmp")).stdout.splitlines()
        for heads, values in zip(lines[::2], lines[1::2], strict=True):
            group, *keys = heads.split()
            found |= {f"{group[:-1]}.{key}": int(value) for key, value in zip(keys, values.split()[1:], strict=True)}
        for line in self.node.run(("cat", "/proc/net/snmp6")).stdout.splitlines():
            key, value = line.split()
            found[key] = int(value)
        return found


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with Lab(load_topology("one-node")) as lab:
        yield Target(lab)


def grown(target: Target, flood: Flood, *names: str) -> tuple[int, ...]:
    before, received = target.counted(*names), target.way.received()
    assert flood.send(target.wire, PACKETS).packets == PACKETS
    assert target.way.received() - received >= PACKETS
    after = target.counted(*names)
    return tuple(after[name] - before[name] for name in names)


@pytest.mark.parametrize("sources", [V4, V6], ids=["ipv4", "ipv6"])
def test_datagrams_of_a_flood_reach_the_protocol_with_good_checksums(target: Target, sources: Sources) -> None:
    version = 4 if sources is V4 else 6
    names = ("Udp.NoPorts", "Udp.InCsumErrors") if version == 4 else ("Udp6NoPorts", "Udp6InCsumErrors")
    with Flood(sources, target.addresses[version]) as flood:
        assert grown(target, flood, *names) == (PACKETS, 0)


def test_syns_of_a_flood_are_answered_by_resets(target: Target) -> None:
    with Flood(V4, target.addresses[4], "syn") as flood:
        assert grown(target, flood, "Tcp.InSegs", "Tcp.InCsumErrors", "Tcp.OutRsts") == (PACKETS, 0, PACKETS)


@pytest.mark.parametrize("kind", ["fragments"])
def test_fragments_of_a_flood_wait_for_the_rest(target: Target, kind: FloodKind) -> None:
    with Flood(V4, target.addresses[4], kind) as flood:
        assert grown(target, flood, "Ip.ReasmReqds", "Ip.ReasmOKs") == (PACKETS, 0)


def test_frames_that_are_made_and_thrown_away_arrive_nowhere(target: Target) -> None:
    with Flood(V4, target.addresses[4]) as flood:
        before = target.way.received()
        assert flood.discard(target.wire, PACKETS).packets == PACKETS
        assert target.way.received() - before < PACKETS


def test_flood_at_a_given_rate_takes_its_time(target: Target) -> None:
    with Flood(V4, target.addresses[4]) as flood:
        spent = flood.send(target.wire, 1000, rate=5000)
    assert spent.packets / spent.seconds <= 5000


def test_number_of_sources_that_is_no_power_of_two_is_refused(target: Target) -> None:
    with pytest.raises(LabError, match="power of two"):
        Flood(V4[:1000], target.addresses[4])
    with Flood(V4, target.addresses[4]) as flood, pytest.raises(LabError, match="no such number of packets"):
        flood.send(target.wire, 0)


def test_mixed_sources_are_listed_in_the_share_that_is_stated() -> None:
    generator = np.random.default_rng()
    listed = ipv4_list(generator, 2000)
    nets = {(prefix.value, prefix.length) for prefix in listed.prefixes()}
    _, low = mixed(listed, generator, 4096, 0.25)
    inside = sum(
        any((value >> (32 - length) << (32 - length), length) in nets for length in range(22, 33))
        for value in low.tolist()
    )
    assert inside == 1024


@pytest.mark.parametrize("make", [ipv4_list, ipv6_list])
def test_sources_are_in_the_list_and_others_are_not(make: object) -> None:
    generator = np.random.default_rng()
    listed = make(generator, 2000)
    assert len(listed) == 2000
    known = {(prefix.value, prefix.length) for prefix in listed.prefixes()}
    bits = 32 if listed.version == 4 else 128

    def inside(high: int, low: int) -> bool:
        value = high << 64 | low
        lengths = {length for _, length in known}
        return any((value >> (bits - length) << (bits - length), length) in known for length in lengths)

    for (high, low), expected in ((listed.sources(generator, 4096), True), (listed.others(generator, 4096), False)):
        assert len(low) == 4096
        assert {inside(*each) for each in zip(high.tolist(), low.tolist(), strict=True)} == {expected}
        assert len({*zip(high.tolist(), low.tolist(), strict=True)}) > 3000
