# SPDX-License-Identifier: Apache-2.0
"""The first file system of a machine: busybox, the few modules that lead to the host's root, and a script.

The script lays a tmpfs over the host's root, which is shared read-only by 9p, and goes on there. So a machine has
the same Python, tools and checkout as the host, and nothing that it writes reaches them.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.image import find_busybox
from lab.fabric.machine.kernels import Kernel

__all__ = ["ROOT_TAG", "archive", "initrd", "modules_for"]

ROOT_TAG: Final = "root"
"""What the share of the host's root is called (mount_tag)."""

_NEEDED: Final = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
_DIRECTORIES: Final = ("bin", "dev", "proc", "sys", "lower", "upper", "root", "modules")
_INIT: Final = f"""#!/bin/busybox sh
set -e
for applet in mount mkdir insmod cat switch_root sed; do /bin/busybox ln -s busybox /bin/$applet; done
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod /modules/$module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro {ROOT_TAG} /lower
mount -t tmpfs -o mode=0755 upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /root
for place in dev proc sys; do mount -o move /$place /root/$place; done
script=$(sed 's/.*policylab.script=\\([^ ]*\\).*/\\1/' /root/proc/cmdline)
exec switch_root /root /bin/sh "$script"
"""

_REGULAR, _DIRECTORY, _DEVICE = 0o100000, 0o040000, 0o020000
_CONSOLE: Final = (5, 1)


def initrd(kernel: Kernel) -> bytes:
    """The archive for a kernel; raises HostError where busybox or a module is missing."""
    return archive(_INIT, modules_for(kernel, _NEEDED))


def archive(script: str, modules: Sequence[tuple[str, bytes]]) -> bytes:
    """An archive with busybox, a script as the first process, and modules in the order in which they are loaded."""
    parts = [_entry(name, _DIRECTORY | 0o755) for name in _DIRECTORIES]
    parts.append(_entry("dev/console", _DEVICE | 0o600, device=_CONSOLE))
    parts.append(_entry("bin/busybox", _REGULAR | 0o755, find_busybox().read_bytes()))
    parts.append(_entry("init", _REGULAR | 0o755, script.encode()))
    parts += [_entry(f"modules/{name}", _REGULAR | 0o644, content) for name, content in modules]
    parts.append(_entry("modules/order", _REGULAR | 0o644, " ".join(name for name, _ in modules).encode()))
    parts.append(_entry("TRAILER!!!", 0))
    return b"".join(parts)


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One entry of a cpio archive in its newc form (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    links = 2 if mode & _DIRECTORY else 1
    fields = (0, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def modules_for(kernel: Kernel, needed: Sequence[str]) -> list[tuple[str, bytes]]:
    """The files and contents of modules, each behind those that it depends on; raises HostError for one not there."""
    dependencies = _dependencies(kernel)
    built_in = {_name(line) for line in (kernel.modules / "modules.builtin").read_text(encoding="ascii").split()}
    paths: dict[str, str] = {}
    for each in needed:
        if each in built_in:
            continue
        if each not in dependencies:
            raise HostError(f"the kernel {kernel.name} has no module {each}", place=str(kernel.modules))
        for path in dependencies[each]:
            paths.setdefault(_name(path), path)
    return [(f"{name}.ko", _content(kernel.modules / path)) for name, path in paths.items()]


def _dependencies(kernel: Kernel) -> dict[str, list[str]]:
    """By a module's name, the files that have to be loaded for it, in their order (modules.dep(5))."""
    found: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, needs = line.partition(":")
        found[_name(path)] = [*reversed(needs.split()), path]
    return found


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
