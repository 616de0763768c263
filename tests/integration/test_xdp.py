# SPDX-License-Identifier: Apache-2.0
"""The accelerator xdp on a node: what is attached when, what is repaired, what changes while packets come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdp_checks import CASES, leaks, modes_differ
from xdp_model import Net, Rules
from xdp_world import crowd, edges, filter_for, list_of, nets, plan_for, program_of, shapes_from, wrong

from dataplanes.api import BpfError, HostError, MembersChange
from dataplanes.iptables import IptablesDataplane
from dataplanes.xdp import XdpAccelerator
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.lists import Kind
from dataplanes.xdp.nets import Prefix, prefix_of
from dataplanes.xdp.words import words_of
from lab.conformance.harness import Harness
from lab.fabric.bpf import compiler, detach_xdp, empty_maps

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")

DROPPED = "eth0.xdp.dropped"
RAW = "ipv4 raw policy GlobalNetworkPolicy/blocklist ingress"


class Scene:
    """node-1 of a lab in which one source is denied early."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        case = CASES["host.do-not-track.blocklist-stops-everything"]
        self.denied = case.scenario(0).load()
        self.others = case.scenario(1).load()
        self.node = harness.lab.nodes["node-1"]

    def apply(self) -> None:
        self.harness.apply(self.denied.resources)

    def sent(self) -> tuple[int, int]:
        """How many more packets XDP and the raw rule have dropped once the denied source's packets are sent."""
        before = self.counted()
        seen = self.harness.observe(self.denied.flows)
        assert {each.verdict for each in seen} == {"deny"}
        after = self.counted()
        return after[0] - before[0], after[1] - before[1]

    def counted(self) -> tuple[int, int]:
        early = self.harness.acceleration()["node-1", "xdp"].counters
        return early.get(DROPPED, 0), self.harness.evidence()["node-1"].counters.get(RAW, 0)

    def facts(self) -> dict[str, str]:
        return dict(self.harness.acceleration()["node-1", "xdp"].facts)

    def filter(self) -> InterfaceFilter:
        (accelerator,) = self.harness._plugins["node-1"]._accelerators
        return accelerator._filters["eth0"]


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    topology = CASES["host.do-not-track.blocklist-stops-everything"].scenario(0).load().topology
    with Harness(topology, IptablesDataplane, [XdpAccelerator]) as up:
        yield up


@pytest.fixture
def scene(harness: Harness) -> Scene:
    made = Scene(harness)
    harness.apply(made.denied.resources)
    return made


def test_denied_packets_meet_xdp_and_no_rule_until_it_is_detached(scene: Scene) -> None:
    early, late = scene.sent()
    assert early > 0 == late
    with scene.harness.unaccelerated():
        early, late = scene.sent()
        assert late > 0 == early
    early, late = scene.sent()
    assert early > 0 == late


def test_program_is_there_while_a_rule_calls_for_it_even_with_an_empty_set(scene: Scene) -> None:
    assert scene.facts()["eth0.xdp"] == "native"
    scene.harness.apply(CASES["host.do-not-track.sets-that-share-a-net"].scenario(3).load().resources)
    assert scene.facts()["eth0.ipv4"] == "trie, 0 entries"
    scene.harness.apply(CASES["control.no-policy"].scenario(0).load().resources)
    assert "eth0.xdp" not in scene.facts()


def test_mode_that_is_told_is_the_kernels(scene: Scene) -> None:
    assert modes_differ(scene.node, scene.facts()) is None


def test_program_that_somebody_detached_is_told_and_put_back(scene: Scene) -> None:
    assert scene.node.inside(partial(detach_xdp, "eth0")) == 1
    assert scene.node.inside(partial(detach_xdp, "eth0")) == 0
    assert scene.facts()["eth0.xdp"] == "detached"
    assert scene.sent()[1] > 0
    scene.apply()
    assert scene.facts()["eth0.xdp"] == "native"
    assert scene.sent()[1] == 0


@pytest.mark.parametrize("name", ["v4_trie", "v6_trie", "failsafes"])
def test_entry_that_somebody_took_out_of_a_map_is_told_and_put_back(scene: Scene, name: str) -> None:
    held = scene.filter()._loaded.maps[name]
    if name == "failsafes":
        ports = words_of(held, np.uint8)
        ports[np.flatnonzero(ports)[0]] = 0
    else:
        held.delete(next(held.keys()))
    assert int(scene.facts()["eth0.lost"]) == 1
    scene.apply()
    assert scene.facts()["eth0.lost"] == "0"
    assert int(scene.facts()["repaired"]) > 0


def test_entries_that_are_all_gone_are_told_and_put_back(scene: Scene) -> None:
    assert scene.node.inside(partial(empty_maps, "eth0")) == 2
    assert scene.facts()["eth0.lost"] == "2"
    assert scene.sent()[0] == 0
    scene.apply()
    assert scene.facts()["eth0.lost"] == "0"
    assert scene.sent()[1] == 0


def test_program_of_somebody_else_is_left_alone_and_told(scene: Scene) -> None:
    nothing = CASES["control.no-policy"].scenario(0).load().resources
    scene.harness.apply(nothing)
    bare = filter_for(Rules((ip_network("192.0.2.1/32"),)))
    with scene.node.attach_xdp(program_of(bare), "eth0") as foreign:
        with pytest.raises(BpfError, match=f"eth0 has an XDP program already: number {foreign.program_id}, native"):
            scene.apply()
        assert foreign.attached
    scene.apply()
    assert scene.sent()[1] == 0


