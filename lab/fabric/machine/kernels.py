# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels for machines: fetched and verified by apt, unpacked in the cache, never installed.

apt gets a sources list and a state of its own; the host's are read for the mirror and nothing else.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.cache import cache_directory, cache_place, locked
from lab.fabric.finding import last_line
from lab.fabric.tool import run_tool

__all__ = ["DEFAULT", "KERNELS", "NEWEST", "Kernel", "debian_mirror", "get_kernel"]

NEWEST: Final = "newest"
DEFAULT: Final = "6.1"
"""Of machines whose topology names none."""
KERNELS: Final = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "bookworm-backports", NEWEST: "sid"}
"""The kernels of the matrix and the Debian releases that have them, oldest first."""

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR: Final = "http://deb.debian.org/debian/"
_FETCH_SECONDS: Final = 1200
_PACKAGE: Final = re.compile(r"(linux-[a-z0-9.+-]+) \(= ")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: its name in the matrix, its full release, its image and its modules."""

    name: str
    release: str
    image: Path
    modules: Path


def get_kernel(name: str) -> Kernel:
    """A kernel from the cache; fetches it first if it is not there (up to 110 MB, some 400 MB unpacked).

    Raises HostError when it cannot be had.
    """
    if name not in KERNELS:
        raise HostError(f"no kernel {name} is known", value=name, allowed=", ".join(KERNELS))
    home = cache_directory() / "kernels"
    home.mkdir(exist_ok=True)
    with locked(home / name):
        if not (home / name).exists():
            _fetch(name, home / name)
    return _found(name, home / name)


def _found(name: str, directory: Path) -> Kernel:
    image = next(directory.glob("boot/vmlinuz-*"), None) or next(directory.glob("usr/lib/modules/*/vmlinuz"), None)
    modules = next(directory.glob("lib/modules/*"), None) or next(directory.glob("usr/lib/modules/*"), None)
    if image is None or modules is None:
        raise HostError(f"the kernel {name} is not whole", place=str(directory), next_step=f"rm -r {directory}")
    return Kernel(name, modules.name, image, modules)


def _fetch(name: str, target: Path) -> None:
    """Have apt fetch a kernel's packages and unpack them; the target is there when all of it is."""
    work = target.with_name(f"{name}.new")
    shutil.rmtree(work, ignore_errors=True)
    try:
        apt = _Apt(work / "apt", KERNELS[name])
        (work / "root").mkdir()
        for archive in apt.download("linux-image-" + _architecture()):
            _run(["dpkg-deb", "--extract", str(archive), str(work / "root")])
        modules = next((work / "root").glob("lib/modules/*"), None) or next((work / "root").glob("usr/lib/modules/*"))
        # Beside its modules: depmod looks below a directory that it is told.
        base = modules.parents[2] if modules.parents[1].name == "lib" else modules.parents[1]
        _run(["depmod", "--basedir", str(base), modules.name])
        (work / "root").rename(target)
    except OSError as error:
        raise HostError(
            f"the kernel {name} cannot be kept: {error.strerror}",
            place=str(target),
            next_step="make room there, or set XDG_CACHE_HOME",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Apt:
    """apt with a sources list, lists and archives of its own, for one Debian release."""

    def __init__(self, directory: Path, release: str) -> None:
        for name in ("lists/partial", "archives/partial", "parts"):
            (directory / name).mkdir(parents=True)
        if not _KEYRING.exists():
            raise HostError(
                "no keys of Debian's archive: what is fetched could not be verified",
                place=str(_KEYRING),
                next_step=apt_install("debian-archive-keyring"),
            )
        (directory / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {debian_mirror()} {release} main\n")
        settings = {
            "Dir::Etc::SourceList": directory / "sources.list",
            "Dir::Etc::SourceParts": directory / "parts",
            "Dir::Etc::Preferences": directory / "none",
            "Dir::Etc::PreferencesParts": directory / "parts",
            "Dir::State::Lists": directory / "lists",
            "Dir::Cache::Archives": directory / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
        }
        self._directory = directory
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        _run(["apt-get", *self._options, "update", "--error-on=any"])

    def download(self, package: str) -> list[Path]:
        """Fetch the packages of which a kernel consists: what its meta-package depends on in exactly its version."""
        wanted = [package]
        for each in wanted:
            told = _run(["apt-cache", *self._options, "show", "--no-all-versions", each])
            depends = next((line for line in told.splitlines() if line.startswith("Depends:")), "")
            wanted += [found for found in _PACKAGE.findall(depends) if found not in wanted]
        _run(["apt-get", *self._options, "download", *wanted[1:]], self._directory / "archives")
        return sorted((self._directory / "archives").glob("*.deb"))


def debian_mirror() -> str:
    """The Debian mirror that the host uses, or the usual one."""
    told = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)"])
    uris = [uri for uri, _, origin in (line.partition(" ") for line in told.splitlines()) if origin == "Debian"]
    return next((uri for uri in uris if uri.rstrip("/").endswith("/debian")), _MIRROR)


def _architecture() -> str:
    return _run(["dpkg", "--print-architecture"]).strip()


def _run(command: list[str], directory: Path | None = None) -> str:
    late = HostError(f"{command[0]} took longer than {_FETCH_SECONDS} s", next_step="look at the network")
    try:
        done = run_tool(command, _FETCH_SECONDS, late, directory=directory)
    except FileNotFoundError as error:
        raise HostError(
            f"no command {command[0]}: kernels of machines are fetched with Debian's tools", next_step="use Debian"
        ) from error
    if done.returncode:
        full = "No space left" in done.stderr
        step = f"make room in {cache_place()}, or set XDG_CACHE_HOME" if full else "see whether the mirror is reachable"
        raise HostError(f"{command[0]} failed", value=last_line(done.stderr), next_step=step)
    return done.stdout
