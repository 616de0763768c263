# SPDX-License-Identifier: Apache-2.0
"""The one choice that everything here is made of, kept cheap: a scenario takes more than a hundred of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

__all__ = ["chance", "pick"]

Value = TypeVar("Value")


def pick(draw: st.DrawFn, values: Sequence[Value]) -> Value:
    """One of ``values``; shrinks towards the first.

    An index from ``integers``, which Hypothesis caches, is cheaper than a new ``sampled_from`` for each choice.
    """
    return values[draw(st.integers(0, len(values) - 1))]


def chance(draw: st.DrawFn, one_in: int) -> bool:
    """True about once in ``one_in`` times; shrinks towards False."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1
