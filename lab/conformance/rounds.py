# SPDX-License-Identifier: Apache-2.0
"""Drawing in short rounds, so that examples differ and memory does not grow with the length of a night.

Hypothesis keeps what it drew, each example whole, until a run of it ends: about 65 KB for a scenario, hundreds of
megabytes for thousands. And a run of ten examples or more has small ones first, and then five variants of each one that
is drawn, which differ in a detail: of a hundred scenarios in one run some fifteen were drawn. So all runs are short.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["DRAWN", "NO_SEED", "ROUND", "Rounds"]

DRAWN: Final = settings(
    derandomize=False,  # also where Hypothesis finds that it runs in CI
    deadline=None,  # the kernel is in the loop
    database=None,  # a failure is kept as a bundle
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),  # what fails is cut down as a scenario
    print_blob=False,
)
"""How everything is drawn; profiles say how much."""

ROUND: Final = 9
"""Examples that one run of Hypothesis draws: so few that each, but for the first, is drawn for itself."""

NO_SEED: Final = "derandomised"
"""What bundles tell in place of a seed where none was drawn."""

Example = TypeVar("Example")


@dataclass(slots=True)
class Rounds:
    """As many examples as settings say; where they are derandomised, rounds are drawn from 0, 1, 2 and so on."""

    chosen: settings
    most: int = ROUND
    drawn_from: int | None = None
    """The seed of the round that was the last."""

    def check(self, examples: SearchStrategy[Example], check: Callable[[Example], None]) -> None:
        """Call ``check`` with each example, and raise what Hypothesis makes of what it raises."""
        left = self.chosen.max_examples
        number = 0
        while left > 0:
            # Each run begins with the simplest example of all, which is not looked at again.
            known = min(number, 1)
            count = min(self.most - known, left)
            left -= count
            self.drawn_from = number if self.chosen.derandomize else random.getrandbits(64)
            self._round(count + known, examples, check if not known else _but_the_first(check))
            number += 1
            # What a round leaves points at itself, and has long been among what Python hardly ever looks through.
            gc.collect()

    def _round(self, count: int, examples: SearchStrategy[Example], check: Callable[[Example], None]) -> None:
        @settings(self.chosen, max_examples=count, derandomize=False)
        @given(examples)
        def each(example: Example) -> None:
            check(example)

        seed(self.drawn_from)(each)()

    @property
    def seed_text(self) -> str:
        """What the last round was drawn from, as bundles tell it."""
        return NO_SEED if self.drawn_from is None else str(self.drawn_from)


def _but_the_first(check: Callable[[Example], None]) -> Callable[[Example], None]:
    met: list[Example] = []

    def but_the_first(example: Example) -> None:
        if met:
            check(example)
        else:
            met.append(example)

    return but_the_first
