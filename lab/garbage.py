# SPDX-License-Identifier: Apache-2.0
"""How often Python looks for objects that only point at each other, in processes that are ours alone."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["OBJECTS_BEFORE_COLLECTION", "collect_rarely"]

OBJECTS_BEFORE_COLLECTION: Final = 100_000
"""Flows, packets and verdicts come by ten thousands and hold no cycles: to look through them every 700 objects, as
Python does, took a third of the time of a run."""


def collect_rarely() -> None:
    """From now on, only when very many objects have come; what there is already is never looked through again."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION, 20, 20)
