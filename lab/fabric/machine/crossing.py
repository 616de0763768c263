# SPDX-License-Identifier: Apache-2.0
"""When packets may be in several kernels: waits until each has come to its end, and proves it by markers.

A round begins in the machines. Each lets its own barrier through, so that what was sent there has died, arrived, or
left by its card, and sends a marker behind it. When that is seen at the tap, everything before it has been handed to
this kernel, on whichever CPU the emulator's thread was: so the barrier of this kernel goes through every CPU. Then a
marker goes to each machine, behind all that was sent there, and the machine's barrier follows it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lab.fabric.barrier import Barrier

if TYPE_CHECKING:
    from lab.fabric.machine.machines import MachinePart

__all__ = ["settle_all"]

_ROUNDS: Final = 2
"""A packet comes out of a machine at most twice: from its sender, and where a node sends it on (node ports)."""


def settle_all(barrier: Barrier, machines: Sequence[MachinePart], hops: int) -> bool:
    """Return True when no packet that was sent before is on its way any more; False when that was not proven."""
    return all(
        all(machine.wait_outward(hops) for machine in machines)
        and _settle_here(barrier, hops)
        and all(machine.wait_inward(hops) for machine in machines)
        for _ in range(_ROUNDS)
    )


def _settle_here(barrier: Barrier, hops: int) -> bool:
    """Let the barrier through on every CPU on which an emulator's thread may have run; the thread is put back."""
    own = os.sched_getaffinity(0)
    try:
        # What this process may not have of them the kernel leaves out.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        return all(_settle_on(cpu, barrier, hops) for cpu in os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, own)


def _settle_on(cpu: int, barrier: Barrier, hops: int) -> bool:
    os.sched_setaffinity(0, {cpu})
    return barrier.wait(hops)
