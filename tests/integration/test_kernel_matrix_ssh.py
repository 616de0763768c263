# SPDX-License-Identifier: Apache-2.0
"""How the kernel matrix talks to a machine: over one connection, since a serial port is good for no second one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_sshd import make_hosts, write_client

from lab.conformance import kernel_matrix
from lab.conformance.kernel_matrix import run_on_kernels
from lab.conformance.record import Column, Record, Report
from lab.fabric.machine.emulator import Machine
from lab.fabric.machine.kernels import Kernel

NAME = "kernel-6-1"
SHARED = "Host {name}\n    ControlMaster auto\n    ControlPath {place}/%n.ssh\n    BatchMode yes\n"
ONLY_ONCE = "sh -c 'mkdir {place}/used && exec /usr/sbin/sshd -i -f {place}/sshd-config'"


class Says:
    """A job that leaves its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def columns(self) -> list[Column]:
        return [Column(self.name, (), ())]

    def command(self, report: str) -> list[str]:
        return ["sh", "-c", f"echo {self.name} >{report}/said"]

    def rehearsal(self, report: str) -> list[str] | None:
        return None if report else []

    def records(self, report: Path) -> Iterator[Record]:
        said = (report / "said").read_text().strip()
        yield Record("says", "t", "core", self.name, "passed" if said == self.name else "failed", 0.0)

    @property
    def min_kernel(self) -> str:
        return "5.10"


def run(place: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> Report:
    make_hosts(place, NAME)
    write_client(place, NAME, proxy=proxy.format(place=place))
    with (place / "ssh-config").open("a") as file:
        file.write(SHARED.format(name=NAME, place=place))
    (place / "console").write_text("policylab: ready\n")
    kernel = Kernel("6.1", "6.1.0-x", place, place)
    process = subprocess.Popen(["sleep", "100"])
    machine = Machine(NAME, kernel, process, place / "console", place / "ssh-config")
    monkeypatch.setattr(kernel_matrix, "get_kernel", lambda _: kernel)
    monkeypatch.setattr(kernel_matrix, "accelerator", lambda *_: "tcg")
    monkeypatch.setattr(kernel_matrix, "start_machine", lambda *_: machine)
    monkeypatch.setattr(kernel_matrix, "_THERE", str(place / "there"))
    try:
        return run_on_kernels(["6.1"], [Says("a"), Says("b"), Says("c")], "dev", place / "out", lambda _: None)
    finally:
        process.kill()
        process.wait()


def test_all_jobs_and_what_they_leave_come_over_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = run(tmp_path, monkeypatch, ONLY_ONCE)
    assert [record.word for record in report.records] == ["passed"] * 3, report.records


@pytest.mark.parametrize(("proxy", "seconds"), [("false", 30.0), ("sleep 60", 0.5)])
def test_machine_that_ssh_does_not_reach_fails_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, seconds: float
):
    monkeypatch.setattr(kernel_matrix, "CONNECT_SECONDS", seconds)
    report = run(tmp_path, monkeypatch, proxy)
    assert [report.result(name) for name in report.dataplanes] == ["failure"] * 3
    assert "cannot be reached by ssh (" in report.records[0].detail
