# SPDX-License-Identifier: Apache-2.0
"""Plots of benchmarks: what stands where, on which scale, and that nothing else decides on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lab.bench import fabric
from lab.bench.result import BenchResult, Row, Spread
from lab.cli.bench import bench
from lab.errors import HostError
from lab.report.axis import Axis, figure
from lab.report.plots import plots, write_plots

SVG = "{http://www.w3.org/2000/svg}"
WHISKER = re.compile(r"M(?P<low>[\d.]+) (?P<top>[\d.]+)v6m0 -3H(?P<high>[\d.]+)m0 -3v6")
FIGURES = st.floats(1e-6, 1e9)


def result(*rows: Row, **ratios: Spread) -> BenchResult:
    return BenchResult("dos", "a <fine> machine", 5, rows, ratios)


def drawing(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - what we have just made


def texts(text: str) -> list[str]:
    return [each.text or "" for each in drawing(text).iter(f"{SVG}text")]


def dots(text: str) -> list[tuple[float, float, float]]:
    """Where each whisker begins, where its dot is, and where it ends."""
    found = []
    for group in drawing(text).iter(f"{SVG}g"):
        whisker = WHISKER.fullmatch(group.find(f"{SVG}path").attrib["d"])
        found.append((float(whisker["low"]), float(group.find(f"{SVG}circle").attrib["cx"]), float(whisker["high"])))
    return found


def test_each_unit_has_a_plot_and_so_have_the_ratios() -> None:
    told = result(
        Row("xdp", "ns a packet", Spread(3, 2, 4)), Row("goodput", "MB/s", Spread(5, 4, 6)), over=Spread(2, 1, 3)
    ).to_dict()
    drawn = plots(told)
    assert list(drawn) == ["bench-dos-ns-a-packet.svg", "bench-dos-mb-s.svg", "bench-dos-ratios.svg"]
    assert "bench dos: ns a packet" in texts(drawn["bench-dos-ns-a-packet.svg"])
    assert "goodput" not in texts(drawn["bench-dos-ns-a-packet.svg"])
    (under,) = (each for each in texts(drawn["bench-dos-mb-s.svg"]) if "rounds" in each)
    assert under == "median of 5 interleaved rounds, from the least to the most; a <fine> machine"
    assert list(plots({**told, "ratios": {}})) == ["bench-dos-ns-a-packet.svg", "bench-dos-mb-s.svg"]


def test_same_result_makes_the_same_file_also_after_its_way_through_json() -> None:
    told = result(Row("xdp", "ms", Spread(3, 2, 4), {"packets": 7}, "hot"), over=Spread(2, 1, 3)).to_dict()
    assert plots(told) == plots(json.loads(json.dumps(told)))


def test_dot_is_at_the_median_between_whiskers_at_least_and_most() -> None:
    drawn = plots(result(Row("a", "ms", Spread(30, 20, 60)), Row("b", "ms", Spread(81, 70, 90))).to_dict())
    (low, at, high), (later, *_) = dots(drawn["bench-dos-ms.svg"])
    assert (at - low) * 3 == pytest.approx(high - at, abs=0.5)
    assert low < at < high < later
    assert [each for each in texts(drawn["bench-dos-ms.svg"]) if each in ("30", "81")][-2:] == ["30", "81"]


def test_figures_decades_apart_are_shown_on_a_logarithmic_scale_that_says_so() -> None:
    near = plots(result(Row("a", "ms", Spread(2, 1, 3))).to_dict())["bench-dos-ms.svg"]
    apart = plots(
        result(*(Row(str(each), "ms", Spread(each, each / 2, each * 2)) for each in (10, 1000, 100_000))).to_dict()
    )["bench-dos-ms.svg"]
    assert "ms" in texts(near)
    assert "ms, logarithmic" in texts(apart)
    (_, first, _), (_, second, _), (_, third, _) = dots(apart)
    assert second - first == pytest.approx(third - second, abs=0.3)


def test_rows_of_one_line_stand_together_in_the_colours_of_their_series() -> None:
    rows = [Row("xdp", "ms", Spread(3, 2, 4), {}, "hot"), Row("tc", "ms", Spread(9, 8, 10), {}, "hot")]
    drawn = plots(result(*rows, Row("xdp", "ms", Spread(5, 4, 6), {}, "cold")).to_dict())["bench-dos-ms.svg"]
    assert [each for each in texts(drawn) if each in ("hot", "cold", "xdp", "tc")] == ["hot", "cold", "xdp", "tc"]
    colours = [group.attrib["fill"] for group in drawing(drawn).iter(f"{SVG}g")]
    assert colours[0] == colours[2] != colours[1]


def test_plot_of_ratios_has_a_line_at_one() -> None:
    drawn = plots(result(Row("a", "ms", Spread(1, 1, 1)), over=Spread(7, 5, 9)).to_dict())["bench-dos-ratios.svg"]
    marked = [each.attrib["d"] for each in drawing(drawn).iter(f"{SVG}path") if each.attrib.get("stroke") == "#888"]
    ((low, _, _),) = dots(drawn)
    (at,) = (float(each[1:].split()[0]) for each in marked)
    assert at < low


def test_plot_refers_to_nothing_outside_of_it() -> None:
    drawn = plots(result(Row("a", "ms", Spread(1, 1, 1))).to_dict())["bench-dos-ms.svg"]
    assert "script" not in drawn
    assert re.findall(r"https?://[^\"]+", drawn) == ["http://www.w3.org/2000/svg"]


@given(values=st.lists(FIGURES, min_size=1, max_size=8))
def test_axis_has_a_place_for_every_value_and_few_round_values_beneath(values: list[float]) -> None:
    axis = Axis.over(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    ticks = list(axis.ticks())
    assert 2 <= len(ticks) <= 18
    assert ticks == sorted(set(ticks))
    assert all(float(f"{tick:.2g}") == pytest.approx(tick) for tick in ticks)
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in ticks)


def test_values_around_and_at_zero_have_a_place() -> None:
    for values in ([0.0], [0.0, 1000.0], [-3.0, 5.0], [-2.0, -1.0]):
        axis = Axis.over(values)
        assert not axis.logarithmic
        assert all(0 <= axis.place(value) <= 1 for value in values)


@pytest.mark.parametrize(("value", "shown"), [(0.01234, "0.0123"), (66.42, "66.4"), (64580.4, "64,580"), (0, "0")])
def test_figures_have_as_many_digits_as_mean_something(value: float, shown: str) -> None:
    assert figure(value) == shown


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> BenchResult:
    made = result(Row("up", "ms", Spread(3, 2, 4)), over=Spread(2, 1, 3))
    monkeypatch.setattr(fabric, "run", lambda _: made)
    return made


def test_bench_writes_its_result_and_plots_and_prints_nothing_else(tmp_path: Path, measured: BenchResult) -> None:
    ended = CliRunner().invoke(bench, ["lab", "--output", "json", "--report", str(tmp_path / "new" / "place")])
    assert ended.exit_code == 0
    assert json.loads(ended.stdout) == measured.to_dict()
    written = {file.name: file.read_text() for file in (tmp_path / "new" / "place").iterdir()}
    assert json.loads(written.pop("bench-lab.json")) == measured.to_dict()
    assert written == plots(measured.to_dict())
    assert "bench-dos-ms.svg" in ended.stderr


def test_place_that_takes_no_files_is_found_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: int) -> Any:
        raise AssertionError("measured")

    monkeypatch.setattr(fabric, "run", never)
    (tmp_path / "file").touch()
    ended = CliRunner().invoke(bench, ["lab", "--report", str(tmp_path / "file" / "under")])
    assert isinstance(ended.exception, HostError)
    with pytest.raises(HostError, match="cannot be written"):
        write_plots(result(Row("a", "ms", Spread(1, 1, 1))).to_dict(), tmp_path / "file")
