# SPDX-License-Identifier: Apache-2.0
"""Files of a report: the directory is proven writable before a long run, and a file is whole or not there."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from lab.errors import HostError

__all__ = ["prepare_directory", "write_json", "write_text"]

PROBE_BYTES = 65536
"""What a report needs at the least; a full disk is found before the run and not after it."""


def prepare_directory(directory: Path) -> None:
    """Make the directory and prove that it takes a file; raises HostError naming it when it does not."""
    probe = directory / ".probe"
    there_before = True
    try:
        there_before = directory.exists()  # fails on a name that is too long
        directory.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        if not there_before:
            with suppress(OSError):
                directory.rmdir()
        raise _unwritable(directory, error) from error


def write_json(file: Path, data: object) -> None:
    """Write data in one step; raises HostError when the disk does not take it."""
    write_text(file, json.dumps(data, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a file in one step; raises HostError when the disk does not take it."""
    unfinished = file.with_suffix(".unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise _unwritable(file, error) from error


def _unwritable(place: Path, error: OSError) -> HostError:
    return HostError(
        "the report cannot be written",
        place=str(place),
        value=error.strerror,
        next_step="make room there, or name another directory with --report",
    )
