# SPDX-License-Identifier: Apache-2.0
"""Writes ``docs/reference/faults.md`` from the faults and from what was measured of them; a test compares the two.

``.venv/bin/python tests/meta/write_faults.py``, after a fault was added or generation was measured anew.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from all_faults import FAULTS, GROUPS

from lab.conformance.generated import POLICIES, PROFILES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
MEASURED = Path(__file__).with_name("found_by_generation.json")
HEAD = """# Broken dataplanes

Each is a sound dataplane with one mistake laid over it, in `tests/meta`. That the expectation catches it is tested with
the dataplanes `iptables` and `nftables`. *Generation alone* is what `{property}` finds with all
hand-written cases switched off: the number of the first of {most} scenarios of the profile `ci`, which are no matter of
chance, that fails with `iptables`; measured by `tests/meta/measure_generation.py`. A dash: not measured. Faults of a
moment are not its matter: `generated.changes` looks for those. Written by `tests/meta/write_faults.py`; a test
compares the two.
"""


def page() -> str:
    """The whole page."""
    found: dict[str, int | None] = json.loads(MEASURED.read_text())
    most = PROFILES["ci"].max_examples
    lines = [HEAD.format(property=POLICIES.id, most=most)]
    counted = Counter("found" if number is not None else "missed" for number in found.values())
    lines.append(
        f"{len(FAULTS)} faults, each caught by an expectation. Of {len(found)} that were measured, generation alone "
        f"found {counted['found']}.\n"
    )
    for title, faults in GROUPS.items():
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
