# SPDX-License-Identifier: Apache-2.0
"""Whether machines can use the processor's own virtualisation: a trial tells, once for each boot of the host.

That /dev/kvm opens proves little: where the host is a virtual machine itself, a guest may hang under it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from lab.fabric.cache import cache_directory, locked
from lab.fabric.machine.emulator import ACCELERATED, emulator
from lab.fabric.machine.initrd import archive
from lab.fabric.machine.kernels import Kernel
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs

__all__ = ["TRIAL_SECONDS", "accelerator"]

TRIAL_SECONDS: Final = 15.0
"""For a guest that only says that it is there; with working virtualisation it takes one or two."""
_PAUSE_SECONDS: Final = 0.05
_SAYS: Final = "policylab: trial"
_SCRIPT: Final = f"#!/bin/busybox sh\necho {_SAYS}\n/bin/busybox poweroff -f\n"


def accelerator(programs: Programs, host: NamespaceNode, kernel: Kernel) -> str:
    """``kvm`` where a guest with this kernel is seen to run under it, else ``tcg``."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    known = cache_directory() / f"acceleration-{boot}"
    with locked(cache_directory() / "acceleration"):
        if not known.exists():
            for stale in cache_directory().glob("acceleration-*"):
                stale.unlink()
            known.write_text("kvm" if _runs(programs, host, kernel) else "tcg", encoding="ascii")
        return known.read_text(encoding="ascii")


def _runs(programs: Programs, host: NamespaceNode, kernel: Kernel) -> bool:
    directory = programs.directory
    image, console = directory / "trial.initrd", directory / "trial.console"
    image.write_bytes(archive(_SCRIPT, ()))
    words = [
        *(emulator(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"),
        *(*ACCELERATED["kvm"], "-m", "512", "-kernel", str(kernel.image), "-initrd", str(image)),
        *("-append", "console=ttyS0 quiet panic=1", "-serial", f"file:{console}"),
    ]
    process = programs.start(host, words)
    deadline = time.monotonic() + TRIAL_SECONDS
    try:
        while time.monotonic() < deadline and process.poll() is None:
            if console.exists() and _SAYS in console.read_text(encoding="utf-8", errors="replace"):
                return True
            time.sleep(_PAUSE_SECONDS)
        return console.exists() and _SAYS in console.read_text(encoding="utf-8", errors="replace")
    finally:
        process.kill()
