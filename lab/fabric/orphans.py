# SPDX-License-Identifier: Apache-2.0
"""What labs have left whose process is gone: where even the watcher was killed, or a Docker daemon had crashed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

from lab.errors import HostError
from lab.fabric.cache import abandoned, cache_place
from lab.fabric.cgroup import cgroup_home
from lab.fabric.identity import PREFIX, is_orphan
from lab.fabric.vagrant.daemon import orphaned_daemon, stop_daemon
from lab.fabric.watcher import Watcher

__all__ = ["take_away_orphans"]


def take_away_orphans() -> list[str]:
    """Remove what is known to be of labs whose process is gone; tells what. Raises HostError when something stays."""
    watcher = Watcher()
    found: list[str] = []
    try:
        for socket, label in _containers():
            watcher.remove_containers(socket, label)
            found.append(f"containers with the label {label}")
        for cgroup in _orphans(cgroup_home()):
            watcher.empty(cgroup)
            found.append(f"cgroup {cgroup}")
        for directory in _orphans(Path(gettempdir())):
            watcher.remove(directory)
            found.append(f"directory {directory}")
        if abandoned(box := cache_place() / "box"):
            shutil.rmtree(box)  # gigabytes, for which the watcher would not have the time
            found.append(f"half a box {box}")
        if (daemon := orphaned_daemon()) is not None and stop_daemon():
            found.append(f"libvirt daemon {daemon}")
    finally:
        watcher.close()
    return found


def _orphans(home: Path | None) -> Iterator[Path]:
    for path in sorted(home.glob(f"{PREFIX}*")) if home is not None else ():
        if is_orphan(path.name.removeprefix(PREFIX)):
            yield path


def _containers() -> Iterator[tuple[Path, str]]:
    """Labels of orphaned containers, with the socket of the user's daemon, if there is one that answers."""
    from docker import DockerClient
    from docker.errors import DockerException

    from lab.fabric.containers import LABEL
    from lab.fabric.docker_daemon import users_socket

    try:
        socket = users_socket()
        if socket is None:
            return
        client = DockerClient(base_url=f"unix://{socket}", version="auto")
    except (HostError, DockerException):
        return  # no daemon on this host that could have run containers of ours
    try:
        labels = {container.labels[LABEL] for container in client.containers.list(all=True, filters={"label": LABEL})}
    finally:
        client.close()
    yield from ((socket, f"{LABEL}={identity}") for identity in sorted(labels) if is_orphan(identity))
