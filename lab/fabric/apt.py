# SPDX-License-Identifier: Apache-2.0
"""How Debian packages are installed, as errors and ``doctor`` tell it."""

from __future__ import annotations

__all__ = ["APT", "apt_install"]

APT = "apt-get update && apt-get install --no-install-recommends "
"""What stands before the packages, also where no list of them was ever fetched."""


def apt_install(*packages: str) -> str:
    """The command that installs Debian packages."""
    return APT + " ".join(packages)
