# SPDX-License-Identifier: Apache-2.0
"""Which kinds of node this host can have, and what they need: it is looked for, and where that is cheap, tried."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lab.fabric.apt import APT, apt_install
from lab.fabric.cache import cache_place
from lab.fabric.finding import Finding, State, which

__all__ = ["CORE", "KINDS", "examine_nodes"]

CORE: Final = ("network namespaces", "veth", "AF_PACKET")
"""Without one of these not even a lab of network namespaces can work."""
KINDS: Final = "topologies that name them"
"""What kinds of node are needed for."""
_EVERY: Final = ("root", "kernel", *CORE)
_KINDS: Final = {
    "namespace": _EVERY,
    "container": (*_EVERY, "Docker", "busybox"),
    "machine": (*_EVERY, f"qemu-system-{platform.machine()}", "ssh", "sshd", "depmod", "apt-get", "tap", "busybox"),
}
"""By the kind of node, what must have been found."""
_VAGRANT: Final = {
    "vagrant": "vagrant",
    "libvirtd": "libvirt-daemon-system",
    "dnsmasq": "dnsmasq-base",
    "rsync": "rsync",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
}
"""Commands that machines of the Vagrantfile and their box need, and their packages."""
_LIBVIRT_PLUGIN: Final = "vagrant-libvirt"
_PLUGIN_PLACES: Final = ("/usr/share/rubygems-integration/all/gems", "~/.vagrant.d/gems/*/gems")


def examine_nodes(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """What kinds of node need, and at last a line for each kind; ``found`` is what is known of the host already."""
    needs = (_docker(), _busybox(), *_machines())
    known = {each.name: each for each in (*found, *needs)}
    kinds = (_kind(f"{kind} nodes", [known[name] for name in names if name in known]) for kind, names in _KINDS.items())
    return (*needs, *kinds, _vagrant(known))


def _kind(name: str, needs: Sequence[Finding]) -> Finding:
    """Whether a kind of node can be had, and the one command that mends it where one does."""
    lacking = [each for each in needs if each.state != "yes"]
    if not lacking:
        return Finding(name, "yes", "can be had", KINDS)
    state: State = "no" if any(each.state == "no" for each in lacking) else "inconclusive"
    mends = list(dict.fromkeys(each.mend for each in lacking if each.mend))
    packages = [word for mend in mends if mend.startswith(APT) for word in mend.removeprefix(APT).split()]
    mend = apt_install(*dict.fromkeys(packages)) if packages else next(iter(mends), None)
    detail = f"lacks {', '.join(each.name for each in lacking)}" + (f": {mend}" if mend else "")
    return Finding(name, state, detail, KINDS, mend)


def _vagrant(known: dict[str, Finding]) -> Finding:
    """Whether the machines of the Vagrantfile can be had."""
    missing = [
        Finding(command, "no", "", "", apt_install(of)) for command, of in _VAGRANT.items() if not which(command)
    ]
    places = [path for place in _PLUGIN_PLACES for path in Path("/").glob(str(Path(place).expanduser())[1:])]
    if not any(path.glob(f"{_LIBVIRT_PLUGIN}-*") for path in places):
        missing.append(Finding(_LIBVIRT_PLUGIN, "no", "", "", apt_install(_LIBVIRT_PLUGIN)))
    needs = [known[name] for name in _KINDS["machine"] if name in known and known[name].state != "yes"]
    return _kind("Vagrant machines", [*needs, *missing])


def _machines() -> Iterator[Finding]:
    """What nodes that are virtual machines need: an emulator, ssh, kernels; with KVM they are faster."""
    needed = "machine nodes"
    for command, package in (
        (f"qemu-system-{platform.machine()}", "qemu-system-x86"),
        ("ssh", "openssh-client"),
        ("sshd", "openssh-server"),
        ("depmod", "kmod"),
        ("apt-get", "apt"),
    ):
        path = which(command)
        if path is None:
            yield Finding(command, "no", f"no command {command}", needed, apt_install(package))
        else:
            yield Finding(command, "yes", path, needed)
    yield _tun()
    yield _kvm()


def _tun() -> Finding:
    """Whether taps can be had, by which machines are wired."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        state: State = "inconclusive" if isinstance(error, PermissionError) else "no"
        return Finding("tap", state, f"/dev/net/tun: {error.strerror}", "machine nodes", "modprobe tun")
    return Finding("tap", "yes", "/dev/net/tun opens", "machine nodes")


def _kvm() -> Finding:
    """Whether /dev/kvm may be opened; whether guests run well under it a lab with a machine tries."""
    needed = "fast machine nodes"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding("KVM", "no", f"/dev/kvm: {error.strerror}; machines are emulated", needed)
    known = next(cache_place().glob("acceleration-*"), None)
    if known is None:
        return Finding("KVM", "inconclusive", "/dev/kvm opens; the first lab with a machine tries a guest", needed)
    runs = known.read_text(encoding="ascii") == "kvm"
    said = "a guest ran" if runs else "/dev/kvm opens, but a guest did not run; machines are emulated"
    return Finding("KVM", "yes" if runs else "no", said, needed)


def _docker() -> Finding:
    needed = "container nodes"
    address = os.environ.get("DOCKER_HOST", "")
    if address and not address.startswith("unix://"):
        return Finding("Docker", "no", f"DOCKER_HOST={address} is not on this host", needed, "unset DOCKER_HOST")
    path = address.removeprefix("unix://") or "/var/run/docker.sock"
    if not address and not Path(path).exists():
        if which("dockerd") is None:
            return Finding("Docker", "no", "no daemon runs, no command dockerd", needed, apt_install("docker.io"))
        return Finding("Docker", "yes", "no daemon runs: a lab starts one of its own", needed)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.settimeout(5)
        try:
            daemon.connect(path)
            daemon.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = daemon.recv(64)
        except OSError as error:
            state: State = "inconclusive" if isinstance(error, PermissionError) else "no"
            return Finding("Docker", state, f"{path}: {error.strerror or error}", needed)
    line = answer.decode("ascii", "replace").partition("\r\n")[0]
    return Finding("Docker", "yes" if " 200 " in line else "no", f"{path}: {line}", needed)


def _busybox() -> Finding:
    needed, path = "container and machine nodes", which("busybox")
    if path is None:
        return Finding("busybox", "no", "no command busybox", needed, apt_install("busybox-static"))
    return Finding("busybox", "yes", path, needed)
