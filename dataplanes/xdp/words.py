# SPDX-License-Identifier: Apache-2.0
"""Maps as arrays in memory that is shared with the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dataplanes.api import BpfMap

__all__ = ["words_of"]


def words_of(held: BpfMap, kind: DTypeLike = np.uint64) -> NDArray[Any]:
    """The values of a map as an array of numbers, shared with the kernel as long as the array lives.

    They are words of eight bytes, or of another kind where a map is one value that is made of such.
    """
    numbers = np.frombuffer(held.memory(), kind)
    each = numbers.itemsize
    if held.definition.max_entries == 1:
        return numbers[: held.definition.value_size // each]
    return numbers[: (held.definition.value_size + 7) // 8 * held.definition.max_entries * 8 // each]
