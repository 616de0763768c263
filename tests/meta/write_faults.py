# SPDX-License-Identifier: Apache-2.0
"""Writes ``docs/reference/faults.md`` from the faults and from what was measured of them; a test compares the two.

``.venv/bin/python tests/meta/write_faults.py``, after a fault was added or generation was measured anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median_high

from all_faults import FAULTS, GROUPS
from measure_generation import MOST, SEEDS

from lab.conformance.changing import CHANGES, COURSES
from lab.conformance.generated import POLICIES, PROFILES
from lab.conformance.talking import PROFILES as TALK_PROFILES
from lab.conformance.talking import TALKS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
WORDS = {POLICIES.id: "scenario", CHANGES: "step", TALKS: "talk"}
NOT_FOUND, UNKNOWN = "no", "—"
MEASURED = Path(__file__).with_name("found_by_generation.json")
HEAD = """# Broken dataplanes

Each is a sound dataplane with one mistake laid over it, in `tests/meta`. That the expectation catches it is tested with
the dataplanes `iptables` and `nftables`. *Generation alone* is what is found with all hand-written cases switched off,
with `nftables` and what the profile `ci` draws, which is no matter of chance (`tests/meta/measure_generation.py`);
whatever is found the sound dataplane passes.

- *scenario*: the number of the first of {scenarios} scenarios of `{policies}` that fails.
- *step*: the number of the first step of {courses} courses of `{changes}` that goes wrong.
- *talk*: the number of the first of {talks} scenarios of `{conversations}` with a packet that fares otherwise.
- *no*: looked for and not found, so that only the hand-written case catches it, or luck. A dash: not measured.

Written by `tests/meta/write_faults.py`; a test compares the two.
"""
CHANCE = """## Some of them by chance
One of each kind, with all hand-written cases switched off, drawn from {seeds} other seeds each, until one fails.
| fault | drawn | number of the first that fails, by seed | median |
| --- | --- | --- | ---: |"""


def page() -> str:
    """The whole page."""
    measured = json.loads(MEASURED.read_text())
    found: dict[str, dict[str, int | None]] = measured["ci"]
    told = {fault.name: _alone(fault.name, found) for fault in FAULTS}
    counted = Counter("missed" if text == NOT_FOUND else "found" for text in told.values() if text != UNKNOWN)
    lines = [
        HEAD.format(
            scenarios=PROFILES["ci"].max_examples,
            policies=POLICIES.id,
            courses=COURSES["ci"][0].max_examples,
            changes=CHANGES,
            talks=TALK_PROFILES["ci"].max_examples,
            conversations=TALKS,
        ),
        f"{len(FAULTS)} faults, each caught by an expectation.",
        f"Of {counted.total()} that were measured, generation alone found {counted['found']}.\n",
        CHANCE.format(seeds=len(SEEDS)),
        *_by_chance(measured["by-chance"]),
        "",
    ]
    for title, faults in GROUPS.items():
        lines += [
            f"## {title}",
            "| fault | what is wrong | caught by | generation alone |",
            "| --- | --- | --- | --- |",
        ]
        lines += [f"| `{each.name}` | {each.wrong} | `{each.caught_by}` | {told[each.name]} |" for each in faults]
        lines.append("")
    return "\n".join(lines)


def _by_chance(measured: dict[str, dict[str, list[int | None]]]) -> Iterator[str]:
    """A row for each fault: after how many it was found with each seed, and in the middle."""
    for drawn, found in measured.items():
        for name, numbers in found.items():
            told = ", ".join(f"none of {MOST}" if number is None else str(number) for number in numbers)
            middle = median_high(MOST + 1 if number is None else number for number in numbers)
            yield f"| `{name}` | {WORDS[drawn]} | {told} | {f'over {MOST}' if middle > MOST else middle} |"


def _alone(name: str, found: dict[str, dict[str, int | None]]) -> str:
    """What generation found of a fault, by whichever of it was tried."""
    numbers = {word: found.get(drawn, {}).get(name, 0) for drawn, word in WORDS.items()}  # 0: not measured
    if told := [f"{word} {number}" for word, number in numbers.items() if number]:
        return ", ".join(told)
    return NOT_FOUND if None in numbers.values() else UNKNOWN


if __name__ == "__main__":
    PAGE.write_text(page())