def test_host_without_bcc_and_headers_says_what_to_install(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiler, "BCC_FOLDER", "/nowhere")
    XdpAccelerator(scene.node).start()  # what was compiled before is enough
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HostError, match=r"apt-get install .*python3-bpfcc"):
        XdpAccelerator(scene.node).start()


# --- lists -----------------------------------------------------------------------------------------------------

NETS = st.lists(nets(), max_size=40).map(frozenset)
CHANGES = st.lists(st.tuples(NETS, NETS), min_size=1, max_size=4)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(start=NETS, changes=CHANGES, kind=st.sampled_from(Kind))
def test_list_that_changed_in_place_holds_what_one_built_anew_would(
    start: frozenset[Net], changes: list[tuple[frozenset[Net], frozenset[Net]]], kind: Kind
) -> None:
    now = start
    bare = filter_for(Rules(tuple(now)), kind)
    ever = set(start)
    try:
        for gone, new in changes:
            # Half of what goes is what is there.
            after = (now - gone - frozenset(list(now)[::2])) | new
            ever |= new
            told = {"list": MembersChange(after - now, now - after)}
            plan = plan_for(Rules(tuple(after)))
            bare.narrow(plan, told)
            both = Rules(tuple(now & after))
            assert wrong(bare, both, shapes_from(edges(ever))) == []
            bare.widen(plan, told)
            now = after
            assert wrong(bare, Rules(tuple(now)), shapes_from(edges(ever))) == []
            assert bare.lost() == 0
    finally:
        bare.close()


@settings(deadline=None, max_examples=4, suppress_health_check=list(HealthCheck))
@given(common=NETS, other=NETS, kind=st.sampled_from(Kind))
def test_while_a_list_changes_no_listed_source_passes_and_no_other_drops(
    common: frozenset[Net], other: frozenset[Net], kind: Kind
) -> None:
    assert leaks(InterfaceFilter, common, other - common, kind) == []


@pytest.mark.parametrize("version", [4, 6])
def test_tables_in_which_something_changed_are_looked_through_and_others_are_not(version: int) -> None:
    generator = np.random.default_rng()
    many = list_of(generator, 2_000, version)
    bare = filter_for(Rules(tuple(many)))
    try:
        held = bare._lists[version]
        asked: list[int] = []

        def wanted() -> Iterator[Prefix]:
            asked.append(1)
            yield from map(prefix_of, many)

        assert held.lost(wanted()) == []
        assert not asked  # nothing has changed since it was built
        for array in held._arrays.values():
            array[:] = 0
        assert len(held.lost(wanted())) > 1_000
        assert len(held.lost(wanted())) > 1_000
        assert len(asked) == 2
    finally:
        bare.close()


def test_long_lists_are_found_whatever_their_lengths() -> None:
    generator = np.random.default_rng()
    many = list_of(generator, 20_000, 4) | list_of(generator, 20_000, 6)
    bare = filter_for(Rules(tuple(many)))
    try:
        assert bare.lost() == 0
        asked = list(islice(edges(many), 8_000))
        assert wrong(bare, Rules(tuple(many)), shapes_from(asked)) == []
    finally:
        bare.close()


def test_lists_that_crowd_in_few_places_are_found_and_change_in_place() -> None:
    many = crowd(np.random.default_rng())
    listed = list(many)
    bare = filter_for(Rules(tuple(listed)), Kind.FLAT)
    try:
        assert bare.lost() == 0
        asked = shapes_from(islice(edges(listed), 20_000))
        assert wrong(bare, Rules(tuple(listed)), asked) == []
        left, gone = listed[900:], frozenset(listed[:900])
        plan, program = plan_for(Rules(tuple(left))), program_of(bare)
        bare.narrow(plan, {"list": MembersChange(frozenset(), gone)})
        bare.widen(plan, {"list": MembersChange(frozenset(), gone)})
        assert program_of(bare) is program
        assert bare.lost() == 0
        assert wrong(bare, Rules(tuple(left)), asked) == []
    finally:
        bare.close()


def test_broad_networks_that_find_no_room_are_found_and_change_in_place() -> None:
    # So many that some places have more /24s than codes, though each /17 is spread over 128 places.
    numbers = np.random.default_rng().choice(1 << 17, 4_000, replace=False).tolist()
    listed = [ip_network((number << 15, 17)) for number in numbers if number >> 8 not in (0, 127)]
    bare = filter_for(Rules(tuple(listed)))
    try:
        assert bare.lost() == 0
        asked = shapes_from(islice(edges(listed), 8_000))
        assert wrong(bare, Rules(tuple(listed)), asked) == []
        left, gone = listed[300:], frozenset(listed[:300])
        for now, change in ((left, MembersChange(frozenset(), gone)), (listed, MembersChange(gone, frozenset()))):
            plan, program = plan_for(Rules(tuple(now))), program_of(bare)
            bare.narrow(plan, {"list": change})
            bare.widen(plan, {"list": change})
            assert program_of(bare) is program
            assert bare.lost() == 0
            assert wrong(bare, Rules(tuple(now)), asked) == []
    finally:
        bare.close()
