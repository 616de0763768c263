# SPDX-License-Identifier: Apache-2.0
"""What is in the box of Vagrant's machines: a Debian with all that policylab needs, kernels' modules, the checkout."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab.fabric.machine.kernels import Kernel

__all__ = ["FILES", "PACKAGES", "RELEASE", "copy_checkout", "copy_modules", "downloads", "needed_modules"]

RELEASE: Final = "bookworm"
_PYTHON: Final = "3.11"
"""The release's own."""
_GLIBC: Final = range(36, 16, -1)
"""The release's is 2.36; wheels for older ones will do, the newest of them first."""
PACKAGES: Final = (
    *("systemd-sysv", "dbus", "udev", "openssh-server", "sudo", "rsync", "libnss-myhostname", "python3-venv"),
    *("iptables", "nftables", "ipset", "iproute2", "ethtool", "tcpdump", "kmod", "procps", "jq", "gcc", "libc6-dev"),
    *("python3-bpfcc", "bpftool", "linux-headers-amd64", "busybox-static"),
)
"""All that the launcher would install for namespace labs, and what a machine itself needs."""
_MODULES: Final = ("arch/", "crypto/", "lib/", "net/", "fs/", "drivers/virtio/", "drivers/block/", "drivers/char/")
_NETWORK_MODULES: Final = "drivers/net/"
"""Of these only what lies on top and the kinds below: what machines have no hardware for stays away."""
_NETWORK_KINDS: Final = frozenset({"vxlan", "ipvlan", "macvlan", "bonding", "geneve", "netdevsim", "vrf"})

_CHECKSUMS: Final = "alias crypto-crc32c "
"""ext4 asks for them by this name, and in the first file system nobody looks it up."""

# In the tree, which is the root here; /policylab holds the checkout. tox's environment is made now, so that
# nothing is fetched in the machine; it is also the one in which `policylab` itself runs there.
_INSTALL: Final = """
set -e
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/policylab/wheels PIP_CONFIG_FILE=/dev/null PIP_ROOT_USER_ACTION=ignore
useradd --create-home --shell /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
chown -R vagrant: /home/vagrant
chmod -R go= /home/vagrant/.ssh
python3 -m venv /opt/policylab/tools
/opt/policylab/tools/bin/pip install --quiet tox
for command in tox policylab pytest policylab-python; do
    ln -s /policylab/lab/fabric/vagrant/as-root /usr/local/bin/$command
done
cd /policylab
tox run -qq -e integration --notest
rm -rf /opt/policylab/wheels
systemctl enable systemd-networkd ssh
systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service
: >/etc/resolv.conf
: >/etc/machine-id
"""
FILES: Final = {
    "etc/systemd/network/eth0.network": (
        "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nClientIdentifier=mac\n"
    ),
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/ssh/sshd_config.d/policylab.conf": "UseDNS no\n",
    "opt/policylab/install": _INSTALL,
}


def downloads(checkout: Path, wheels: Path) -> Iterator[str]:
    """The words for pip to fetch what policylab, its tests and tox consist of, for the box's Python."""
    with (checkout / "pyproject.toml").open("rb") as file:
        said = tomllib.load(file)
    project = said["project"]
    machine = os.uname().machine
    yield from ("download", "--quiet", "--dest", str(wheels), "--only-binary=:all:", "--python-version", _PYTHON)
    for name in (*(f"manylinux_2_{version}_{machine}" for version in _GLIBC), f"manylinux2014_{machine}"):
        yield from ("--platform", name)
    yield from project["dependencies"]
    yield from project["optional-dependencies"]["sidecar"]
    yield from said["dependency-groups"]["test"]
    yield from said["build-system"]["requires"]
    yield from ("tox>=4.22", "editables~=0.3")


def copy_checkout(checkout: Path, target: Path) -> None:
    """Copy what an editable installation is made of; Vagrant brings the machine the rest, and what changes."""
    for name in ("lab", "dataplanes", "bpf", "topologies"):
        shutil.copytree(checkout / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tox.ini", "README.md", "LICENSE"):
        shutil.copyfile(checkout / name, target / name)


def copy_modules(kernel: Kernel, target: Path) -> None:
    """Copy the modules that a machine may want."""
    for file in kernel.modules.rglob("*"):
        path = file.relative_to(kernel.modules)
        if file.is_file() and not file.is_symlink() and (len(path.parts) == 1 or _wanted(path)):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / path)


def needed_modules(kernel: Kernel) -> tuple[str, ...]:
    """The modules that lead to the disk; of those for checksums the last, which any processor can run."""
    aliases = (kernel.modules / "modules.alias").read_text(encoding="ascii").splitlines()
    checksums = [line.removeprefix(_CHECKSUMS) for line in aliases if line.startswith(_CHECKSUMS)]
    return ("virtio_pci", "virtio_blk", *checksums[-1:], "ext4")


def _wanted(path: Path) -> bool:
    below = path.as_posix().removeprefix("kernel/")
    if below.startswith(_NETWORK_MODULES):
        rest = below.removeprefix(_NETWORK_MODULES).split("/")
        return len(rest) == 1 or rest[0] in _NETWORK_KINDS
    return below.startswith(_MODULES)
