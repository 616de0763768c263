# SPDX-License-Identifier: Apache-2.0
"""The scale of a plot: where a value stands, and which values are written beneath."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Axis", "figure"]

_APART: Final = 20
"""Values further apart than so many times get a logarithmic scale: on a linear one the small ones look alike."""
_MOST_TICKS: Final = 9
_ROUND: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from ``low`` to ``high``, both of them round values; linear ones begin or end at zero."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Iterable[float]) -> Axis:
        """A scale on which all of at least one value have a place."""
        known = list(values)
        low, high = min(known), max(known)
        if low > 0 and high / low >= _APART:
            return cls(_round_down(low), _round_up(high), logarithmic=True)
        low, high = min(low, 0.0), max(high, 0.0)
        step = _step(low, high)
        return cls(math.floor(low / step) * step, math.ceil(high / step) * step or step, logarithmic=False)

    def place(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> Iterator[float]:
        """Values to write beneath, the least first."""
        if not self.logarithmic:
            step = _step(self.low, self.high)
            yield from (place * step for place in range(round(self.low / step), round(self.high / step) + 1))
            return
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        rounds = _ROUND if len(decades) * len(_ROUND) <= _MOST_TICKS + len(_ROUND) else _ROUND[:1]
        for decade in decades:
            yield from (each * 10.0**decade for each in rounds if self.low <= each * 10.0**decade <= self.high)


def figure(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(each * decade for each in _ROUND if each * decade <= value)


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(each * decade for each in (*_ROUND, 10) if each * decade >= value)


def _step(low: float, high: float) -> float:
    """The least round step that makes no more ticks than can be read."""
    wanted = (high - low or 1.0) / (_MOST_TICKS - 2)
    return _round_up(wanted)
