# SPDX-License-Identifier: Apache-2.0
"""Programs of a lab: in the right host and cgroup, and never longer than the lab, however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric.cgroup import cgroup_home
from lab.fabric.lab import Lab
from lab.fabric.watcher import Watcher
from lab.topology.load import load_topology

SECONDS = 20.0

HOLD_TWO_PROGRAMS = """
import subprocess, time
from lab.fabric.lab import Lab
from lab.topology.load import load_topology
with Lab(load_topology("one-node")) as lab:
    for name in ("shop/web", "shop/db"):
        program = lab.programs.start(lab.hosts[name], ["sleep", "1000"])
        print(program.pid)
    print(lab.programs.cgroup, flush=True)
    time.sleep(1000)
"""


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pids: list[int], cgroup: str) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not any(map(is_running, pids)) and (cgroup == "None" or not Path(cgroup).exists()):
            return True
        time.sleep(0.01)
    return False


def test_a_program_runs_in_its_host_and_in_the_labs_cgroup_until_the_lab_ends() -> None:
    with Lab(load_topology("one-node")) as lab:
        web = lab.hosts["shop/web"]
        program = lab.programs.start(web, ["cat"], output=subprocess.PIPE)
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"what follows the gate is the program's\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"what follows the gate is the program's\n"
        assert os.stat(f"/proc/{program.pid}/ns/net").st_ino == os.fstat(web.descriptor).st_ino  # noqa: PTH116
        cgroup = lab.programs.cgroup
        if cgroup_home() is not None:
            assert cgroup is not None
            assert str(program.pid) in (cgroup / "cgroup.procs").read_text().split()
    assert program.returncode == -signal.SIGKILL
    assert cgroup is None or not cgroup.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_lab_that_is_killed_leaves_no_program_and_no_cgroup(number: signal.Signals) -> None:
    lab = subprocess.Popen(
        [sys.executable, "-c", HOLD_TWO_PROGRAMS], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with lab:
        assert lab.stdout is not None
        *pids, cgroup = (lab.stdout.readline().strip() for _ in range(3))
        assert all(is_running(int(pid)) for pid in pids)
        assert cgroup == "None" or Path(cgroup).is_dir()
        os.killpg(lab.pid, number)
        lab.wait()
    assert wait_until_gone([int(pid) for pid in pids], cgroup)


def test_a_child_of_a_program_that_detached_itself_is_killed_with_the_cgroup() -> None:
    if cgroup_home() is None:
        pytest.skip("NOT ON THIS HOST: no cgroup v2, so only processes that the lab started itself are known")
    with Lab(load_topology("one-node")) as lab:
        command = ["sh", "-c", "setsid sleep 1000 & echo $!; wait"]
        program = lab.programs.start(lab.hosts["shop/web"], command, output=subprocess.PIPE)
        assert program.stdout is not None
        child = int(program.stdout.readline())
        assert is_running(child)
    assert wait_until_gone([child], "None")


def test_a_program_that_is_not_installed_ends_and_says_so() -> None:
    with Lab(load_topology("one-node")) as lab:
        program = lab.programs.start(lab.hosts["shop/web"], ["no-such-program"], errors=subprocess.PIPE)
        assert program.stderr is not None
        assert b"no-such-program" in program.stderr.read()
        assert program.wait() == 127


def test_without_cgroup_v2_programs_still_end_with_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.fabric.cgroup.cgroup_home", lambda: None)
    with Lab(load_topology("one-node")) as lab:
        program = lab.programs.start(lab.hosts["shop/web"], ["sleep", "1000"])
        assert lab.programs.cgroup is None
    assert program.returncode == -signal.SIGKILL


def test_a_lab_without_programs_has_no_watcher() -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    with Lab(load_topology("one-node")):
        assert "watcher" not in " ".join(
            Path(f"/proc/{child}/cmdline").read_text() for child in children.read_text().split()
        )


def test_a_directory_that_cannot_be_removed_is_told() -> None:
    watcher = Watcher()
    watcher.empty(Path("/proc/self"))
    with pytest.raises(HostError, match="could not be taken away"):
        watcher.close()
