# SPDX-License-Identifier: Apache-2.0
"""The libvirt daemon of our own, with a script in place of libvirt: what it sees, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from nodes_left import read

from lab.cli import cli
from lab.errors import HostError
from lab.fabric.cache import locked
from lab.fabric.orphans import take_away_orphans
from lab.fabric.vagrant import daemon
from lab.fabric.vagrant.daemon import start_daemon, stop_daemon

SERVES = f"""#!{sys.executable} -IS
import os, socket, subprocess, sys, time
os.makedirs("/run/libvirt")
open("/etc/libvirt/written", "w").close()
open("/var/lib/written", "w").close()
print(sorted(name for _, name in socket.if_nameindex()), file=sys.stderr)
subprocess.Popen(["sleep", "987654321"])
subprocess.run(["sh", "-c", "(sleep 0.1; echo >/run/ended) &"])
socket.socket(socket.AF_UNIX).bind("/run/libvirt/libvirt-sock")
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without libvirt, on which the command that is looked for is a script."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(daemon, "HOST_SOCKETS", ())
    monkeypatch.setattr(daemon, "TOOLS", {"libvirtd": "libvirt-daemon-system"})
    says(tmp_path, SERVES)
    return tmp_path / "policylab" / "libvirt"


def says(place: Path, script: str) -> None:
    (place / "libvirtd").write_text(script)
    (place / "libvirtd").chmod(0o755)


def processes() -> list[str]:
    return [words for path in Path("/proc").glob("[0-9]*/cmdline") if "987654321" in (words := read(path))]


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_daemon_is_apart_from_the_host_and_leaves_nothing(home: Path):
    before = mounts()
    assert start_daemon() == f"libvirt runs, in {home}"
    assert (home / "run/libvirt/libvirt-sock").is_socket()
    assert "'lo'" in (home / "said").read_text()
    assert "eth0" not in (home / "said").read_text()
    assert start_daemon() == f"it runs already, in {home}"
    assert not Path("/etc/libvirt/written").exists()
    assert not Path("/var/lib/written").exists()
    assert mounts() == before
    assert processes()
    assert stop_daemon()
    assert not home.exists()
    assert processes() == []
    assert not stop_daemon()


def test_what_the_daemon_starts_and_leaves_to_itself_is_no_zombie_when_it_has_ended(home: Path):
    start_daemon()
    first = int((home / "pid").read_text())
    assert becomes_true((home / "run/ended").exists)
    assert becomes_true(lambda: "Z" not in states_of_children(first))
    assert stop_daemon()


def becomes_true(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


def states_of_children(pid: int) -> list[str]:
    children = read(Path(f"/proc/{pid}/task/{pid}/children")).split()
    return [read(Path(f"/proc/{child}/stat")).rpartition(")")[2].split()[0] for child in children]


def test_host_that_runs_libvirt_keeps_its_own(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daemon, "HOST_SOCKETS", (Path("/"),))
    assert start_daemon() == "the host runs libvirt (/): that one is used"
    assert not home.exists()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [("echo 'no such driver' >&2; exit 1", "does not come up.*no such driver"), ("sleep 600", "within 0.5 s")],
)
def test_daemon_that_does_not_come_up_is_told_with_its_last_words(
    home: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
):
    says(home.parents[1], f"#!/bin/sh\n{script}\n")
    monkeypatch.setattr(daemon, "READY_SECONDS", 0.5 if "sleep" in script else 20)
    with pytest.raises(HostError, match=complaint):
        start_daemon()
    assert not home.exists()


def test_host_without_libvirt_is_told_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daemon, "which", lambda _: None)
    with pytest.raises(HostError, match=r"apt-get install --no-install-recommends libvirt-daemon-system"):
        start_daemon()
    assert not home.exists()


def test_gc_takes_away_what_a_daemon_left_that_was_killed_and_no_other(home: Path):
    start_daemon()
    assert f"libvirt daemon {home}" not in take_away_orphans()
    os.kill(int((home / "pid").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"libvirt daemon {home}" in take_away_orphans()
    assert not home.exists()


def test_gc_takes_away_half_a_box_and_not_one_that_is_being_made(home: Path):
    box = home.with_name("box")
    box.mkdir(parents=True)
    with locked(box):
        assert f"half a box {box}" not in take_away_orphans()
    assert f"half a box {box}" in take_away_orphans()
    assert not box.exists()


def test_clean_takes_away_all_that_is_ours(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.cli.vagrant.remove_box", lambda: False)
    assert CliRunner().invoke(cli, ["vagrant", "start"]).output == f"libvirt runs, in {home}\n"
    assert CliRunner().invoke(cli, ["vagrant", "clean"]).output == "removed: the libvirt daemon\n"
    assert CliRunner().invoke(cli, ["vagrant", "clean"]).output == "there was nothing of ours\n"
    assert processes() == []
