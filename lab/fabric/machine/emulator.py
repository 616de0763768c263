# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: QEMU, a kernel started directly, the host's root shared read-only, no disk and no boot loader."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.finding import which
from lab.fabric.machine.initrd import ROOT_TAG, initrd
from lab.fabric.machine.kernels import Kernel
from lab.fabric.machine.ssh import SSHD, host_settings
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs

__all__ = ["ACCELERATED", "BOOT_SECONDS", "Hardware", "Machine", "Network", "emulator", "start_machine"]

BOOT_SECONDS: Final = 400.0
"""For a machine to say that it is up; under emulation 5 to 10 s are usual, on a busy host some minutes."""
_PAUSE_SECONDS: Final = 0.05
_READY: Final = "policylab: ready"
_TAIL_LINES: Final = 60
"""Of the console: what a panic says first, its reason, stands some 45 lines before its end."""

# $release, $modules, $name and $directory are put before it. The host's shell and tools run it, as the first process.
_SCRIPT: Final = f"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec </dev/null >/dev/console 2>&1
mount -t tmpfs -o mode=0755 run /run
mkdir -p /run/sshd /run/lock /dev/pts /dev/shm /lib/modules
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /var/tmp
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
hostname "$name"
rm -rf "/lib/modules/$release"
ln -s "$modules" "/lib/modules/$release"
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
# Frames leave in the order in which they are sent, whatever their type of service.
echo pfifo >/proc/sys/net/core/default_qdisc
modprobe virtio_console
modprobe virtio_net
ip link set lo up
while [ ! -e /dev/vport*p1 ]; do sleep 0.05; done
echo '{_READY}'
port=$(echo /dev/vport*p1)
# Each connection ends one server; the next waits until somebody is at the other end of the port.
while :; do {SSHD} -i -e -f "$directory/sshd-config" <>"$port" >&0; sleep 0.1; done
"""

_OPTIONS: Final = (
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"),
    *("-device", "virtio-rng-pci"),
    *("-device", f"virtio-9p-pci,fsdev={ROOT_TAG},mount_tag={ROOT_TAG}"),
    *("-fsdev", f"local,id={ROOT_TAG},path=/,security_model=none,readonly=on,multidevs=remap"),
    *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=ssh,name=ssh"),
)
ACCELERATED: Final = {"kvm": ("-accel", "kvm", "-cpu", "host"), "tcg": ("-accel", "tcg,thread=multi", "-cpu", "EPYC")}
"""The emulator's words for running guests on the processor itself, or in software."""
_KERNEL_WORDS: Final = {"kvm": (), "tcg": ("norandmaps",)}
"""For the kernel. The emulator translates code for the address at which it runs: where each process has its libraries
at other addresses, starting a command takes it five to eight times as long."""

# Nothing is merged or split on the way in: what was sent is what the node sees, as on a veth.
_CARD: Final = "virtio-net-pci,netdev=net,gso=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,mac="


@dataclass(frozen=True, slots=True)
class Network:
    """The wire of a machine: a tap's descriptor, and the address of the interface at the other end of it."""

    tap: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a machine consists of; ``memory`` in MiB."""

    kernel: Kernel
    accelerator: str
    network: Network | None = None
    cpus: int = 1
    memory: int = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that has been started: its console, and the ssh configuration by which it is reached."""

    name: str
    kernel: Kernel
    process: subprocess.Popen[bytes]
    console: Path
    ssh_config: Path

    def wait_until_ready(self) -> None:
        """Return when the machine says that it is up; raises HostError with its last words when it does not."""
        deadline = time.monotonic() + BOOT_SECONDS
        while _READY not in self.said():
            if self.process.poll() is not None:
                raise self.trouble("has ended before it was up")
            if time.monotonic() > deadline:
                raise self.trouble(f"was not up after {BOOT_SECONDS:g} s")
            time.sleep(_PAUSE_SECONDS)

    def trouble(self, what: str) -> HostError:
        """The error for what has become of a machine, with the end of its console."""
        tail = "\n".join(self.said().splitlines()[-_TAIL_LINES:])
        return HostError(
            f"the machine {self.name} with kernel {self.kernel.release} {what}; its console ends so:\n{tail}",
            next_step="see `policylab doctor`, or try another kernel",
        )

    def said(self) -> str:
        """All that it has written to its console."""
        return self.console.read_text(encoding="utf-8", errors="replace") if self.console.exists() else ""


def emulator() -> str:
    """QEMU's command for machines of this host's kind; raises HostError where there is none."""
    command = f"qemu-system-{os.uname().machine}"
    if which(command) is None:
        raise HostError(f"no command {command}: machines run in it", next_step=apt_install("qemu-system-x86"))
    return command


def start_machine(programs: Programs, host: NamespaceNode, name: str, hardware: Hardware) -> Machine:
    """Start a machine; it ends with ``programs``. ``host`` is the namespace that the emulator itself sees."""
    kernel, network = hardware.kernel, hardware.network
    directory = programs.directory
    machine_files = {kind: directory / f"{name}.{kind}" for kind in ("initrd", "init", "console", "socket", "config")}
    machine_files["initrd"].write_bytes(initrd(kernel))
    values = {"release": kernel.release, "modules": kernel.modules, "name": name, "directory": directory}
    head = "".join(f"{key}='{value}'\n" for key, value in values.items())
    machine_files["init"].write_text(head + _SCRIPT, encoding="utf-8")
    machine_files["config"].write_text(host_settings(name, directory, machine_files["socket"]), encoding="utf-8")
    words = [
        *(
            emulator(),
            *_OPTIONS,
            *ACCELERATED[hardware.accelerator],
            "-smp",
            str(hardware.cpus),
            "-m",
            str(hardware.memory),
        ),
        *("-kernel", str(kernel.image), "-initrd", str(machine_files["initrd"])),
        *("-append", _command_line(machine_files["init"], hardware.accelerator)),
        *("-serial", f"file:{machine_files['console']}"),
        *("-chardev", f"socket,id=ssh,path={machine_files['socket']},server=on,wait=off"),
        *([] if network is None else ["-netdev", f"tap,id=net,fd={network.tap}"]),
        *([] if network is None else ["-device", _CARD + network.mac.hex(":")]),
    ]
    with (directory / f"{name}.log").open("wb") as log:
        descriptors = () if network is None else (network.tap,)
        process = programs.start(host, words, output=log, errors=log, descriptors=descriptors)
    return Machine(name, kernel, process, machine_files["console"], machine_files["config"])


def _command_line(script: Path, accelerator: str) -> str:
    words = "console=ttyS0 quiet loglevel=4 panic=1 oops=panic net.ifnames=0 mitigations=off random.trust_cpu=on"
    # An emulated timer is late on a busy host: the kernel must not conclude that it has none.
    return " ".join((words, "no_timer_check", *_KERNEL_WORDS[accelerator], f"policylab.script={script}"))
