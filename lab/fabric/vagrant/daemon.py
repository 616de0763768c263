# SPDX-License-Identifier: Apache-2.0
"""A libvirt daemon of our own, for hosts that run none: started by hand, without a service manager.

It has namespaces of its own for network, mounts and processes: its bridges, its DHCP server and its packet filter
rules are not the host's, its files lie in our cache, and the end of its first process is the end of all of it, its
machines included. Unlike a lab it outlives the command that starts it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.cache import cache_directory, cache_place, locked
from lab.fabric.finding import last_line, which

__all__ = ["HOST_SOCKETS", "TOOLS", "host_socket", "orphaned_daemon", "start_daemon", "stop_daemon"]

HOST_SOCKETS: Final = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))
TOOLS: Final = {
    "libvirtd": "libvirt-daemon-system",
    "dnsmasq": "dnsmasq-base",
    "busybox": "busybox-static",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
}
READY_SECONDS: Final = 60.0
"""For the daemon to make its socket; it takes a second or two, on a busy machine some more."""
_END_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.05

_UNSHARE: Final = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# $0 is the daemon's directory, which the host sees as well; what is written into /etc goes into memory that nobody else
# sees. sysfs tells of the bridges of the network namespace in which it is mounted.
_SCRIPT: Final = """
set -e
mount --make-rprivate /
mount -t sysfs sysfs /sys
mkdir -p "$0/state" "$0/run" "$0/lib" "$0/cache" "$0/log"
mount -t tmpfs -o mode=0755 policylab "$0/state"
mkdir "$0/state/etc" "$0/state/work"
mount -t overlay -o lowerdir=/etc,upperdir="$0/state/etc",workdir="$0/state/work" policylab /etc
for place in lib cache log; do mount --bind "$0/$place" "/var/$place"; done
mount --bind "$0/run" /run
mkdir -p /etc/libvirt
ip link set lo up
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
END
cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
END
cd /
# Not in this shell's place, the first of its processes, to which all come that have lost their parent: the daemon asks
# emulators what they can do, and would wait 40 s for each that nobody takes leave of.
libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirtd.pid
exit
"""


def host_socket() -> Path | None:
    """The socket of the libvirt daemon that the host runs, or None."""
    return next((path for path in HOST_SOCKETS if path.exists()), None)


def start_daemon() -> str:
    """Start the daemon unless one runs; returns what there is, in a sentence. Raises HostError."""
    if (there := host_socket()) is not None:
        return f"the host runs libvirt ({there}): that one is used"
    for command, package in TOOLS.items():
        if which(command) is None:
            raise HostError(f"no command {command}: libvirt needs it", next_step=apt_install(package))
    if os.geteuid():
        raise HostError("only root can start a libvirt daemon", next_step="run the command as root (sudo)")
    home = cache_directory() / "libvirt"
    with locked(home):
        if _process_of(home) is not None:
            return f"it runs already, in {home}"
        _remove(home)
        home.mkdir()
        log = home / "said"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*_UNSHARE, "sh", "-c", _SCRIPT, str(home)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
            )
        try:
            _wait_for(home, process, log)
        except BaseException:
            process.kill()
            process.wait()
            _remove(home)
            raise
    return f"libvirt runs, in {home}"


def stop_daemon() -> bool:
    """End the daemon and all that it has; False when there is none. Raises HostError when it does not end."""
    home = cache_place() / "libvirt"
    if not home.exists():
        return False
    with locked(home):
        process = _process_of(home)
        if process is not None:
            # Its first process in the namespace of its own: the kernel ends all others with it.
            os.kill(process, signal.SIGKILL)
            deadline = time.monotonic() + _END_SECONDS
            while _process_of(home) is not None:
                if time.monotonic() > deadline:
                    raise HostError(f"the libvirt daemon {process} does not end", next_step=f"kill -9 {process}")
                time.sleep(_PAUSE_SECONDS)
        _remove(home)
    return True


def orphaned_daemon() -> Path | None:
    """The directory of a daemon that runs no more, but was not stopped."""
    home = cache_place() / "libvirt"
    return home if home.exists() and _process_of(home) is None else None


def _wait_for(home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the daemon serves, and say which process it is; raises HostError when it does not."""
    socket = home / "run" / "libvirt" / "libvirt-sock"
    deadline = time.monotonic() + READY_SECONDS
    while not socket.exists():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise HostError(
                "the libvirt daemon does not come up" + ("" if ended else f" within {READY_SECONDS:g} s"),
                value=last_line(log.read_text(encoding="utf-8", errors="replace")),
                next_step="start the host's own (systemctl start libvirtd), or see `policylab doctor`",
            )
        time.sleep(_PAUSE_SECONDS)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    (home / "pid").write_text(children[0], encoding="ascii")


def _process_of(home: Path) -> int | None:
    """The daemon whose directory this is, if it runs: it still has its place there for its root's ``/run``."""
    try:
        pid = int((home / "pid").read_text(encoding="ascii"))
        same = Path(f"/proc/{pid}/root/run").samefile(home / "run")
    except (OSError, ValueError):
        return None
    return pid if same else None


def _remove(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.with_name("libvirt.lock").unlink(missing_ok=True)
