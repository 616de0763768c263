# SPDX-License-Identifier: Apache-2.0
"""What is measured runs ahead of what else there is to do: on a machine that others use, too, their work is noise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["ahead_of_others"]

_HIGHEST: Final = -20


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Run this thread, and all programs that it starts, at the highest priority that is not a real-time one.

    A round trip waits for two programs to get a CPU. On two CPUs with a load of 15 that wait was longer than what it
    took, by whatever way: the ratio of sockmap to plain TCP read 1.33 there, and 1.86 ahead of the others.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, _HIGHEST)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
