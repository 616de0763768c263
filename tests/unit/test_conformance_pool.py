# SPDX-License-Identifier: Apache-2.0
"""What a lab that is kept between scenarios is told for the next one: what it has not seen, and nothing twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lab.conformance.pool import Pool, _Kept
from lab.policy.resources import Resources

A, B = ("a.yaml",), ("b.yaml",)


class Told:
    """A lab that keeps what it is told: entries, in place of resources."""

    def __init__(self) -> None:
        self.applied: list[Any] = []
        self.kept = _Kept(self, None)  # type: ignore[arg-type]

    def apply(self, resources: object, known: object) -> None:  # noqa: ARG002 - which is the same all the time
        self.applied.append(() if isinstance(resources, Resources) else resources)

    def to(self, *states: tuple[str, ...]) -> list[Any]:
        """Bring it to a scenario; gives what it was told for that."""
        self.applied = []
        scenario: Any = SimpleNamespace(before=states[:-1], resources=states[-1])
        loaded: Any = SimpleNamespace(
            topology=None, states=[SimpleNamespace(resources=each, known=None) for each in states]
        )
        Pool._bring_to(scenario, loaded, self.kept)
        return self.applied


def test_control_and_case_after_another_case_take_two_applies() -> None:
    lab = Told()
    assert lab.to(()) == [()]
    assert lab.to(A) == [A]
    assert lab.to(()) == [()]
    assert lab.to(B) == [B]


@pytest.mark.parametrize("state", [(), A])
def test_same_again_begins_where_the_first_did(state: tuple[str, ...]) -> None:
    lab = Told()
    assert lab.to(state) == lab.to(state)


def test_next_step_of_a_case_is_applied_to_what_the_one_before_left() -> None:
    lab = Told()
    assert lab.to(A) == [(), A]
    assert lab.to(A, B) == [B]
    assert lab.to(A, ()) == [(), A, ()]


def test_other_policy_is_never_laid_over_what_was_there() -> None:
    lab = Told()
    lab.to(A)
    assert lab.to(B) == [(), B]
