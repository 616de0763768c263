# SPDX-License-Identifier: Apache-2.0
"""A cgroup of the lab's own: programs that the lab starts are in it, and so are the sockets that they make.

It is a directory of cgroup v2 under that of this process. No controller is switched on, nothing of the host's is
changed; what is attached to it (BPF) concerns nobody but the lab's programs.
"""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import HostError
from lab.fabric.identity import PREFIX, new_identity
from lab.fabric.watcher import Watcher

__all__ = ["cgroup_home", "make_cgroup"]


def cgroup_home() -> Path | None:
    """Where this process may have cgroups below its own, or None on a host without cgroup v2."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    found = [fields[1] for line in mounts if (fields := line.split(" "))[2] == "cgroup2"]
    # The unified hierarchy has the number 0 and no controllers in its line.
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    if not found or not own:
        return None
    home = Path(found[0] + own[0])
    return home if os.access(home, os.W_OK) else None


def make_cgroup(watcher: Watcher) -> Path | None:
    """Make a cgroup that goes with the watcher; None on a host without cgroup v2. Raises HostError."""
    home = cgroup_home()
    if home is None:
        return None
    directory = home / f"{PREFIX}{new_identity()}"
    # Told before it is made, so that there is no moment at which it could be left behind.
    watcher.empty(directory)
    try:
        directory.mkdir()
    except OSError as error:
        step = "run the command where cgroups can be made, or see 'policylab doctor'"
        raise HostError(f"no cgroup can be had: {error.strerror}", place=str(directory), next_step=step) from error
    return directory
