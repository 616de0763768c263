# SPDX-License-Identifier: Apache-2.0
"""The image of container nodes: the host's own network tools, packed with the libraries that they need.

Nothing is pulled from anywhere. Busybox is the rest of the system. The image is named after what is in it, so that
one that a daemon has already is the right one; a tool that changes on the host makes another.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install

__all__ = ["REPOSITORY", "Image", "find_busybox", "node_image"]

REPOSITORY: Final = "policylab-node"

_DIRECTORIES: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_TOOLS: Final = (
    *("iptables*", "ip6tables*", "xtables-*-multi", "ipset", "nft", "conntrack"),
    *("ip", "tc", "bridge", "ss", "bpftool", "ethtool"),
)
"""Patterns of the commands that a node has, as far as the host has them."""
_XTABLES: Final = ("usr/lib*/xtables/*.so", "usr/lib/*/xtables/*.so")
"""Where distributions keep the extensions of iptables."""
_BUSYBOX: Final = "/bin/busybox"
_EMPTY_DIRECTORIES: Final = ("etc", "root", "run", "tmp", "var/lib", "dev", "proc", "sys")
_USERS: Final = {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}
_COPIED: Final = ("/etc/protocols", "/etc/services")
_LIBRARY: Final = re.compile(r"(?:=> )?(/\S+) \(0x")


@dataclass(frozen=True, slots=True)
class Image:
    """What goes into an image: host files by their place in it, and links."""

    files: tuple[tuple[str, Path], ...]
    links: tuple[tuple[str, str], ...]

    @property
    def tag(self) -> str:
        """Its name: the same for the same content, as sizes and times of the files tell it."""
        told = sha256(repr((self.links, _EMPTY_DIRECTORIES, sorted(_USERS.items()))).encode())
        for place, path in self.files:
            state = path.stat()
            told.update(f"{place} {state.st_size} {state.st_mtime_ns}\n".encode())
        return told.hexdigest()[:16]

    def tar(self) -> bytes:
        """The root file system as a tar archive."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in _EMPTY_DIRECTORIES:
                archive.addfile(_entry(name, tarfile.DIRTYPE, mode=0o755))
            for name, content in _USERS.items():
                archive.addfile(_entry(name, size=len(content)), io.BytesIO(content))
            for place, path in self.files:
                content = path.read_bytes()
                archive.addfile(_entry(place.lstrip("/"), size=len(content), mode=0o755), io.BytesIO(content))
            for place, target in self.links:
                archive.addfile(_entry(place.lstrip("/"), tarfile.SYMTYPE, target=target))
        return packed.getvalue()


def _entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, mode: int = 0o644, target: str = ""
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode, entry.linkname = kind, size, mode, target
    return entry


@cache
def node_image() -> Image:
    """Find out what an image of this host's tools holds; raises HostError where there is no busybox."""
    busybox = find_busybox()
    commands = dict(_commands())
    plugins = [path for pattern in _XTABLES for path in Path("/").glob(pattern)]
    programs = sorted({*commands.values(), *plugins})
    files = {str(path): path for path in programs} | {str(path): path for path in _libraries(programs)}
    files |= {place: Path(place) for place in _COPIED if Path(place).exists()} | {_BUSYBOX: busybox}
    links = {place: str(path) for place, path in commands.items() if place != str(path)}
    taken = {Path(place).name for place in (*commands, _BUSYBOX)}
    links |= {f"/bin/{applet}": _BUSYBOX for applet in _applets(busybox) if applet not in taken}
    return Image(tuple(sorted(files.items())), tuple(sorted(links.items())))


def _commands() -> Iterator[tuple[str, Path]]:
    """Where each tool is called and the file that is behind all links."""
    seen: set[str] = set()
    for directory in _DIRECTORIES:
        for pattern in _TOOLS:
            for path in sorted(Path(directory).glob(pattern)):
                if path.name not in seen and path.exists():
                    seen.add(path.name)
                    yield str(path), path.resolve()


def find_busybox() -> Path:
    """The host's busybox; raises HostError where there is none, or one that needs libraries."""
    path = next((path for each in _DIRECTORIES if (path := Path(each, "busybox")).exists()), None)
    if path is None:
        raise HostError(
            "no command busybox: the image of container nodes is packed of it", next_step=apt_install("busybox-static")
        )
    if _libraries([path]):
        raise HostError("busybox is not linked statically", place=str(path), next_step=apt_install("busybox-static"))
    return path


def _applets(busybox: Path) -> list[str]:
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()


def _libraries(programs: list[Path]) -> list[Path]:
    """The shared libraries of programs, the loader too, by the paths under which they are looked for."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return sorted({Path(path) for path in _LIBRARY.findall(told)})
