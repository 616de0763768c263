# SPDX-License-Identifier: Apache-2.0
"""Where the topologies are that come with policylab: in the package when installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped_names", "shipped_policies", "shipped_topology"]

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_data" / "topologies", _PACKAGE.parent / "topologies")


def shipped_topology(name: str) -> Path | None:
    """Find the file of the shipped topology ``name`` ("three-by-three"), or None when there is none."""
    return next((path for path in _files() if path.stem == name), None)


def shipped_names() -> list[str]:
    """List the names of all shipped topologies, sorted."""
    return [path.stem for path in _files()]


def shipped_policies() -> list[Path]:
    """Find the files of the example policies, sorted by name."""
    return _files("policies/*.yaml")


def _files(pattern: str = "*.yaml") -> list[Path]:
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return sorted(folder.glob(pattern)) if folder else []
