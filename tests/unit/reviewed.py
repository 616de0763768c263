# SPDX-License-Identifier: Apache-2.0
"""Texts that somebody has read and found right; ``POLICYLAB_GOLDEN=write`` renews the files, to be read again."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def as_reviewed(name, text):
    """The text of a file below ``golden``."""
    file = GOLDEN / name
    if os.environ.get("POLICYLAB_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return file.read_text()
