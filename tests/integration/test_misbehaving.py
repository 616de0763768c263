# SPDX-License-Identifier: Apache-2.0
"""Plugins that do what no plugin should: one clear verdict each, soon, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell_world import TOPOLOGY, policylab, run

from lab.conformance.promises import PROMISES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PLUGINS = """
import os, signal, sys, time
from dataplanes.api import DataplaneError, Evidence
from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane

class Dies(IptablesDataplane):
    name = "dies"
    def apply(self, snapshot, delta=None):
        super().apply(snapshot, delta)
        if snapshot.policies:
            os._exit(0)

class Unborn(IptablesDataplane):
    name = "unborn"
    def start(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Hangs(IptablesDataplane):
    name = "hangs"
    def apply(self, snapshot, delta=None):
        if snapshot.policies:
            while True:
                time.sleep(1)

class Talks(IptablesDataplane):
    name = "talks"
    def apply(self, snapshot, delta=None):
        print("bla" * 1_000_000)
        os.write(2, b"blub" * 1_000_000)
        super().apply(snapshot, delta)

class Leaks(IptablesDataplane):
    name = "leaks"
    def stop(self):
        pass

class Sweeps(IptablesDataplane):
    name = "sweeps"
    def start(self):
        self._node.run(("iptables-nft", "-F", "FORWARD"))
        super().start()

class Piecemeal(NftablesDataplane):
    name = "piecemeal"
    def apply(self, snapshot, delta=None):
        super().stop()
        super().apply(snapshot)

class Starter(NftablesDataplane):
    name = "starter"
    def start(self):
        if "policylab" in self._kernel.ruleset():
            raise DataplaneError("somebody is there already")

class Small(IptablesDataplane):
    name = "small"
    def apply(self, snapshot, delta=None):
        if any(len(found.nets) > 65536 for found in snapshot.ip_sets.values()):
            raise DataplaneError("Hash is full, cannot add more elements")
        super().apply(snapshot)

class Babbles(IptablesDataplane):
    name = "babbles"
    def evidence(self):
        return {"packets": "many"}
"""
NAMES = ("dies", "unborn", "hangs", "talks", "leaks", "sweeps", "babbles", "piecemeal", "starter", "small")
POLICY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: closed}
spec: {selector: all(), types: [Ingress]}
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """What pip would leave of a package with PLUGINS."""
    directory = tmp_path / "packages"
    metadata = directory / "odd-1.dist-info"
    metadata.mkdir(parents=True)
    (directory / "odd.py").write_text(PLUGINS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    points = "".join(f"{name} = odd:{name.title()}\n" for name in NAMES)
    (metadata / "entry_points.txt").write_text(f"[policylab.dataplanes]\n{points}")
    (tmp_path / "policy.yaml").write_text(POLICY)
    return directory


def suite(directory: Path, plugins: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "pytest", "--pyargs", "lab.conformance", *words], directory, plugins, seconds=150)


def details(directory: Path, dataplane: str) -> dict[str, str]:
    report = json.loads((directory / "policylab-report" / "report.json").read_text())
    return {each["id"]: each.get("detail", "") for each in report["dataplanes"][dataplane]["expectations"]}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dies", "the process of the plugins was ended with status 0, while it was in dies: apply() on node node-"),
        ("unborn", "the process of the plugins was ended by SIGKILL, while it was in unborn: start() on node node-"),
    ],
)
def test_verify_of_one_that_ends_its_process_ends_1_and_names_the_call(
    name: str, told: str, tmp_path: Path, plugins: Path
) -> None:
    ended = policylab(tmp_path, "verify", "one-node", "policy.yaml", "--dataplane", name, plugins=(plugins,))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"policylab: {told}")
    assert ended.stderr.count("\n") == 1


def test_verify_of_one_that_talks_prints_results_and_only_the_end_of_its_talk(tmp_path: Path, plugins: Path) -> None:
    words = ("verify", "one-node", "policy.yaml", "--dataplane", "talks", "--output", "json")
    ended = policylab(tmp_path, *words, plugins=(plugins,))
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["summary"]["mismatches"] == 0
    assert ended.stderr.startswith("plugins printed 7000001 bytes, at last:")
    assert len(ended.stderr) < 3000


def test_conformance_of_one_that_does_not_even_start_ends_1(tmp_path: Path, plugins: Path) -> None:
    ended = policylab(tmp_path, "conformance", "--dataplane", "unborn", plugins=(plugins,))
    assert ended.returncode == 1
    assert "was ended by SIGKILL, while it was in unborn: start()" in ended.stderr


def test_suite_goes_on_after_one_that_ends_its_process_and_gives_up_at_last(tmp_path: Path, plugins: Path) -> None:
    meant = "control or tier.order.lower or tier.missing or rule.order"
    ended = suite(tmp_path, plugins, "--dataplane", "dies", "-k", meant)
    assert ended.returncode == 1
    told = details(tmp_path, "dies")
    lost = [text for text in told.values() if "was ended with status 0, while it was in dies: apply()" in text]
    given_up = [
        text for text in told.values() if "not asked any more, after it ended or hung its process 3 times" in text
    ]
    assert (len(lost), len(given_up)) == (3, 1)
    assert told["control.no-policy"] == ""


def test_suite_ends_a_call_that_hangs_after_the_stated_time(tmp_path: Path, plugins: Path) -> None:
    words = ("--dataplane", "hangs", "--lab-call-seconds", "3", "-k", "control")
    assert suite(tmp_path, plugins, *words).returncode == 1
    told = details(tmp_path, "hangs")
    assert "hangs: apply() on node" in told["control.deny-all"]
    assert "did not return within 3 s" in told["control.deny-all"]
    assert told["control.no-policy"] == ""


@pytest.mark.parametrize(
    ("name", "promise", "told"),
    [
        ("leaks", "plugin.stop.leaves-nothing", "left behind after stop(): iptables-nft-save: -A FORWARD"),
        (
            "sweeps",
            "plugin.apply.touches-nothing-foreign",
            "gone while the policy is in force: iptables-nft-save: -A FOR",
        ),
        ("piecemeal", "plugin.apply.fails-as-a-whole", "request 2 to the node failed (nft()), and"),
        ("starter", "plugin.start.takes-over", "a plugin failed: somebody is there already"),
        ("small", "plugin.sets.large", "a plugin failed: Hash is full"),
        ("babbles", "plugin.evidence.makes-sense", "evidence() must return Evidence with a ruleset, not {'packets'"),
    ],
)
def test_promise_that_is_not_kept_fails_by_its_name_and_no_other_does(
    name: str, promise: str, told: str, tmp_path: Path, plugins: Path
) -> None:
    slow = next(each.slow for each in PROMISES if each.id == promise)
    held = ("-k", "promise or control") if slow else ("-k", "promise or control", "-m", "not slow")
    ended = suite(tmp_path, plugins, "--dataplane", name, *held)
    assert ended.returncode == 1
    found = details(tmp_path, name)
    others = {"leaks": {"plugin.start.takes-over"}}  # a stop that does nothing keeps neither
    if name in ("sweeps", "starter", "piecemeal"):  # nor goes any of these on where another was killed
        others[name] = {"plugin.restart.no-window"}
    failed = [each for each, text in found.items() if text and not text.startswith("not supported")]
    assert set(failed) == {promise} | others.get(name, set())
    assert told in found[promise]


def test_shipped_dataplanes_keep_their_promises(tmp_path: Path, plugins: Path) -> None:
    words = ("--dataplane", "iptables", "--dataplane", "iptables-legacy", "-k", "promise")
    ended = suite(tmp_path, plugins, *words)
    assert ended.returncode == 0, ended.stdout


def test_nothing_is_left_behind_by_one_that_ends_its_process(tmp_path: Path, plugins: Path) -> None:
    before = _namespaces()
    policylab(tmp_path, "verify", TOPOLOGY, "policy.yaml", "--dataplane", "dies", plugins=(plugins,))
    assert _namespaces() - before == set()


def _namespaces() -> set[Path]:
    """The network namespaces in which processes of ours stand; a lab that was left would keep one."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and b"--dataplane\0dies" in (process / "cmdline").read_bytes():
                found.add((process / "ns" / "net").readlink())
        except OSError:
            continue
    return found
