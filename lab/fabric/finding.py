# SPDX-License-Identifier: Apache-2.0
"""What is found out about a host, one thing at a time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State", "last_line", "which"]

State = Literal["yes", "no", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the host can do or cannot, or of which that could not be told.

    Attributes:
        name: what was looked for.
        state: ``yes``, ``no`` or ``inconclusive``.
        detail: what was seen, in a few words.
        needed_for: the commands or dataplanes that need it.
        mend: what makes a ``no`` a ``yes``, where one command does and something uses it already.
    """

    name: str
    state: State
    detail: str
    needed_for: str
    mend: str | None = None


def last_line(text: str) -> str:
    """The last line of a command's complaint that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def which(command: str) -> str | None:
    """Where a command is found, also where system tools lie that are not in every user's path."""
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
