# SPDX-License-Identifier: Apache-2.0
"""Drawing in rounds: as many examples as were asked for, each its own, and no more memory after three times as many."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from lab.conformance.rounds import Rounds
from lab.garbage import OBJECTS_BEFORE_COLLECTION

ROUND, FIRST = 50, 100
"""Memory is looked at in the first example after so many, and after three times as many: between two rounds."""
MANY = settings(
    derandomize=False,  # as Hypothesis has it where there is no CI
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    max_examples=3 * FIRST + 1,
)
EXAMPLES = st.lists(st.integers(0, 9), min_size=150, max_size=150)
"""As many choices as a scenario takes."""
BOUND = 50
"""Python's blocks of memory that an example may leave; those that are kept whole leave some 500."""


class _WrongError(Exception):
    """What a check raises."""


@pytest.fixture
def relaxed() -> Iterator[None]:
    """Python looks for garbage as rarely as under the command line."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION, 20, 20)
    yield
    gc.set_threshold(*before)


def _growth(most: int) -> float:
    """Blocks of memory that each example leaves, from the first look to the second."""
    seen: list[int] = []

    def check(_: list[int]) -> None:
        seen.append(sys.getallocatedblocks())

    Rounds(MANY, most).check(EXAMPLES, check)
    assert len(seen) == MANY.max_examples
    return (seen[3 * FIRST] - seen[FIRST]) / (2 * FIRST)


@pytest.mark.usefixtures("relaxed")
def test_three_times_as_many_examples_take_no_more_memory() -> None:
    assert _growth(ROUND) < BOUND


@pytest.mark.usefixtures("relaxed")
def test_examples_drawn_in_one_go_are_seen_to_pile_up() -> None:
    assert _growth(MANY.max_examples) > 2 * BOUND


def test_each_round_has_a_seed_of_its_own_and_the_last_one_is_told() -> None:
    seen: list[int] = []
    drawing = Rounds(settings(MANY, max_examples=12), 5)
    drawing.check(st.integers(0, 1 << 60), seen.append)
    assert len(seen) == 12
    assert len(set(seen)) > 8
    assert drawing.seed_text == str(drawing.drawn_from)


def test_what_is_derandomised_is_the_same_each_time_in_all_its_rounds() -> None:
    drawn: list[list[int]] = [[], []]
    for seen in drawn:
        drawing = Rounds(settings(MANY, max_examples=12, derandomize=True), 5)
        drawing.check(st.integers(0, 1 << 60), seen.append)
        assert drawing.seed_text == "2"
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 8


def test_simplest_example_comes_once() -> None:
    seen: list[int] = []
    Rounds(settings(MANY, max_examples=60)).check(st.integers(0, 1 << 60), seen.append)
    assert seen[0] == 0
    assert 0 not in seen[1:]


def _variants(drawing: Rounds) -> int:
    """How many examples have half of another one's numbers in their places."""
    seen: list[list[int]] = []
    drawing.check(EXAMPLES, seen.append)
    alike = (
        any(sum(a == b for a, b in zip(one, other, strict=True)) > len(one) / 2 for other in seen[:number])
        for number, one in enumerate(seen)
    )
    return sum(alike)


def test_no_example_is_a_variant_of_another() -> None:
    many = settings(MANY, max_examples=60)
    assert _variants(Rounds(many)) == 0
    assert _variants(Rounds(many, 60)) > 20


def test_what_fails_in_a_later_round_ends_the_drawing() -> None:
    seen: list[int] = []

    def check(number: int) -> None:
        seen.append(number)
        if len(seen) > 7:
            raise _WrongError

    with pytest.raises(_WrongError):
        Rounds(settings(MANY, max_examples=100), 5).check(st.integers(0, 1 << 60), check)
    assert len(seen) < 20
