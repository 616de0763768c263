# SPDX-License-Identifier: Apache-2.0
"""Side by side, what waits for the kernel: a packet socket that opens a ring or closes, a node that takes its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["together"]

Result = TypeVar("Result")


def together(works: Iterable[Callable[[], Result]]) -> list[Result]:
    """Do all of them at once, in threads, and give their results in order; raises what the first of them raises.

    When this returns or raises, all have ended. Grace periods (12 ms each here) that are waited for together are one.
    """
    waiting = list(works)
    if len(waiting) < 2:
        return [work() for work in waiting]
    with ThreadPoolExecutor(len(waiting)) as threads:
        done = [threads.submit(work) for work in waiting]
    return [each.result() for each in done]
