# SPDX-License-Identifier: Apache-2.0
"""What of labs with containers and machines can be seen on the host, by the number of the process that made it."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import gettempdir

from lab.fabric.cgroup import cgroup_home
from lab.fabric.identity import PREFIX

PROGRAMS = ("dockerd", "containerd", "2147483647", "qemu-system")


def traces() -> dict[str, list[str]]:
    """What of labs with containers can be seen on the host, of any process here."""
    processes = [
        words
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if (words := read(path)) and any(program in words for program in PROGRAMS)
    ]
    directories = [str(path) for path in Path(gettempdir()).glob(f"{PREFIX}*")]
    home = cgroup_home()
    cgroups = [] if home is None else [str(path) for path in home.glob(f"{PREFIX}*/docker")]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "policylab" in line]
    return {"processes": processes, "directories": directories, "cgroups": cgroups, "mounts": mounts}


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def of_process(pid: int) -> list[str]:
    """The traces of one process: all names have its number in them."""
    found = traces()
    return [each for kind in found.values() for each in kind if f"-{pid}-" in each]


def wait_for_none(pid: int) -> list[str]:
    deadline = time.monotonic() + 20
    while (left := of_process(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
