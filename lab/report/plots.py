# SPDX-License-Identifier: Apache-2.0
"""Benchmarks as pictures: for each unit one plot of all that was measured in it, and one of the ratios.

A dot is a median, its whiskers go from the least to the most. Where figures lie decades apart, the scale is
logarithmic. A plot depends on the result alone, so the same result always makes the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from lab.report.axis import Axis, figure
from lab.report.files import write_text

__all__ = ["plots", "write_plots"]

# Pixels. A character of the font is about so wide; names are wider than figures.
_CHARACTER: Final = 6.6
_STEP, _GAP = 14, 6
_TOP, _BELOW = 70, 44
_PLOT: Final = 520
_FIGURES: Final = 70
# Colours that also those tell apart who see red and green alike (Okabe and Ito).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")


@dataclass(frozen=True, slots=True)
class _Dot:
    """One figure: of which line, in which way it was measured, and how far it went."""

    line: str
    series: str
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Dot:
        return cls(row.get("line", row.get("what")), row.get("series", ""), row["median"], row["min"], row["max"])


def write_plots(result: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the plots of a benchmark's result, in its public form; raises HostError when the disk is full."""
    written = []
    for name, text in plots(result).items():
        written.append(directory / name)
        write_text(written[-1], text)
    return written


def plots(result: Mapping[str, Any]) -> dict[str, str]:
    """The plots of a benchmark's result, each an SVG document, by the names of their files."""
    name, how = result["benchmark"], f"median of {result['rounds']} interleaved rounds, from the least to the most"
    under = f"{how}; {result['host']}"
    drawn = {}
    for unit in dict.fromkeys(row["unit"] for row in result["rows"]):
        dots = [_Dot.of(row) for row in result["rows"] if row["unit"] == unit]
        file = f"bench-{name}-{re.sub('[^a-z0-9]+', '-', unit.lower())}.svg"
        drawn[file] = _drawn(f"bench {name}: {unit}", under, unit, dots)
    ratios = [_Dot.of({"line": each, **spread}) for each, spread in result["ratios"].items()]
    if ratios:
        drawn[f"bench-{name}-ratios.svg"] = _drawn(f"bench {name}: ratios", under, "times", ratios, mark=1.0)
    return drawn


def _drawn(title: str, subtitle: str, unit: str, dots: Sequence[_Dot], mark: float | None = None) -> str:
    """One plot; ``mark`` is a value that has a line of its own."""
    import jinja2  # late: only plots need it

    axis = Axis.over([value for dot in dots for value in (dot.low, dot.high)] + ([] if mark is None else [mark]))
    left = round(20 + _CHARACTER * max(len(dot.line) for dot in dots))
    colours = {
        each: _COLOURS[place % len(_COLOURS)] for place, each in enumerate(dict.fromkeys(dot.series for dot in dots))
    }
    bands = list(_bands(dots))
    bottom = bands[-1].top + bands[-1].height

    def across(value: float) -> float:
        return round(left + axis.place(value) * _PLOT, 1)

    template = (files(__package__) / "templates" / "plot.svg.txt").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        axis=f"{unit}, logarithmic" if axis.logarithmic else unit,
        unit=unit,
        width=left + _PLOT + _FIGURES,
        height=bottom + _BELOW,
        left=left,
        right=left + _PLOT,
        top=_TOP,
        bottom=bottom,
        bands=bands,
        colours=colours,
        legend=list(_legend(colours)),
        ticks=list(axis.ticks()),
        mark=mark,
        across=across,
        figure=figure,
    )


@dataclass(frozen=True, slots=True)
class _Band:
    """A line's place, and the height at which each of its dots stands."""

    line: str
    top: int
    height: int
    shaded: bool
    dots: tuple[tuple[int, _Dot], ...]


def _bands(dots: Sequence[_Dot]) -> Iterator[_Band]:
    """A band for each line, one below the other, with a row for each of its dots."""
    top = _TOP
    for place, line in enumerate(dict.fromkeys(dot.line for dot in dots)):
        own = [dot for dot in dots if dot.line == line]
        first = top + (_GAP + _STEP) // 2
        rows = tuple((first + _STEP * row, dot) for row, dot in enumerate(own))
        yield _Band(line, top, _STEP * len(own) + _GAP, place % 2 == 0, rows)
        top += _STEP * len(own) + _GAP


def _legend(colours: Mapping[str, str]) -> Iterator[tuple[float, str, str]]:
    """Where each colour is explained, if it means anything."""
    x = 16.0
    for series, colour in colours.items():
        if series:
            yield round(x, 1), series, colour
            x += 26 + _CHARACTER * len(series)
