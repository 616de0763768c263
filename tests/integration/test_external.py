# SPDX-License-Identifier: Apache-2.0
"""Dataplanes that are programs: the sample is held like any other, and one that talks nonsense is told so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from external_plugins import SAMPLE, FelixNewDataplane, FelixOldDataplane, SampleDataplane, scripted

from dataplanes.api import Dataplane
from dataplanes.external import ExternalDataplane
from lab.conformance.case import Case, load_cases
from lab.conformance.harness import Harness
from lab.conformance.judge import Judge
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.promises import PROMISES, Promise
from lab.errors import DataplaneError
from lab.policy.resources import Resources
from lab.topology.load import load_topology

OF_CONNECTIONS = "plugin.sockets.both-ways"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

CORE = [
    case
    for each in load_cases()
    if each.level == "core" and (case := each.within(SampleDataplane.capabilities)) is not None
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with Pool() as pool:
        yield Judge(pool, tmp_path_factory.mktemp("report"), patience=Patience(each=0))


@pytest.mark.parametrize("case", CORE, ids=lambda case: case.id)
def test_sample_program_passes_the_core(case: Case, judge: Judge) -> None:
    assert judge.hold_case(case, SampleDataplane) is None


@pytest.mark.parametrize(
    "promise",
    [each for each in PROMISES if not each.slow and ".acceleration." not in each.id and each.id != OF_CONNECTIONS],
    ids=lambda promise: promise.id,
)
def test_sample_program_keeps_its_promises(promise: Promise) -> None:
    assert promise.broken(Judged(SampleDataplane)) is None


def test_sample_program_is_not_asked_for_connections_that_it_does_not_declare() -> None:
    promise = next(each for each in PROMISES if each.id == OF_CONNECTIONS)
    with pytest.raises(NotHeldError, match="does not declare connections"):
        promise.broken(Judged(SampleDataplane))


def test_what_a_program_does_by_itself_cannot_be_made_to_fail() -> None:
    promise = next(each for each in PROMISES if each.id == "plugin.apply.fails-as-a-whole")
    with pytest.raises(NotHeldError, match="makes no request of its node"):
        promise.broken(Judged(SampleDataplane))


BY_FELIX = (
    "control.",
    "icmp.",
    "named-port.selector.",
    "network-set.update.",
    "profile.missing.",
    "rule.not-",
    "tier.default.",
    "tier.pass.",
)
"""What every part of Felix's messages has to do with; the driver's rules are those of the sample."""


@pytest.mark.parametrize("plugin", [FelixNewDataplane, FelixOldDataplane], ids=lambda plugin: plugin.name)
@pytest.mark.parametrize("case", [case for case in CORE if case.id.startswith(BY_FELIX)], ids=lambda case: case.id)
def test_driver_that_speaks_felix_gives_the_same_verdicts(case: Case, plugin: type[Dataplane], judge: Judge) -> None:
    assert judge.hold_case(case, plugin) is None


@pytest.mark.parametrize("plugin", [FelixNewDataplane, FelixOldDataplane], ids=lambda plugin: plugin.name)
def test_driver_that_speaks_felix_leaves_nothing(plugin: type[Dataplane]) -> None:
    promise = next(each for each in PROMISES if each.id == "plugin.stop.leaves-nothing")
    assert promise.broken(Judged(plugin)) is None


def programs(name: str) -> set[int]:
    """The processes of this host that run it."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and name.encode() in (process / "cmdline").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue
    return found


def test_program_ends_with_its_lab() -> None:
    before = programs(str(SAMPLE))
    with Harness(load_topology("one-node"), SampleDataplane) as harness:
        harness.apply(Resources())
        assert programs(str(SAMPLE)) - before
    deadline = time.monotonic() + 20
    while programs(str(SAMPLE)) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert programs(str(SAMPLE)) - before == set()


HELLO = """hear; say '{"type": "hello", "version": 1, "name": "x", "capabilities": ["family.ipv4"]}'; """


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "the program sh (takes no message|ended in the middle of a question|cannot be heard)"),
        ("hear; echo nonsense >&4; hear", "this is no message"),
        (
            """hear; say '{"type": "hello", "version": 2}'; hear; say '{"type": "stopped"}'""",
            "speaks another version of the protocol; given: 2",
        ),
        (
            """hear; say '{"type": "hello", "version": 1}'; hear; say '{"type": "stopped"}'""",
            "does not have capabilities .*'family.ipv4'",
        ),
        ("""hear; say '{"type": "applied"}'; hear""", "answers something else; given: 'applied'; allowed: hello"),
        (
            HELLO + """hear; say '{"type": "failed", "what": "no room"}'; hear; say '{"type": "stopped"}'""",
            "the program sh failed: no room",
        ),
        (HELLO + "hear; exit 0", "ended in the middle of a question"),
    ],
)
def test_program_that_does_not_keep_to_the_protocol_is_told(script: str, told: str) -> None:
    plugin: type[ExternalDataplane] = scripted(script)
    with pytest.raises(DataplaneError, match=told), Harness(load_topology("one-node"), plugin) as harness:
        harness.apply(Resources())


def test_program_that_wants_deltas_gets_them() -> None:
    plugin = scripted(
        """
hear; say '{"type": "hello", "version": 1, "name": "x", "deltas": true, "capabilities": ["family.ipv4"]}'
hear | grep -q '"type":"snapshot"' && say '{"type": "applied"}'
hear | grep -q '"type":"delta"' && say '{"type": "applied"}'
hear; say '{"type": "stopped"}'
"""
    )
    with Harness(load_topology("one-node"), plugin) as harness:
        harness.apply(Resources())
        harness.apply(Resources())
