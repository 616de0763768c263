# SPDX-License-Identifier: Apache-2.0
"""Releases of kernels, and which is older."""

from __future__ import annotations

import re

__all__ = ["version_of"]


def version_of(release: str) -> tuple[int, ...]:
    """The first two numbers of a release: ``6.1.0-18-amd64`` is (6, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])
