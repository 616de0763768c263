# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels, with machines that are shell scripts: what comes back from one, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dataplanes.api import TRAITS, Capability
from lab.cli import cli
from lab.conformance import kernel_matrix, minimum
from lab.conformance.case import load_cases
from lab.conformance.kernel_jobs import FilesRun, SuiteRun, requests_of
from lab.conformance.kernel_matrix import run_on_kernels
from lab.conformance.minimum import held_to_minimum
from lab.conformance.record import Record
from lab.conformance.run import Request
from lab.fabric.machine.emulator import Machine
from lab.fabric.machine.kernels import Kernel

REQUEST = Request(("iptables",), (), "dev", None, "core")
SUITE = SuiteRun(REQUEST)
REPORT = """{"dataplanes": {"iptables": {"result": "success", "expectations": [
  {"id": "control.no-policy", "title": "t", "level": "core", "outcome": "OUTCOME", "seconds": 1.5, "detail": "d"}]}}}"""


class Machines:
    """Stands for virtual machines: each kernel's name is looked up in what its ssh is to do."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.scripts = directory, {}
        self.running: list[str] = []
        self.most = 0
        monkeypatch.setattr(kernel_matrix, "get_kernel", lambda name: Kernel(name, f"{name}.0-x", directory, directory))
        monkeypatch.setattr(kernel_matrix, "Programs", lambda: self)
        monkeypatch.setattr(kernel_matrix, "make_keys", lambda _: None)
        monkeypatch.setattr(kernel_matrix, "new_namespace", lambda: os.open(os.devnull, os.O_RDONLY))
        monkeypatch.setattr(kernel_matrix, "accelerator", lambda *_: "tcg")
        monkeypatch.setattr(kernel_matrix, "_rehearse", lambda *_: None)
        monkeypatch.setattr(kernel_matrix, "start_machine", self.start)
        monkeypatch.setattr(kernel_matrix, "_ssh", self.ssh)
        monkeypatch.setattr(kernel_matrix, "_connected", lambda _: nullcontext())

    def close(self) -> None:
        """As programs are closed."""

    def start(self, _programs: object, _outside: object, name: str, hardware: kernel_matrix.Hardware) -> Machine:
        console = self.directory / f"{name}.console"
        console.write_text("policylab: ready\nlast words\n")
        self.running.append(name)
        self.most = max(self.most, len(self.running))
        process = subprocess.Popen(["sleep", "60"])
        return Machine(name, hardware.kernel, process, console, self.directory)

    def ssh(self, machine: Machine, command: list[str]) -> list[str]:
        if command[0] == "tar":
            if machine.name in self.running:
                self.running.remove(machine.name)
            return ["tar", "-C", str(self.directory / machine.kernel.name / Path(command[2]).name), "-c", "."]
        return ["sh", "-c", self.scripts.get(machine.kernel.name, "echo pass; sleep 0.2")]

    def reports(self, kernel: str, outcome: str = "passed", job: str = "suite", judged: str = "iptables") -> None:
        place = self.directory / kernel / job
        place.mkdir(parents=True)
        (place / "report.json").write_text(REPORT.replace("OUTCOME", outcome).replace('"iptables"', f'"{judged}"'))
        (place / "junit.xml").write_text("<testsuites/>")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def test_every_kernel_is_a_column_and_its_report_is_fetched(machines: Machines, tmp_path: Path) -> None:
    for kernel in ("5.10", "6.1"):
        machines.reports(kernel)
    told: list[str] = []
    report = run_on_kernels(["5.10", "6.1"], [SUITE], "dev", tmp_path / "out", told.append)
    assert report.dataplanes == ("iptables on 5.10", "iptables on 6.1")
    assert [report.result(name) for name in report.dataplanes] == ["success", "success"]
    assert "kernel 6.1: pass" in told
    assert (tmp_path / "out" / "kernel-5.10" / "suite" / "junit.xml").exists()


def test_two_machines_run_at_a_time(machines: Machines, tmp_path: Path) -> None:
    for kernel in ("5.10", "6.1", "6.12"):
        machines.reports(kernel)
    run_on_kernels(["5.10", "6.1", "6.12"], [SUITE], "dev", tmp_path / "out", lambda _: None)
    assert machines.most == 2


def test_kernel_that_dies_is_the_failure_of_its_column_with_its_console(machines: Machines, tmp_path: Path) -> None:
    machines.reports("6.1")
    report = run_on_kernels(["5.10", "6.1"], [SUITE], "dev", tmp_path / "out", lambda _: None)
    assert [report.result(name) for name in report.dataplanes] == ["failure", "success"]
    assert "did not run suite to its end" in report.records[0].detail
    assert "last words" in report.records[0].detail


def test_machine_that_hangs_is_given_up(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_matrix, "SILENCE_SECONDS", 0.3)
    machines.scripts["5.10"] = "echo pass; exec sleep 60"
    started = time.monotonic()
    report = run_on_kernels(["5.10"], [SUITE], "dev", tmp_path / "out", lambda _: None)
    assert time.monotonic() - started < 30
    assert "was silent for 0.3 s" in report.records[0].detail


def test_failure_on_a_kernel_is_a_failure_of_the_run(machines: Machines, tmp_path: Path) -> None:
    machines.reports("6.1", "failed")
    report = run_on_kernels(["6.1"], [SUITE], "dev", tmp_path / "out", lambda _: None)
    assert report.result("iptables on 6.1") == "failure"


def test_machine_is_asked_for_what_the_user_asked_for() -> None:
    request = Request(("iptables", "nftables"), (), "ci", None, "core", "tier", call_seconds=300)
    words = SuiteRun(request).command("/run/r")
    assert words[:4] == [sys.executable, "-m", "lab.cli", "conformance"]
    told = "--report /run/r --profile ci --jobs 1 --call-seconds 300"
    assert " ".join(words[4:]) == f"{told} --dataplane iptables --dataplane nftables --level core --only tier"


def test_machine_says_itself_how_long_a_call_may_take_when_the_user_does_not() -> None:
    assert "--call-seconds" not in SuiteRun(REQUEST).command("/run/r")


def test_accelerator_is_judged_by_itself_and_by_what_proves_that_it_was_at_work() -> None:
    request = Request(("iptables", "nftables"), ("xdp", "flowtable"), "dev", None, "core")
    suite, xdp, flowtable = requests_of(request)
    assert [column.name for column in suite.columns()] == ["iptables", "nftables"]
    assert [column.name for column in xdp.columns()] == ["nftables+xdp"]
    assert [column.name for column in flowtable.columns()] == ["nftables+flowtable"]
    assert xdp.request.only is not None
    assert xdp.request.only.startswith("nftables+xdp and (plugin.stop.leaves-nothing or")
    assert "host.do-not-track.blocklist-stops-everything" in xdp.request.only
    assert flowtable.request.only is not None
    assert "plugin.start.takes-over" in flowtable.request.only
    assert "host.do-not-track" not in flowtable.request.only


def test_accelerator_that_needs_a_newer_kernel_is_not_asked_for_on_an_older_one_and_that_is_told(
    machines: Machines, tmp_path: Path
) -> None:
    (_, sockmap) = requests_of(Request(("iptables",), ("sockmap",), "dev"))
    machines.reports("6.1", job="sockmap", judged="iptables+sockmap")
    told: list[str] = []
    report = run_on_kernels(["5.10", "6.1"], [sockmap], "dev", tmp_path / "out", told.append)
    assert report.dataplanes == ("iptables+sockmap on 6.1",)
    assert report.result("iptables+sockmap on 6.1") == "success"
    assert "kernel 5.10: sockmap is not asked for: it needs 6.1" in told


def test_what_was_judged_before_a_crash_stays(machines: Machines, tmp_path: Path) -> None:
    (suite, xdp) = requests_of(Request(("iptables",), ("xdp",), "dev"))
    machines.reports("6.1")
    report = run_on_kernels(["6.1"], [suite, xdp], "dev", tmp_path / "out", lambda _: None)
    assert report.result("iptables on 6.1") == "success"
    assert report.result("iptables+xdp on 6.1") == "failure"
    assert "did not run xdp to its end" in report.of("iptables+xdp on 6.1")[0].detail


JUNIT = """<testsuites><testsuite>
<testcase name="test_good" time="1.5"/>
<testcase name="test_bad" time="2"><failure message="m">it is not 3</failure></testcase>
<testcase name="test_not" time="0"><skipped message="host lacks it"/></testcase>
</testsuite></testsuites>"""


def test_file_of_tests_is_a_column_and_what_it_skips_on_a_new_kernel_has_failed(
    machines: Machines, tmp_path: Path
) -> None:
    machines.reports("6.1", job="test_some")
    (tmp_path / "6.1" / "test_some" / "junit.xml").write_text(JUNIT)
    report = run_on_kernels(["6.1"], [FilesRun(tmp_path / "test_some.py")], "dev", tmp_path / "out", lambda _: None)
    found = {record.title: (record.word, record.detail.partition(";")[0]) for record in report.of("test_some on 6.1")}
    assert found["test_good"] == ("passed", "")
    assert found["test_bad"] == ("failed", "it is not 3")
    assert found["test_not"][0] == "failed"
    assert "host lacks it" in report.of("test_some on 6.1")[-1].detail


def test_files_of_tests_are_for_machines_only(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("")
    ended = CliRunner().invoke(
        cli, ["conformance", "--dataplane", "iptables", "--tests", str(tmp_path / "test_some.py")]
    )
    assert ended.exit_code == 2
    assert "name a --kernel" in ended.output


def skipped(expectation: str = "control.no-policy") -> Record:
    return Record(expectation, "t", "core", "iptables on 6.1", "skipped", 1.0, "no such module")


def test_what_a_new_enough_kernel_lacks_is_a_failure() -> None:
    held = held_to_minimum(skipped(), "6.1.0-50-amd64")
    assert held.word == "failed"
    assert "every one since 5.10" in held.detail
    assert "no such module" in held.detail


def test_what_an_older_kernel_lacks_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in load_cases() if Capability.NAMED_PORTS in case.capabilities)
    newer = replace(TRAITS[Capability.NAMED_PORTS], min_kernel="6.6")
    monkeypatch.setattr(minimum, "TRAITS", {**TRAITS, Capability.NAMED_PORTS: newer})
    assert held_to_minimum(skipped(case.id), "6.1.0-50-amd64") == skipped(case.id)
    assert held_to_minimum(skipped(case.id), "6.12.95+deb12-amd64").word == "failed"


def test_other_outcomes_stay_as_they_are() -> None:
    for word in ("passed", "failed", "not-supported"):
        record = Record("control.no-policy", "t", "core", "d", word, 1.0)
        assert held_to_minimum(record, "6.1.0") == record
