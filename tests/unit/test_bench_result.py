# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from lab.bench.result import LEAST_ROUNDS, BenchResult, Row, Spread, interleave, ratio
from lab.errors import LabError


def result() -> BenchResult:
    rows = (Row("this way", "ms", Spread(2.0, 1.0, 4.0), {"hosts": 50}), Row("that way", "ms", Spread(8, 7, 9)))
    return BenchResult("lab", "a host", 3, rows, {"lab.that": Spread(4.0, 3.0, 5.0)})


def test_result_as_dict_has_the_public_format():
    assert json.loads(json.dumps(result().to_dict())) == {
        "benchmark": "lab",
        "host": "a host",
        "rounds": 3,
        "rows": [
            {"what": "this way", "unit": "ms", "hosts": 50, "median": 2.0, "min": 1.0, "max": 4.0},
            {"what": "that way", "unit": "ms", "median": 8, "min": 7, "max": 9},
        ],
        "ratios": {"lab.that": {"median": 4.0, "min": 3.0, "max": 5.0}},
    }


def test_result_as_table_shows_rows_and_ratios_with_units():
    lines = list(result().table())
    assert [line.split()[0] for line in lines[2:]] == ["this", "that", "lab.that"]
    assert [line.split()[-1] for line in lines[2:]] == ["ms", "ms", "times"]


def test_spread_of_an_even_sample_has_the_mean_of_the_middle():
    assert Spread.of(iter([4.0, 1.0, 3.0, 2.0])) == Spread(2.5, 1.0, 4.0)


def test_interleaved_things_take_turns_and_change_their_order():
    calls: list[str] = []

    def measured(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    figures = interleave(3, {name: lambda name=name: measured(name) for name in "ab"})
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert figures == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_rounds_end_early_when_time_is_up_but_not_before_there_are_enough():
    assert len(interleave(9, {"a": lambda: 1.0}, until=0)["a"]) == LEAST_ROUNDS
    assert len(interleave(2, {"a": lambda: 1.0}, until=0)["a"]) == 2
    assert len(interleave(9, {"a": lambda: 1.0})["a"]) == 9


def test_no_rounds_are_refused():
    with pytest.raises(LabError, match="allowed: 1 or more"):
        interleave(0, {})


def test_ratio_compares_figures_of_the_same_round():
    assert ratio([8.0, 20.0, 9.0], [4.0, 5.0, 3.0]) == Spread(3.0, 2.0, 4.0)
