# SPDX-License-Identifier: Apache-2.0
"""What runs of drawn examples have in common: they end with the first that fails, and tell of it as it was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn, TypeVar

from hypothesis import settings
from hypothesis.errors import Flaky, Unsatisfiable
from hypothesis.strategies import SearchStrategy

from dataplanes.api import Dataplane
from lab.conformance.counterexample import Failing
from lab.conformance.judge import Judge
from lab.conformance.pool import Outcome
from lab.conformance.rounds import Rounds
from lab.conformance.scenario import Scenario

__all__ = ["Drawing"]

Example = TypeVar("Example")


class _WrongError(Exception):
    """What was drawn fared otherwise than it must."""


@dataclass(slots=True)
class Drawing:
    """One run of what is drawn against a dataplane, and what it has seen; each kind is a class of its own."""

    expectation: ClassVar[str]
    title: ClassVar[str]

    judge: Judge
    dataplane: type[Dataplane]
    seen: Counter[str] = field(default_factory=Counter)
    failing: tuple[Scenario, Outcome] | None = None
    """What failed first, and what was seen then: it need not come again."""

    def _drawn(
        self, chosen: settings, examples: SearchStrategy[Example], check: Callable[[Example], None]
    ) -> str | None:
        """Check as many examples as settings say; None, or in words what failed first."""
        rounds = Rounds(chosen)
        try:
            rounds.check(examples, check)
        except (_WrongError, Flaky):
            assert self.failing is not None  # noqa: S101  (it was noted before it was raised)
            scenario, outcome = self.failing
            bundle = self.judge.bundle(scenario, self.dataplane, self.expectation, rounds.seed_text)
            return self.judge.tell(Failing(bundle, outcome), self.title, self.dataplane)
        except Unsatisfiable:
            pass  # the dataplane declares too little
        return None

    def _fail(self, scenario: Scenario, outcome: Outcome) -> NoReturn:
        """Note it, and end the run: the lab is not to be built upon."""
        self.failing = self.failing or (scenario, outcome)
        self.judge.pool.forget(scenario, self.dataplane)
        raise _WrongError
