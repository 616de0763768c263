# SPDX-License-Identifier: Apache-2.0
"""What the verifier said, made short: the line of the source, the cause, and the last lines that mean something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lab.errors import BpfError, Place

__all__ = ["VerifierError"]

# "; if (*p == 1) @ filter.c:23"; before Linux 6.8 without the place. It stands above the instructions of the line.
_SOURCE: Final = re.compile(r"^; (?P<text>.*?)(?: @ (?P<file>\S+):(?P<line>\d+))?$")
# How the verifier went through the program, not what is wrong with it.
_WALK: Final = re.compile(r"\d+: |from \d+ to \d+|;|R\d+\w*=|mark_precise|last_idx|regs=|parent ")
# What it took: the end of every log.
_FIGURES: Final = ("processed ", "verification time ", "stack depth ")
_LAST_LINES: Final = 6


class VerifierError(BpfError):
    """The verifier refused a program.

    Attributes:
        log: all that it said; the message has the cause, the line of the source, and the last few lines.
    """

    def __init__(self, program: str, log: str, source: Path | None = None) -> None:
        lines = [line for line in log.splitlines() if line.strip() and not line.startswith(_FIGURES)]
        walked = max((place for place, line in enumerate(lines) if _WALK.match(line)), default=-1)
        cause = "; ".join(lines[walked + 1 :]) or "no reason given"
        at = next((match for line in reversed(lines) if (match := _SOURCE.match(line))), None)
        shown = f", in '{at['text'].strip()}'" if at else ""
        last = "".join(f"\n    {line}" for line in lines[-_LAST_LINES:])
        what = f"the verifier refuses the BPF program {program}: {cause}{shown}{last}"
        super().__init__(what, place=_place(at, source) if source else None)
        self.log = log


def _place(at: re.Match[str] | None, source: Path) -> Place:
    """A line of the file itself or of a header beside it."""
    if at is None or at["file"] is None:
        return Place(str(source))
    return Place(str(source.with_name(Path(at["file"]).name)), int(at["line"]))
