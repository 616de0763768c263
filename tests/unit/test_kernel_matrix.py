# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels, with machines that are shell scripts: what comes back from one, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataplanes.api import Capability
from lab.conformance import kernel_matrix, minimum
from lab.conformance.case import load_cases
from lab.conformance.kernel_matrix import run_on_kernels
from lab.conformance.minimum import held_to_minimum
from lab.conformance.record import Record
from lab.conformance.run import Request
from lab.fabric.machine.emulator import Machine
from lab.fabric.machine.kernels import Kernel

REQUEST = Request(("iptables",), (), "dev", None, "core")
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
        monkeypatch.setattr(kernel_matrix, "start_machine", self.start)
        monkeypatch.setattr(kernel_matrix, "_ssh", self.ssh)

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
            self.running.remove(machine.name)
            return ["tar", "-C", str(self.directory / machine.kernel.name), "-c", "."]
        return ["sh", "-c", self.scripts.get(machine.kernel.name, "echo pass; sleep 0.2")]

    def reports(self, kernel: str, outcome: str = "passed") -> None:
        place = self.directory / kernel
        place.mkdir()
        (place / "report.json").write_text(REPORT.replace("OUTCOME", outcome))
        (place / "junit.xml").write_text("<testsuites/>")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def test_every_kernel_is_a_column_and_its_report_is_fetched(machines: Machines, tmp_path: Path) -> None:
    for kernel in ("5.10", "6.1"):
        machines.reports(kernel)
    told: list[str] = []
    report = run_on_kernels(["5.10", "6.1"], REQUEST, tmp_path / "out", told.append)
    assert report.dataplanes == ("iptables on 5.10", "iptables on 6.1")
    assert [report.result(name) for name in report.dataplanes] == ["success", "success"]
    assert "kernel 6.1: pass" in told
    assert (tmp_path / "out" / "kernel-5.10" / "junit.xml").exists()


def test_two_machines_run_at_a_time(machines: Machines, tmp_path: Path) -> None:
    for kernel in ("5.10", "6.1", "6.12"):
        machines.reports(kernel)
    run_on_kernels(["5.10", "6.1", "6.12"], REQUEST, tmp_path / "out", lambda _: None)
    assert machines.most == 2


def test_kernel_that_dies_is_the_failure_of_its_column_with_its_console(machines: Machines, tmp_path: Path) -> None:
    machines.reports("6.1")
    report = run_on_kernels(["5.10", "6.1"], REQUEST, tmp_path / "out", lambda _: None)
    assert [report.result(name) for name in report.dataplanes] == ["failure", "success"]
    assert "did not run the suite to its end" in report.records[0].detail
    assert "last words" in report.records[0].detail


def test_machine_that_hangs_is_given_up(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_matrix, "SILENCE_SECONDS", 0.3)
    machines.scripts["5.10"] = "echo pass; exec sleep 60"
    started = time.monotonic()
    report = run_on_kernels(["5.10"], REQUEST, tmp_path / "out", lambda _: None)
    assert time.monotonic() - started < 30
    assert "was silent for 0.3 s" in report.records[0].detail


def test_failure_on_a_kernel_is_a_failure_of_the_run(machines: Machines, tmp_path: Path) -> None:
    machines.reports("6.1", "failed")
    report = run_on_kernels(["6.1"], REQUEST, tmp_path / "out", lambda _: None)
    assert report.result("iptables on 6.1") == "failure"


def test_machine_is_asked_for_what_the_user_asked_for(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    ssh = machines.ssh
    monkeypatch.setattr(kernel_matrix, "_ssh", lambda machine, words: asked.append(words) or ssh(machine, words))
    machines.reports("6.1")
    run_on_kernels(
        ["6.1"], Request(("iptables", "nftables"), ("xdp",), "ci", None, "core"), tmp_path / "out", lambda _: None
    )
    assert asked[0][:4] == [sys.executable, "-m", "lab.cli", "conformance"]
    told = "--report /run/policylab-report --profile ci --call-seconds 240.0"
    named = "--dataplane iptables --dataplane nftables --accelerator xdp --level core"
    assert " ".join(asked[0][4:]) == f"{told} {named}"


def skipped(expectation: str = "control.no-policy") -> Record:
    return Record(expectation, "t", "core", "iptables on 6.1", "skipped", 1.0, "no such module")


def test_what_a_new_enough_kernel_lacks_is_a_failure() -> None:
    held = held_to_minimum(skipped(), "6.1.0-50-amd64")
    assert held.word == "failed"
    assert "every one since 5.10" in held.detail
    assert "no such module" in held.detail


def test_what_an_older_kernel_lacks_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in load_cases() if Capability.NAMED_PORTS in case.capabilities)
    monkeypatch.setattr(minimum, "MINIMUM_KERNEL", {Capability.NAMED_PORTS: (6, 6)})
    assert held_to_minimum(skipped(case.id), "6.1.0-50-amd64") == skipped(case.id)
    assert held_to_minimum(skipped(case.id), "6.12.95+deb12-amd64").word == "failed"


def test_other_outcomes_stay_as_they_are() -> None:
    for word in ("passed", "failed", "not-supported"):
        record = Record("control.no-policy", "t", "core", "d", word, 1.0)
        assert held_to_minimum(record, "6.1.0") == record
