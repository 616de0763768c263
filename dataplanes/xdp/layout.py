# SPDX-License-Identifier: Apache-2.0
"""The numbers that the XDP filter and this plugin must agree on, read from the filter's own header."""

from __future__ import annotations

import re
from typing import Final

from dataplanes.api import shipped_bpf

__all__ = ["CAUSES", "LAYOUT", "SOURCE", "VALUES", "program_name"]

SOURCE: Final = shipped_bpf("xdp_filter.c")

_DEFINITION: Final = re.compile(r"^#define (?P<name>[A-Z0-9_]+) (?P<value>\d\w*)", re.MULTILINE)


def _numbers() -> dict[str, int]:
    text = SOURCE.path.with_name("layout.h").read_text(encoding="utf-8")
    return {found["name"]: int(found["value"].rstrip("UL"), 0) for found in _DEFINITION.finditer(text)}


LAYOUT: Final = _numbers()
"""Every number that the header defines, by name."""

CAUSES: Final = {
    number: name.removeprefix("CAUSE_").lower().replace("_", "-")
    for name, number in LAYOUT.items()
    if name.startswith("CAUSE_")
}
"""Why a packet passed or was dropped, as counters call it, by its place in the map."""

VALUES: Final = {
    number: name.removeprefix("VALUE_").lower() for name, number in LAYOUT.items() if name.startswith("VALUE_")
}
"""Arrays whose address is in the program, by the number that stands there for it."""


def program_name(v4: int, v6: int, *, conditions: bool) -> str:
    """The program that looks sources up in these two ways."""
    return f"filter_{v4}{v6}{int(conditions)}"
