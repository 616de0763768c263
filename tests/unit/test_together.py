# SPDX-License-Identifier: Apache-2.0
"""Works that wait side by side: results in order, and none is still at work when one fails."""

from __future__ import annotations

import threading

import pytest

from lab.traffic.together import together


def test_results_come_in_order_and_all_work_at_once() -> None:
    met = threading.Barrier(3, timeout=10)
    assert together([lambda number=number: (met.wait() >= 0, number) for number in range(3)]) == [
        (True, 0),
        (True, 1),
        (True, 2),
    ]


def test_nothing_to_do_is_done() -> None:
    assert together([]) == []


def test_first_failure_is_raised_when_all_have_ended() -> None:
    ended: list[str] = []
    slow = threading.Event()

    def fails(what: str) -> None:
        slow.set()
        raise ValueError(what)

    def ends_late() -> None:
        slow.wait(10)
        ended.append("late")

    with pytest.raises(ValueError, match="one"):
        together([lambda: fails("one"), lambda: fails("two"), ends_late])
    assert ended == ["late"]
