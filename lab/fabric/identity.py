# SPDX-License-Identifier: Apache-2.0
"""Names for what a lab makes beside descriptors: they tell whose it is, and whether that process still runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from secrets import token_hex
from typing import Final

__all__ = ["PREFIX", "is_orphan", "new_identity"]

PREFIX: Final = "policylab-"
"""What names of labs' files and cgroups begin with; the identity follows."""

_IDENTITY: Final = re.compile(r"(\d+)-(\d+)-(\d+)-[0-9a-f]{8}")
_START_FIELD: Final = 19
"""Of /proc/PID/stat (starttime, proc(5)), counted from behind the command's name."""


def new_identity() -> str:
    """A name that nothing else has: the namespace of process ids, this process in it, its start, a random part."""
    pid = os.getpid()
    return f"{_pid_namespace()}-{pid}-{_start_of(pid)}-{token_hex(4)}"


def is_orphan(identity: str) -> bool:
    """Whether the process of an identity is known to be gone; of what is not one of ours nothing is known."""
    found = _IDENTITY.fullmatch(identity)
    if found is None:
        return False
    namespace, pid, start = map(int, found.groups())
    return namespace == _pid_namespace() and _start_of(pid) != start


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_of(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None when there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(told.rpartition(")")[2].split()[_START_FIELD])
