# SPDX-License-Identifier: Apache-2.0
"""The suite as a stranger runs it: in an empty directory, with a package that is installed beside policylab."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from shell_world import policylab, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PLUGINS = """
from dataplanes.api import Capability, HostError
from dataplanes.iptables import IptablesDataplane

class Narrow(IptablesDataplane):
    name = "narrow"
    capabilities = frozenset({Capability.IPV4, Capability.TCP, Capability.LIVE_UPDATE})

class Sorry(IptablesDataplane):
    name = "sorry"
    known_broken = {"control.deny-all": "it is open", "control.no-policy": "it is not", "nothing.*": "a slip"}
    def apply(self, snapshot, delta=None):
        pass

class Elsewhere(IptablesDataplane):
    name = "elsewhere"
    def start(self):
        raise HostError("no such tool as frob", next_step="apt-get install frob")
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """What pip would leave of a package with PLUGINS."""
    directory = tmp_path / "packages"
    metadata = directory / "acme-1.dist-info"
    metadata.mkdir(parents=True)
    (directory / "acme.py").write_text(PLUGINS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    points = "".join(f"{name.lower()} = acme:{name}\n" for name in ("Narrow", "Sorry", "Elsewhere"))
    (metadata / "entry_points.txt").write_text(f"[policylab.dataplanes]\n{points}")
    return directory


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def suite(empty: Path, plugins: Path, *words: str) -> CompletedProcess[str]:
    return run([sys.executable, "-m", "pytest", "--pyargs", "lab.conformance", *words], empty, plugins, seconds=280)


def outcomes(directory: Path, dataplane: str) -> dict[str, str]:
    report = json.loads((directory / "policylab-report" / "report.json").read_text())
    return {each["id"]: each["outcome"] for each in report["dataplanes"][dataplane]["expectations"]}


def test_suite_without_a_dataplane_is_a_usage_error_that_lists_what_is_installed(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins)
    assert ended.returncode == 4
    assert re.search(r"--dataplane NAME is needed; installed: .*elsewhere, .*iptables.*narrow", ended.stderr)


def test_suite_with_an_unknown_dataplane_is_a_usage_error(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "acme")
    assert (ended.returncode, "no such dataplane; given: 'acme'" in ended.stderr) == (4, True)


def test_suite_that_executes_nothing_is_an_error(empty: Path, plugins: Path) -> None:
    assert suite(empty, plugins, "--dataplane", "iptables", "-k", "no-such-thing").returncode == 5
    unsupported = suite(empty, plugins, "--dataplane", "narrow", "-k", "sctp.ports-enforced")
    assert unsupported.returncode == 5
    assert "narrow: failure (1 not-supported, nothing was executed)" in unsupported.stdout


def test_dataplane_that_this_host_cannot_run_is_skipped_with_cause_and_mend(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "elsewhere", "-k", "control", "-rs")
    assert ended.returncode == 5
    assert "this host cannot run elsewhere: no such tool as frob; next: apt-get install frob" in ended.stdout
    assert set(outcomes(empty, "elsewhere").values()) == {"skipped"}


def test_what_is_not_declared_is_not_supported_and_the_rest_is_held(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "narrow", "-k", "control or tier.order.lower or exist")
    assert ended.returncode == 0, ended.stdout
    assert "narrow: partial (3 passed, 1 not-supported)" in ended.stdout
    assert outcomes(empty, "narrow")["tier.order.lower-first"] == "not-supported"


def test_known_broken_expectation_that_passes_fails_and_so_does_a_slip(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "sorry", "-k", "control or exist")
    assert ended.returncode == 1
    assert outcomes(empty, "sorry") == {
        "plugin.known-broken.exists": "failed",
        "control.deny-all": "known-broken",
        "control.no-policy": "failed",
    }
    assert "known_broken of sorry names no expectation: nothing.*" in ended.stdout
    assert "control.no-policy is known to be broken with sorry (it is not), and it holds" in ended.stdout


def test_suite_spread_over_processes_gives_the_same_report(empty: Path, plugins: Path) -> None:
    words = ("--dataplane", "narrow", "--dataplane", "iptables", "-k", "control or policy.order", "--junitxml", "j.xml")
    alone = suite(empty, plugins, *words)
    told = {name: outcomes(empty, name) for name in ("narrow", "iptables")}
    spread = suite(empty, plugins, *words, "-n", "2")
    assert (alone.returncode, spread.returncode) == (0, 0)
    assert told == {name: outcomes(empty, name) for name in ("narrow", "iptables")}
    assert 'testsuite name="narrow, iptables"' in (empty / "j.xml").read_text()
    assert len(re.findall(r'property name="dataplane" value="narrow"', (empty / "j.xml").read_text())) == len(
        told["narrow"]
    )


def test_marks_narrow_the_run(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "iptables", "-m", "extended", "-k", "protocol", "--collect-only", "-q")
    assert "protocol.number.without-name" in ended.stdout
    assert "protocol.tcp.ports-enforced" not in ended.stdout


@pytest.mark.parametrize("option", ["--lab-only", "-k"])
@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ("generated.changes", ["test_generated_changes_hold"]),
        ("generated.conversations", ["test_generated_conversations_hold"]),
        ("generated.shipped", ["test_shipped_policies_hold"]),
        ("and-requests", ["test_generated_scenarios_hold"]),
        ("plugin.sets.large or http.account", ["test_promise_is_kept", "test_expectation_holds"]),
        ("known-broken and not update", ["test_known_broken_expectations_exist"]),
    ],
)
def test_ids_of_all_kinds_choose(option: str, words: str, chosen: list[str], empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "iptables", option, words, "--collect-only", "-q")
    assert set(re.findall(r"::(test_\w+)", ended.stdout)) == set(chosen)


def test_suite_of_which_nothing_is_chosen_is_a_usage_error(empty: Path, plugins: Path) -> None:
    ended = suite(empty, plugins, "--dataplane", "iptables", "--lab-only", "promise")
    assert (ended.returncode, "no expectation has such an id; given: 'promise'" in ended.stderr) == (4, True)


def test_suite_is_subclassed_in_a_plugins_own_tests(empty: Path, plugins: Path) -> None:
    (empty / "conftest.py").write_text("pytest_plugins = ['lab.conformance.plugin']\n")
    (empty / "test_mine.py").write_text(
        "from lab.conformance.case import load_cases\n"
        "from lab.conformance.suites import Expectations\n"
        "class TestMine(Expectations):\n"
        "    cases = [case for case in load_cases() if case.id.startswith('control.')]\n"
    )
    ended = run([sys.executable, "-m", "pytest", "--dataplane", "iptables", "-v"], empty, plugins)
    assert ended.returncode == 0, ended.stdout
    assert "TestMine::test_expectation_holds[iptables-control.no-policy]" in ended.stdout
    assert "2 passed" in ended.stdout


def test_plain_pytest_is_left_alone(empty: Path, plugins: Path) -> None:
    (empty / "test_other.py").write_text("def test_one(pytestconfig): assert not pytestconfig.option.accelerator\n")
    (empty / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--accelerator')\n")
    ended = run([sys.executable, "-m", "pytest"], empty, plugins)
    assert ended.returncode == 0, ended.stdout
    assert not (empty / "policylab-report").exists()


def test_command_line_names_what_is_wrong(empty: Path, plugins: Path) -> None:
    ended = policylab(empty, "conformance", "--dataplane", "elsewhere", plugins=(plugins,))
    assert (ended.returncode, "no such tool as frob" in ended.stderr) == (3, True)
