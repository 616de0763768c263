# SPDX-License-Identifier: Apache-2.0
"""The order in which the plugins of a node are called, and what a failing one leaves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dataplanes.api import Capability, Evidence, Planned, Snapshot, SnapshotDelta
from lab.conformance.plugins import NodePlugins
from lab.errors import DataplaneError, HostError

NODE = SimpleNamespace(name="node-1")
DELTA = SnapshotDelta("node-1")


def snapshot(name: str) -> Snapshot:
    return Snapshot(name, {}, {}, {}, {})


ONE, TWO = snapshot("one"), snapshot("two")


class Plane:
    """Notes what it is asked, and raises where it is told to."""

    name = "plane"
    api_version = 1
    capabilities = frozenset(Capability)
    calls: list[tuple[object, ...]] = []  # noqa: RUF012 - emptied before each test
    raising: dict[str, BaseException] = {}  # noqa: RUF012 - emptied before each test

    def __init__(self, node):
        assert node is NODE

    def _note(self, what, *about):
        self.calls.append((self.name, what, *about))
        reason = self.raising.get(f"{self.name}.{what}")
        if reason is not None:
            raise reason

    def start(self):
        self._note("start")

    def apply(self, snapshot, delta=None):
        self._note("apply", snapshot.node, delta)

    def stop(self):
        self._note("stop")

    def evidence(self):
        self._note("evidence")
        return Evidence({"packets": 1})


class Fast(Plane):
    name = "fast"

    @classmethod
    def plan(cls, snapshot):
        return [Planned(snapshot.node, accelerated=False, because="it does nothing")]

    def prepare(self, snapshot, delta=None):
        self._note("prepare", snapshot.node, delta)

    def suspend(self):
        self._note("suspend")

    def resume(self):
        self._note("resume")


class Faster(Fast):
    name = "faster"


@pytest.fixture(autouse=True)
def nothing_noted():
    Plane.calls.clear()
    Plane.raising.clear()


def test_accelerators_give_up_before_the_dataplane_applies_and_take_up_after_it():
    with NodePlugins(NODE, Plane, [Fast, Faster]) as plugins:
        plugins.apply(ONE, None)
        plugins.apply(TWO, DELTA)
    assert Plane.calls == [
        ("plane", "start"),
        ("fast", "start"),
        ("faster", "start"),
        *(
            (name, what, node, delta)
            for node, delta in (("one", None), ("two", DELTA))
            for name, what in (
                ("fast", "prepare"),
                ("faster", "prepare"),
                ("plane", "apply"),
                ("fast", "apply"),
                ("faster", "apply"),
            )
        ),
        ("faster", "stop"),
        ("fast", "stop"),
        ("plane", "stop"),
    ]


@pytest.mark.parametrize("place", ["plane.apply", "fast.prepare"])
def test_apply_that_fails_gives_accelerators_the_snapshot_that_is_still_in_force(place):
    with NodePlugins(NODE, Plane, [Fast]) as plugins:
        plugins.apply(ONE, None)
        Plane.calls.clear()
        Plane.raising[place] = DataplaneError("no")
        with pytest.raises(DataplaneError, match="no"):
            plugins.apply(TWO, DELTA)
        assert Plane.calls[-1] == ("fast", "apply", "one", None)


def test_first_apply_that_fails_leaves_accelerators_alone():
    Plane.raising["plane.apply"] = DataplaneError("no")
    with NodePlugins(NODE, Plane, [Fast]) as plugins, pytest.raises(DataplaneError):
        plugins.apply(ONE, None)
    assert ("fast", "apply", "one", None) not in Plane.calls


def test_plugin_that_cannot_start_stops_those_that_did():
    Plane.raising["fast.start"] = HostError("no such tool")
    with pytest.raises(HostError, match="no such tool"), NodePlugins(NODE, Plane, [Fast]):
        pass
    assert Plane.calls == [("plane", "start"), ("fast", "start"), ("fast", "stop"), ("plane", "stop")]


def a_whole_life():
    with NodePlugins(NODE, Plane, [Fast]) as plugins:
        plugins.apply(ONE, None)
        plugins.suspend()
        plugins.resume()


@pytest.mark.parametrize("what", ["start", "prepare", "apply", "suspend", "resume", "stop"])
def test_whatever_an_accelerator_raises_is_its_failure_by_name_and_node(what):
    Plane.raising[f"fast.{what}"] = SystemExit(0)
    with pytest.raises(DataplaneError, match=rf"node node-1: fast raised SystemExit\(0\) in {what}\(\); next: mend"):
        a_whole_life()


def test_evidence_that_fails_is_the_failure_of_its_plugin_alone():
    Plane.raising["fast.evidence"] = KeyError("oops")
    with NodePlugins(NODE, Plane, [Fast]) as plugins:
        assert plugins.evidence().counters == {"packets": 1}
        with pytest.raises(DataplaneError, match=r"fast raised KeyError\('oops'\) in evidence\(\)"):
            plugins.acceleration("fast")


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (None, "must return Evidence with a ruleset, not None"),
        ({"packets": 1}, "must return Evidence"),
        (Evidence({"packets": "many"}), "the counters of evidence.. must be int by name"),
        (Evidence({1: 1}), "the counters of evidence.. must be int by name"),
        (Evidence(facts={"mode": 1}), "the facts of evidence.. must be str by name"),
        (Evidence(ruleset=b"rules"), "must return Evidence with a ruleset"),
        (Evidence(None), "has no attribute 'items'"),
    ],
)
def test_evidence_that_is_nonsense_is_a_failure(told, wrong, monkeypatch):
    monkeypatch.setattr(Plane, "evidence", lambda _self: told)
    with NodePlugins(NODE, Plane) as plugins, pytest.raises(DataplaneError, match=wrong):
        plugins.evidence()
