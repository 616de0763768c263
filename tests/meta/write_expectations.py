# SPDX-License-Identifier: Apache-2.0
"""Writes ``docs/reference/expectations.md`` from the case files; a test compares the two.

``.venv/bin/python tests/meta/write_expectations.py``, after a case was added or changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from lab.conformance.case import Case, load_cases
from lab.conformance.changing import CHANGES, CHANGES_TITLE
from lab.conformance.generated import DRAWS, SHIPPED
from lab.conformance.talking import TALKS, TALKS_TITLE

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "expectations.md"
HEAD = """# Expectations

What `policylab conformance` holds a dataplane to. This page is written by
`tests/meta/write_expectations.py` from the case files in `lab/conformance/cases/`; a test compares the two.

An id is `area.topic.detail`. *Level*: a dataplane that does not declare what a `core` expectation needs gets the result
`partial`. *Needs* are the [capabilities](plugins.md#capabilities) of the rule itself; flows of a family or protocol
that a dataplane does not declare are left out. *Source* is where the rule is written.
"""
TABLE = "| id | title | level | needs | source |\n| --- | --- | --- | --- | --- |"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_areas(load_cases()), *_generated()]) + "\n"


def _areas(cases: tuple[Case, ...]) -> Iterator[str]:
    for area, group in groupby(cases, key=lambda case: case.id.partition(".")[0]):
        yield from (f"## {area}", TABLE, *map(_row, group), "")


def _row(case: Case) -> str:
    level = f"{case.level}, unconfirmed" if case.unconfirmed else case.level
    needs = ", ".join(sorted(each.value for each in case.capabilities))
    cells = (f"`{case.id}`", case.title, level, needs, case.source)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _generated() -> Iterator[str]:
    yield "## generated"
    yield from (f"`{each.id}`: {each.title}\n" for each in (*DRAWS, SHIPPED))
    yield f"`{CHANGES}`: {CHANGES_TITLE}\n"
    yield f"`{TALKS}`: {TALKS_TITLE}\n"
    yield "What is drawn lies at the policies' own borders; what fails is cut down to the smallest example."


if __name__ == "__main__":
    PAGE.write_text(page())
