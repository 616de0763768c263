# SPDX-License-Identifier: Apache-2.0
"""The watcher takes away what it was told of, whatever becomes of the one who told it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric import watcher_process
from lab.fabric.cgroup import cgroup_home, make_cgroup
from lab.fabric.watcher import Watcher

HOLD = """
import sys, time
from pathlib import Path
from contextlib import closing
from lab.fabric.watcher import Watcher
directory = Path(sys.argv[1])
with closing(Watcher()) as watcher:
    watcher.remove(directory / "made")
    (directory / "made" / "deep").mkdir(parents=True)
    print("made", flush=True)
    time.sleep(60)
"""


def wait_until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_closed_watcher_has_removed_files_and_directories(tmp_path: Path):
    with closing(Watcher()) as watcher:
        for name in ("file", "directory", "never made"):
            watcher.remove(tmp_path / name)
        (tmp_path / "file").write_text("x")
        (tmp_path / "directory" / "deep").mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_caller_leaves_no_files(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "made\n"
        assert (tmp_path / "made").exists()
        caller.send_signal(number)
    assert wait_until(lambda: not (tmp_path / "made").exists())


def test_cgroup_goes_with_all_that_runs_below_it():
    home = cgroup_home()
    if home is None:
        pytest.skip("host lacks cgroup v2")
    watcher = Watcher()
    cgroup = make_cgroup(watcher)
    assert cgroup is not None
    (cgroup / "inner" / "most").mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        (cgroup / "inner" / "most" / "cgroup.procs").write_text(str(sleeper.pid))
        watcher.close()
        assert sleeper.wait(5) == -signal.SIGKILL
    assert not cgroup.exists()


def test_what_cannot_be_taken_away_is_told_and_the_rest_goes(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(HostError, match="could not be taken away"), closing(Watcher()) as watcher:  # noqa: PT012
        watcher.remove_containers(tmp_path / "docker.sock", "policylab.lab=x")
        watcher.remove(tmp_path / "file")
        (tmp_path / "file").write_text("x")
    assert f"{tmp_path}/docker.sock policylab.lab=x could not be taken away" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["one goes by itself", "one more comes"])
def test_directory_goes_though_programs_that_end_still_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    directory = tmp_path / "made"
    directory.mkdir()
    for name in ("a", "b"):
        (directory / name).touch()
    done: list[str] = []

    def meanwhile(name: str, **given: int) -> None:
        unlink(name, **given)
        if not done:
            done.append(name)
            if what == "one goes by itself":
                next(directory.iterdir()).unlink()
            else:
                (directory / "late").touch()

    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", meanwhile)
    assert watcher_process.take_files(os.fsencode(directory)) == ""
    assert list(tmp_path.iterdir()) == []
    assert done
