# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and kill -9 in mid-run: the exit code of the design, and nothing left behind.

Each run has process and mount namespaces and a /tmp of its own, so that what it leaves is not mixed up with what
others do on the machine meanwhile: a network namespace lives by a process, a descriptor of one, or a mount, and
all of them would be seen here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_world import ARGV, TOPOLOGY, environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# Starts the command, waits until it has made a lab (or a few more), signals its process group, and compares.
WATCH = r"""
import json, os, pathlib, signal, subprocess, sys, time

def processes():
    # Those that have ended do not count: a real process 1 reaps orphans, this one does not.
    alive = set()
    for each in pathlib.Path("/proc").iterdir():
        try:
            if each.name.isdigit() and (each / "stat").read_text().rpartition(") ")[2][0] not in "ZX":
                alive.add(each.name)
        except OSError:
            pass
    return alive

def namespaces():
    found = set()
    for name in processes():
        try:
            found.add(os.readlink(f"/proc/{name}/ns/net"))
            found |= {link for each in pathlib.Path(f"/proc/{name}/fd").iterdir()
                      if (link := os.readlink(each)).startswith("net:[")}
        except OSError:
            pass  # it ended meanwhile
    return found

def state():
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "processes": sorted(processes()),
        "namespaces": sorted(namespaces()),
        "mounts": pathlib.Path("/proc/mounts").read_text(),
        "interfaces": sorted(line.split(": ")[1] for line in links.splitlines()),
        "temporary files": sorted(os.listdir("/tmp")),
        "shared memory": sorted(os.listdir("/dev/shm")),
    }

number, more, *argv = sys.argv[1:]
before = state()
run = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
deadline = time.monotonic() + 30
while len(namespaces()) < 3 and run.poll() is None and time.monotonic() < deadline:
    time.sleep(0.01)
amid = len(namespaces())
time.sleep(float(more))
running = run.poll() is None
os.killpg(run.pid, int(number)) if int(number) == signal.SIGINT else run.send_signal(int(number))
out, err = run.communicate(timeout=30)
deadline = time.monotonic() + 20  # a child that the kernel has not reaped yet
while (after := state()) != before and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps({"code": run.returncode, "err": err, "amid": amid, "running": running,
                  "left": {name: [before[name], after[name]] for name in before if before[name] != after[name]}}))
"""
# The interpreter or the checkout may lie in /tmp: what is there stays reachable.
OWN_TMP = """
mkdir kept && mount --rbind /tmp kept && mount -t tmpfs none /tmp && ln -s "$PWD"/kept/* /tmp/ &&
mount -t tmpfs none /dev/shm && exec "$@"
"""
COMMANDS = {
    "verify": ["verify", str(TOPOLOGY), "--dataplane", "iptables"],
    "conformance": ["conformance", "--dataplane", "iptables", "--report", "report"],
    "bench": ["bench", "lab", "--rounds", "100"],
}


def stopped(number: int, seconds: float, command: str, cwd: Path) -> dict[str, object]:
    """What became of a command that was sent a signal some ``seconds`` after its first lab began to be made."""
    argv = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", OWN_TMP, "sh"]
    argv += [sys.executable, "-c", WATCH, str(number), str(seconds), *ARGV, *COMMANDS[command]]
    ended = subprocess.run(argv, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, object] = json.loads(ended.stdout)
    assert told["running"], told["err"]
    assert told["amid"] >= 3
    return told


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory outside of /tmp, which the runs have an own one of."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.mark.parametrize(("command", "seconds"), [("verify", 0), ("conformance", 2.5), ("bench", 1)])
def test_ctrl_c_ends_130_and_leaves_nothing(elsewhere: Path, command: str, seconds: float) -> None:
    told = stopped(2, seconds, command, elsewhere)
    assert told["code"] == 130
    assert told["err"].strip() == "policylab: interrupted; nothing of the lab is left behind"
    assert told["left"] == {}


@pytest.mark.parametrize(
    ("number", "command", "seconds"),
    [(9, "verify", 0), (9, "conformance", 0), (9, "conformance", 2.5), (9, "bench", 1), (15, "conformance", 2.5)],
)
def test_kill_leaves_nothing(elsewhere: Path, number: int, command: str, seconds: float) -> None:
    told = stopped(number, seconds, command, elsewhere)
    assert told["code"] == -number
    assert told["err"] == ""
    assert told["left"] == {}
