# SPDX-License-Identifier: Apache-2.0
"""Kernel headers for bcc: those of the running kernel, or another one's, brought together without touching the host.

Programs see only what the kernel promises to user space, so the headers need not be the running kernel's own. Debian
splits a kernel's headers in two directories, and bcc takes one: a farm of links in the user's cache joins them.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install

__all__ = ["Headers", "cache_folder", "find_headers"]

_SOURCES: Final = Path("/usr/src")
_MODULES: Final = Path("/lib/modules")
# How Debian calls the half that depends on the machine; the other half ends in -common.
_SPLIT: Final = re.compile(r"linux-headers-(?P<version>.+)-(?P<flavour>(cloud-|rt-)?(amd64|arm64))$")


@dataclass(frozen=True, slots=True)
class Headers:
    """Where headers are.

    Attributes:
        name: tells them from others; part of what a compiled program is kept under.
        own: whether they are the running kernel's.
        folder: what ``BCC_KERNEL_SOURCE`` must say; None where bcc finds them by itself.
        halves: the two directories that must be joined in ``folder`` first, if any.
    """

    name: str
    own: bool
    folder: Path | None = None
    halves: tuple[Path, ...] = ()

    def prepare(self) -> None:
        """Join the halves, once a machine and user; takes some milliseconds. Raises HostError."""
        if self.folder is None or not self.halves or self.folder.exists():
            return
        try:
            _join(self.halves, self.folder)
        except OSError as error:
            raise HostError(
                f"kernel headers cannot be prepared: {error.strerror}",
                place=str(self.folder),
                next_step="point XDG_CACHE_HOME to a directory where you may write",
            ) from error


def cache_folder() -> Path:
    """What policylab keeps for this user between runs; may be deleted at any time."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(named) if named.startswith("/") else Path.home() / ".cache"
    return home / "policylab"


def find_headers() -> Headers:
    """The headers to compile with; raises HostError where there are none."""
    if named := os.environ.get("BCC_KERNEL_SOURCE"):
        return Headers(named, own=False, folder=Path(named))
    build = _MODULES / platform.release() / "build"
    if build.exists():
        return Headers(str(build.resolve()), own=True)
    if split := _newest_split():
        common = split.with_name(f"linux-headers-{_matched(split)['version']}-common")
        return Headers(split.name, own=False, folder=cache_folder() / "headers" / split.name, halves=(common, split))
    raise HostError(
        "no kernel headers are installed, which compiling BPF programs takes",
        place=str(_SOURCES),
        next_step=apt_install("linux-headers-amd64"),
    )


def _newest_split() -> Path | None:
    """The machine's half of the newest headers of which both halves are there."""
    found = [path for path in _SOURCES.glob("linux-headers-*") if _SPLIT.match(path.name)]
    whole = [path for path in found if path.with_name(f"linux-headers-{_matched(path)['version']}-common").is_dir()]
    return max(whole, key=_age, default=None)


def _matched(path: Path) -> re.Match[str]:
    match = _SPLIT.match(path.name)
    if match is None:
        raise ValueError(path)
    return match


def _age(path: Path) -> tuple[list[int], str]:
    match = _matched(path)
    return [int(digits) for digits in re.findall(r"\d+", match["version"])], match["flavour"]


def _join(halves: tuple[Path, ...], folder: Path) -> None:
    """Make the farm aside and move it to its place, so that nobody ever meets half of one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    try:
        _merge(halves, aside)
        aside.rename(folder)
    except OSError:
        shutil.rmtree(aside)
        if not folder.exists():
            raise  # else somebody else was faster


def _merge(halves: tuple[Path, ...], target: Path) -> None:
    """Link what only one half has; what several have as directories is merged in turn, of files the last one counts."""
    for name in sorted({path.name for half in halves for path in half.iterdir()}):
        having = [half / name for half in halves if (half / name).exists()]
        if len(having) > 1 and all(path.is_dir() for path in having):
            (target / name).mkdir()
            _merge(tuple(having), target / name)
        elif having:
            (target / name).symlink_to(having[-1])
