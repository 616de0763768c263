# SPDX-License-Identifier: Apache-2.0
"""Faults of state are found by conversations that nobody wrote; programs that cannot talk, or may, are told of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from all_faults import FAULTS
from faults import Fault, lay

from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance import sockets
from lab.conformance.bundle import read_bundle
from lab.conformance.judge import Judge
from lab.conformance.judged import Judged
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.promises import PROMISES
from lab.conformance.talking import TALKS, Talking
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SOCKETS = next(each for each in PROMISES if each.id == "plugin.sockets.both-ways")
DATAPLANES = pytest.mark.parametrize("dataplane", [IptablesDataplane, NftablesDataplane], ids=lambda found: found.name)


def fault_named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    with Pool() as pool:
        yield Judge(pool, tmp_path, Patience(each=10, altogether=60))


@pytest.mark.parametrize("name", ["answers-need-a-rule", "believes-sources", "change-cuts-connections"])
def test_fault_of_state_is_found_and_cut_down_to_one_conversation(name: str, judge: Judge) -> None:
    broken = lay(fault_named(name), IptablesDataplane)
    failure = Talking(judge, broken).hold("ci", load_topology("one-node"))
    assert failure is not None
    assert f"FAILED {TALKS}" in failure
    assert "failed 5 of 5 times when repeated" in failure
    found = read_bundle(judge.report / "bundles" / f"{broken.name}-{TALKS}").scenario
    assert len(found.conversations) == 1
    with Pool() as fresh:
        assert not fresh.run(found, broken).conformant
        assert fresh.run(found, IptablesDataplane).conformant


@DATAPLANES
def test_sound_dataplanes_pass(dataplane: type[IptablesDataplane | NftablesDataplane], judge: Judge) -> None:
    talking = Talking(judge, dataplane)
    assert talking.hold("ci", load_topology("one-node")) is None
    assert min(talking.seen["allow"], talking.seen["deny"], talking.seen["conversations"]) > 50
    assert SOCKETS.broken(Judged(dataplane)) is None


@DATAPLANES
def test_programs_that_connect_though_no_rule_allows_it_are_told(
    dataplane: type[IptablesDataplane | NftablesDataplane],
) -> None:
    told = SOCKETS.broken(Judged(lay(fault_named("local-short-cut"), dataplane)))
    assert told is not None
    assert "ipv4: ops/monitor connected, whom no rule allows" in told
    assert "shop/web" not in told


def test_programs_that_do_not_hear_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE_SECONDS", 0.5)
    told = SOCKETS.broken(Judged(lay(fault_named("long-packets-lost"), NftablesDataplane)))
    assert told is not None
    assert "timed out" in told
    assert "ops/monitor" not in told
