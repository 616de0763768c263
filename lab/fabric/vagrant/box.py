# SPDX-License-Identifier: Apache-2.0
"""The box of Vagrant's machines, made by Debian's tools alone; what is in it ``lab.fabric.vagrant.contents`` says.

No mount, loop device or boot loader: a tree (mmdebstrap) becomes a file system (``mke2fs -d``), and that a disk
(``qemu-img``). The kernels of the matrix lie beside it in the box, and the Vagrantfile says which machine runs which.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.cache import cache_directory, locked
from lab.fabric.finding import last_line, which
from lab.fabric.machine.initrd import archive, modules_for
from lab.fabric.machine.kernels import KERNELS, Kernel, debian_mirror, get_kernel
from lab.fabric.tool import run_tool
from lab.fabric.vagrant.contents import (
    FILES,
    PACKAGES,
    RELEASE,
    copy_checkout,
    copy_modules,
    downloads,
    needed_modules,
)

__all__ = ["BOX", "TOOLS", "build_box", "remove_box"]

BOX: Final = "policylab"
"""What Vagrant knows it by."""
TOOLS: Final = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "depmod": "kmod",
    "ssh-keygen": "openssh-client",
    "vagrant": "vagrant",
}
"""The commands that make it, and the packages that these are in."""

_DISK_BYTES: Final = 8 << 30
"""Of which nothing is taken that is not written."""
_SECONDS: Final = 1800.0
"""For one tool; each takes up to a minute, or some on a busy host."""
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
_WHOLE: Final = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")
"""A tool ends with us, and with it all that it has started and mounted."""

_FIRST: Final = """#!/bin/busybox sh
set -e
for applet in mount mkdir insmod cat switch_root sleep; do /bin/busybox ln -s busybox /bin/$applet; done
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod /modules/$module; done
until [ -e /dev/vda ]; do sleep 0.05; done
mount -t ext4 /dev/vda /root
for place in dev proc sys; do mount -o move /$place /root/$place; done
exec switch_root /root /sbin/init
"""


def build_box(checkout: Path, tell: Callable[[str], None]) -> None:
    """Make the box from a checkout of policylab and give it to Vagrant; ``tell`` gets a line for each step.

    Takes about two minutes and 4 GB of the cache meanwhile. Raises HostError when it cannot be made; nothing but
    kernels is left in the cache.
    """
    for command, package in TOOLS.items():
        if which(command) is None:
            raise HostError(f"no command {command}: Vagrant's box is made with it", next_step=apt_install(package))
    if os.geteuid():
        raise HostError("only root can make Vagrant's box", next_step="run the command as root (sudo)")
    kernels = [get_kernel(name) for name in KERNELS]
    work = cache_directory() / "box"
    with locked(work):
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir()
            _Box(checkout, work, tell).build(kernels)
        except OSError as error:
            raise HostError(
                f"Vagrant's box cannot be made: {_reason(error)}",
                place=str(work),
                next_step="make room there (4 GB), or set XDG_CACHE_HOME",
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def remove_box() -> bool:
    """Have Vagrant forget the box; False when it has none, or there is no Vagrant. Raises HostError."""
    if which("vagrant") is None or BOX not in _run(["vagrant", "box", "list"]):
        return False
    _run(["vagrant", "box", "remove", "--force", "--all", BOX])
    return True


class _Box:
    """The steps, in a directory of their own."""

    def __init__(self, checkout: Path, work: Path, tell: Callable[[str], None]) -> None:
        self._checkout = checkout
        self._work = work
        self._tell = tell
        self._extra, self._tree, self._box = (work / name for name in ("extra", "tree", "box"))

    def build(self, kernels: Sequence[Kernel]) -> None:
        self._box.mkdir()
        self._prepare(kernels)
        self._tell(f"making a Debian {RELEASE} with all packages")
        hook = f'cp -a --no-preserve=ownership {self._extra}/. "$1"/ && chroot "$1" sh /opt/policylab/install'
        _run(
            [
                *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
                *(f"--customize-hook={hook}", RELEASE, str(self._tree), debian_mirror()),
            ]
        )
        for kernel in kernels:
            _run(["depmod", "--basedir", str(self._tree), kernel.release])
        self._tell("making the disk of it")
        self._make_disk()
        self._tell("giving it to Vagrant")
        package = self._work / "policylab.box"
        with tarfile.open(package, "w") as packed:
            packed.add(self._box, arcname=".")
        _run(["vagrant", "box", "add", "--force", "--name", BOX, str(package)])

    def _prepare(self, kernels: Sequence[Kernel]) -> None:
        """Lay out beside the tree what is copied into it: files, wheels, the checkout, modules; and the kernels."""
        for name, content in FILES.items():
            file = self._extra / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        self._tell("fetching Python packages")
        _run([sys.executable, "-m", "pip", *downloads(self._checkout, self._extra / "opt/policylab/wheels")])
        copy_checkout(self._checkout, self._extra / "policylab")
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", BOX, "-f", str(self._box / "key")])
        keys = self._extra / "home/vagrant/.ssh/authorized_keys"
        keys.parent.mkdir(parents=True)
        (self._box / "key.pub").rename(keys)
        for kernel in kernels:
            self._tell(f"taking kernel {kernel.name} ({kernel.release})")
            shutil.copyfile(kernel.image, self._box / f"vmlinuz-{kernel.name}")
            first = archive(_FIRST, modules_for(kernel, needed_modules(kernel)))
            (self._box / f"initrd-{kernel.name}").write_bytes(first)
            copy_modules(kernel, self._extra / "usr/lib/modules" / kernel.release)

    def _make_disk(self) -> None:
        raw = self._work / "disk"
        with raw.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        _run(["mke2fs", "-q", "-t", "ext4", "-d", str(self._tree), str(raw)])
        shutil.rmtree(self._tree)
        _run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(self._box / "box.img")])
        raw.unlink()
        about = {"provider": "libvirt", "format": "qcow2", "virtual_size": _DISK_BYTES >> 30}
        (self._box / "metadata.json").write_text(json.dumps(about), encoding="ascii")


def _run(command: Sequence[str]) -> str:
    """Run a tool to its end; raises HostError with what it says last when it fails or takes too long."""
    late = HostError(f"{command[0]} took longer than {_SECONDS:g} s", next_step="run it on a machine that is less busy")
    done = run_tool([*_WHOLE, *command], _SECONDS, late, environment=_ENVIRONMENT)
    if done.returncode:
        raise HostError(f"{command[0]} failed", value=last_line(done.stderr), next_step=_mend(done.stderr))
    return done.stdout


def _reason(error: OSError) -> str:
    """Why the system refused; of a tree of files that could not be copied, why the first could not."""
    return str(error.args[0][0][2]) if isinstance(error, shutil.Error) else error.strerror or str(error)


def _mend(said: str) -> str:
    if "No space left" in said:
        return f"make room in {cache_directory()} (4 GB), or set XDG_CACHE_HOME"
    return "see whether the Debian mirror and the Python index are reachable"
