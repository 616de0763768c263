# SPDX-License-Identifier: Apache-2.0
"""Maps as arrays in memory that is shared with the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.api import BpfMap

__all__ = ["words_of"]


def words_of(held: BpfMap) -> NDArray[Any]:
    """The values of a map as an array of words of eight bytes, shared with the kernel as long as the array lives."""
    words = np.frombuffer(held.memory(), np.uint64)
    return words[: (held.definition.value_size + 7) // 8 * held.definition.max_entries]
