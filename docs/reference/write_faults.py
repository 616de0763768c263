# SPDX-License-Identifier: Apache-2.0
"""Writes ``faults.md`` beside this file from the broken dataplanes in ``tests/meta``; a test compares the two.

``.venv/bin/python docs/reference/write_faults.py``, after a fault was added or generation was measured anew.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

META = Path(__file__).parents[2] / "tests" / "meta"
sys.path.insert(0, str(META))

from flow_faults import FLOW_FAULTS  # noqa: E402 - they are no package
from path_faults import PATH_FAULTS, SWITCH_FAULTS  # noqa: E402
from snapshot_faults import SNAPSHOT_FAULTS  # noqa: E402
from step_faults import STEP_FAULTS  # noqa: E402
from window_faults import WINDOW_FAULTS  # noqa: E402

from lab.conformance.generated import POLICIES, PROFILES  # noqa: E402

PAGE = Path(__file__).with_name("faults.md")
MEASURED = META / "found_by_generation.json"
GROUPS = (
    ("What it is told it misreads", SNAPSHOT_FAULTS),
    ("Something changes", STEP_FAULTS),
    ("For a moment, while something changes", WINDOW_FAULTS),
    ("Packets go another way", (*PATH_FAULTS, *SWITCH_FAULTS)),
    ("What comes after the first packet, and packets of odd shapes", FLOW_FAULTS),
)
HEAD = """# Broken dataplanes

Each is a sound dataplane with one mistake laid over it, in `tests/meta`. That the expectation catches it is tested with
the dataplanes `iptables` and `nftables`. *Generation alone* is what `{property}` finds with all
hand-written cases switched off: the number of the first of {most} scenarios of the profile `ci`, which are no matter of
chance, that fails with `iptables`; measured by `tests/meta/measure_generation.py`. A dash: not measured. Faults of a
moment are not its matter: `generated.changes` looks for those. Written by `docs/reference/write_faults.py`; a test
compares the two.
"""


def page() -> str:
    """The whole page."""
    found: dict[str, int | None] = json.loads(MEASURED.read_text())
    most = PROFILES["ci"].max_examples
    lines = [HEAD.format(property=POLICIES.id, most=most)]
    counted = Counter("found" if number is not None else "missed" for number in found.values())
    total = sum(len(faults) for _, faults in GROUPS)
    lines.append(
        f"{total} faults, each caught by an expectation. Of {len(found)} that were measured, generation alone found "
        f"{counted['found']}.\n"
    )
    for title, faults in GROUPS:
        lines += [
            f"## {title}",
            "| fault | what is wrong | caught by | generation alone |",
            "| --- | --- | --- | --- |",
        ]
        for fault in faults:
            number = found.get(fault.name)
            alone = "—" if fault.name not in found else f"none of {most}" if number is None else str(number)
            lines.append(f"| `{fault.name}` | {fault.wrong} | `{fault.caught_by}` | {alone} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
