# SPDX-License-Identifier: Apache-2.0
"""Machines that do not come up, and labs with machines that are killed: one clear error, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nodes_left import of_process, wait_for_none

from lab.conformance.kernel_matrix import run_on_kernels
from lab.conformance.record import Column, Record
from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.machine import emulator
from lab.fabric.machine.emulator import Hardware, start_machine
from lab.fabric.machine.initrd import archive
from lab.fabric.machine.kernels import DEFAULT, Kernel, get_kernel
from lab.fabric.machine.ssh import make_keys
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs
from lab.topology.load import load_topology

HOLD_A_LAB = """
from lab.fabric.lab import Lab
from lab.topology.load import load_topology
Lab(load_topology("mixed")).__enter__()
"""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return get_kernel(DEFAULT)


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    make_keys(made.directory)
    yield made
    made.close()


@pytest.fixture
def outside() -> Iterator[NamespaceNode]:
    namespace = aside(new_namespace)
    yield NamespaceNode("outside", namespace)
    os.close(namespace)


def test_machine_that_ends_before_it_is_up_is_told_with_its_console(
    programs: Programs, outside: NamespaceNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
):
    dead = archive("#!/bin/busybox sh\necho out of order; /bin/busybox poweroff -f\n", ())
    monkeypatch.setattr(emulator, "initrd", lambda _: dead)
    machine = start_machine(programs, outside, "m", Hardware(kernel, "tcg"))
    with pytest.raises(HostError, match=r"(?s)m with kernel 6\.1.*has ended before it was up.*out of order"):
        machine.wait_until_ready()


def test_machine_that_does_not_come_up_is_given_up(
    programs: Programs, outside: NamespaceNode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(emulator, "BOOT_SECONDS", 0.3)
    machine = start_machine(programs, outside, "m", Hardware(kernel, "tcg"))
    with pytest.raises(HostError, match=r"was not up after 0\.3 s"):
        machine.wait_until_ready()


def test_file_that_is_no_kernel_is_told(programs: Programs, outside: NamespaceNode, kernel: Kernel, tmp_path: Path):
    (tmp_path / "vmlinuz").write_text("no kernel")
    machine = start_machine(programs, outside, "m", Hardware(replace(kernel, image=tmp_path / "vmlinuz"), "tcg"))
    with pytest.raises(HostError, match="has ended before it was up"):
        machine.wait_until_ready()


def test_host_without_an_emulator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(emulator, "which", lambda _: None)
    with pytest.raises(HostError, match=r"apt-get install --no-install-recommends qemu-system-x86"):
        Lab(load_topology("mixed")).__enter__()
    assert of_process(os.getpid()) == []


def test_ssh_that_does_not_answer_is_told_with_the_console(monkeypatch: pytest.MonkeyPatch):
    """The machine says that it is up, but nobody serves its port."""
    monkeypatch.setattr("lab.fabric.machine.ssh._CLIENT_SETTINGS", CLIENT_THAT_GIVES_UP)
    dead = archive("#!/bin/busybox sh\necho policylab: ready; exec /bin/busybox sleep 1000\n", ())
    monkeypatch.setattr(emulator, "initrd", lambda _: dead)
    with pytest.raises(HostError, match=r"(?s)node-3 with kernel.*cannot be reached by ssh"):
        Lab(load_topology("mixed")).__enter__()
    assert wait_for_none(os.getpid()) == []


CLIENT_THAT_GIVES_UP = """
Host {name}
    ProxyCommand {python} -I -S {connector} {socket}
    StrictHostKeyChecking yes
    UserKnownHostsFile {directory}/known-hosts
    BatchMode yes
    ConnectTimeout 1
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_process_leaves_no_machine(number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as holder:
        deadline = time.monotonic() + 60
        while not any("qemu-system" in each for each in of_process(holder.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert any("qemu-system" in each for each in of_process(holder.pid))
        holder.send_signal(number)
    assert wait_for_none(holder.pid) == []


def test_acceleration_is_found_out_once_a_boot(
    programs: Programs,
    outside: NamespaceNode,
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    from lab.fabric.machine import acceleration

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(acceleration.os, "access", lambda *_: True)
    trials = []
    for runs in (False, True):
        monkeypatch.setattr(acceleration, "_runs", lambda *_, runs=runs: trials.append(runs) or runs)
        assert acceleration.accelerator(programs, outside, kernel) == "tcg"
    assert trials == [False]


ONE_MACHINE = """
nodes: {node-1: {}, m: {kind: machine}}
"""


@pytest.mark.timeout(900)  # it boots an emulated machine, perhaps on a busy host
def test_machine_that_dies_while_the_lab_is_up_is_told_with_its_console(tmp_path: Path):
    (tmp_path / "t.yaml").write_text(ONE_MACHINE)
    with Lab(load_topology(tmp_path / "t.yaml")) as lab:
        assert lab.nodes["m"].run(["uname", "-r"]).stdout.startswith("6.1.")
        with pytest.raises(HostError, match=r"(?s)the machine m with kernel 6\.1.*not.*Kernel panic - not syncing"):
            lab.nodes["m"].run(["sh", "-c", "echo c >/proc/sysrq-trigger"])
        with pytest.raises(HostError, match="the machine m with kernel"):
            lab.nodes["m"].run(["true"])
    assert wait_for_none(os.getpid()) == []


class Panics:
    """A job that ends the kernel in which it runs."""

    name = "panic"

    def columns(self) -> list[Column]:
        return [Column("panics", (), ())]

    def command(self, report: str) -> list[str]:
        return ["sh", "-c", f"echo begun {report}; echo c >/proc/sysrq-trigger; sleep 60"]

    def records(self, report: Path) -> Iterator[Record]:
        raise FileNotFoundError(report)

    def rehearsal(self, report: str) -> None:
        """None: what it does is for no host."""

    @property
    def min_kernel(self) -> str:
        return "5.10"


@pytest.mark.timeout(900)  # it boots an emulated machine, perhaps on a busy host
def test_kernel_that_panics_is_the_failure_of_its_columns_with_its_last_words(tmp_path: Path):
    told: list[str] = []
    report = run_on_kernels([DEFAULT], [Panics(), Panics()], "dev", tmp_path, told.append)
    assert "kernel 6.1: begun /run/policylab-report/panic" in told
    assert report.result("panics on 6.1") == "failure"
    for record in report.records:
        assert "did not run panic to its end (it said: begun /run/policylab-report/panic)" in record.detail
        assert "Kernel panic - not syncing: sysrq triggered crash" in record.detail
    assert wait_for_none(os.getpid()) == []
