# SPDX-License-Identifier: Apache-2.0
"""Tools of others, run to their end without input and in bounded time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lab.errors import HostError

__all__ = ["run_tool"]


def run_tool(
    words: Sequence[str],
    seconds: float,
    late: HostError,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a command, whatever its exit status, with ``environment`` added to ours; both outputs are text.

    Raises ``late`` when it takes longer than ``seconds``, and FileNotFoundError when it is not there.
    """
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            cwd=directory,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise late from error
