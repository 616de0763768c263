# SPDX-License-Identifier: Apache-2.0
"""Drawing in rounds, so that memory does not grow with the length of a night.

Hypothesis keeps what it drew, each example whole, until a run of it ends: about 65 KB for a scenario, hundreds of
megabytes for thousands. So long runs are made of many short ones.
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

ROUND: Final = 100
"""Examples that one run of Hypothesis draws; the simplest ones come again in each."""

NO_SEED: Final = "derandomised"
"""What bundles tell in place of a seed where none was drawn."""

Example = TypeVar("Example")


@dataclass(slots=True)
class Rounds:
    """As many examples as settings say; those that are derandomised are drawn in one go, or each round had the same."""

    chosen: settings
    most: int = ROUND
    drawn_from: int | None = None
    """The seed of the round that was the last."""

    def check(self, examples: SearchStrategy[Example], check: Callable[[Example], None]) -> None:
        """Call ``check`` with each example, and raise what Hypothesis makes of what it raises."""
        left = self.chosen.max_examples
        while left > 0:
            count = left if self.chosen.derandomize else min(self.most, left)
            left -= count
            self._round(settings(self.chosen, max_examples=count), examples, check)
            # What a round leaves points at itself, and has long been among what Python hardly ever looks through.
            gc.collect()

    def _round(self, chosen: settings, examples: SearchStrategy[Example], check: Callable[[Example], None]) -> None:
        @chosen
        @given(examples)
        def each(example: Example) -> None:
            check(example)

        if chosen.derandomize:
            each()
        else:
            self.drawn_from = random.getrandbits(64)
            seed(self.drawn_from)(each)()

    @property
    def seed_text(self) -> str:
        """What the last round was drawn from, as bundles tell it."""
        return NO_SEED if self.drawn_from is None else str(self.drawn_from)
