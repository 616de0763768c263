# SPDX-License-Identifier: Apache-2.0
"""The Docker daemon of a lab's containers: the user's local one, or a private one that goes with the lab.

The private one has namespaces of its own for network, mounts, processes and cgroups: it sees nothing of the host's
network and settings, its files are in memory, and the end of its first process is the end of all of it.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from docker import DockerClient
from docker.errors import DockerException

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.finding import last_line, which
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs

__all__ = ["DEFAULT_SOCKET", "Daemon", "open_daemon", "users_socket"]

DEFAULT_SOCKET: Final = Path("/var/run/docker.sock")
READY_SECONDS: Final = 60.0
"""For a private daemon; it takes half a second, on a busy machine some seconds."""
_REQUEST_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 0.02

_UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup")
# $0 is a directory that the lab can see. What a daemon writes elsewhere, whatever its options say (/etc/docker,
# /run/docker), it writes into memory that nobody else sees. Its own process leaves the topmost cgroup, for a cgroup
# that has controllers must have no processes of its own.
_SCRIPT: Final = """
set -e
mount -t tmpfs -o mode=0755 policylab "$0/state"
cd "$0/state"
mkdir etc etc-work data exec run tmp
export TMPDIR="$0/state/tmp"
mount -t overlay -o lowerdir=/etc,upperdir=etc,workdir=etc-work policylab /etc
mount --bind run /run
mount -t cgroup2 policylab /sys/fs/cgroup
mkdir /sys/fs/cgroup/daemon
echo 0 >/sys/fs/cgroup/daemon/cgroup.procs
exec dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \\
    --data-root="$0/state/data" --exec-root="$0/state/exec" --pidfile="$0/state/pid" --host="unix://$0/docker.sock" \\
    --userland-proxy=false --storage-driver=overlay2 --log-level=warn
"""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that answers; ``processes`` is where the ids that it tells are directories, as ``/proc`` is."""

    client: DockerClient
    socket: Path
    processes: Path
    private: bool


def users_socket() -> Path | None:
    """The socket of the user's own local daemon, or None when there is none.

    Raises HostError for a ``DOCKER_HOST`` on another machine: its containers cannot be entered from here.
    """
    address = os.environ.get("DOCKER_HOST", "")
    if not address:
        return DEFAULT_SOCKET if DEFAULT_SOCKET.exists() else None
    if not address.startswith("unix://"):
        raise HostError(
            "the Docker daemon is on another machine: nodes are entered by their namespaces, which are there",
            value=f"DOCKER_HOST={address}",
            allowed="unix://PATH, or unset for a private daemon",
            next_step="unset DOCKER_HOST",
        )
    return Path(address.removeprefix("unix://"))


def open_daemon(programs: Programs, directory: Path, stack: ExitStack) -> Daemon:
    """Connect to the user's daemon, or start one in a directory of the lab's; raises HostError.

    The connection is closed by ``stack``, a private daemon ends with ``programs``.
    """
    socket = users_socket()
    if socket is not None:
        client = _connect(socket)
        if isinstance(client, str):
            raise HostError(
                "the Docker daemon does not serve us",
                place=str(socket),
                value=client,
                next_step="start it, or move its socket away: without one the lab starts its own",
            )
        stack.callback(client.close)
        return Daemon(client, socket, Path("/proc"), private=False)
    return _start(programs, directory, stack)


def _start(programs: Programs, directory: Path, stack: ExitStack) -> Daemon:
    for command, package in (("dockerd", "docker.io"), ("unshare", "util-linux")):
        if which(command) is None:
            raise HostError(
                f"no Docker daemon runs here, and there is no command {command} to start one",
                next_step=apt_install(package),
            )
    (directory / "state").mkdir()
    namespace = aside(new_namespace)
    stack.callback(os.close, namespace)
    log = directory / "dockerd.log"
    with log.open("wb") as said:
        process = programs.start(
            NamespaceNode("the Docker daemon", namespace),
            [*_UNSHARE, "sh", "-c", _SCRIPT, str(directory)],
            output=said,
            errors=said,
        )
    socket = directory / "docker.sock"
    client = _wait_for(socket, process, log)
    stack.callback(client.close)
    return Daemon(client, socket, _processes_of(process.pid), private=True)


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> DockerClient:
    """A connection to the private daemon, as soon as it serves."""
    deadline = time.monotonic() + READY_SECONDS
    while not isinstance(client := _connect(socket), DockerClient):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise HostError(
                "the private Docker daemon does not come up" + ("" if ended else f" within {READY_SECONDS:g} s"),
                value=last_line(log.read_text(encoding="utf-8", errors="replace")),
                next_step="start a Docker daemon of your own, or see `policylab doctor`",
            )
        time.sleep(_PAUSE_SECONDS)
    return client


def _connect(socket: Path) -> DockerClient | str:
    """A client of a daemon that serves, or why it does not."""
    if not socket.exists():
        return f"{socket} is not there"
    try:
        return DockerClient(base_url=f"unix://{socket}", version="auto", timeout=_REQUEST_SECONDS)
    except (DockerException, OSError) as error:
        return str(error)


def _processes_of(unshare: int) -> Path:
    """``/proc`` as the private daemon sees it: its first process is the only child of ``unshare``."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text(encoding="ascii").split()
    return Path(f"/proc/{children[0]}/root/proc")
