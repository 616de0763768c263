# SPDX-License-Identifier: Apache-2.0
"""Container nodes: a local Docker daemon starts them without any network; the lab enters their namespaces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container

from lab.errors import HostError
from lab.fabric.container_node import ENTERED, ContainerNode
from lab.fabric.docker_daemon import Daemon, open_daemon
from lab.fabric.identity import PREFIX, new_identity
from lab.fabric.image import REPOSITORY, node_image
from lab.fabric.programs import Programs

__all__ = ["LABEL", "start_containers"]

LABEL: Final = "policylab.lab"
"""Of every container of ours; its value is the lab's identity."""

# Nothing happens in a container by itself: commands are run in its namespaces when the lab runs them.
_PROCESS: Final = ("/bin/busybox", "sleep", "2147483647")
_CAPABILITIES: Final = ("NET_ADMIN", "NET_RAW")
"""What its tools need when somebody runs them with ``docker exec``; the lab itself enters with its own."""


def start_containers(names: Sequence[str], programs: Programs, stack: ExitStack) -> dict[str, ContainerNode]:
    """Start a container for each of these nodes; raises HostError. All of it ends with ``programs``.

    The descriptors that hold their namespaces are closed by ``stack``.
    """
    identity = new_identity()
    daemon = open_daemon(programs, programs.directory, stack)
    if not daemon.private:
        programs.watcher.remove_containers(daemon.socket, f"{LABEL}={identity}")
    try:
        image = _image(daemon)
    except (DockerException, OSError) as error:
        raise HostError(
            "the Docker daemon does not take the image of container nodes",
            place=str(daemon.socket),
            value=str(error),
            next_step="see that it has room (docker system df)",
        ) from error
    try:
        with ThreadPoolExecutor(len(names)) as starters:
            started = list(starters.map(partial(_start, daemon, image, identity), names))
    except (DockerException, OSError) as error:
        raise HostError(
            "the Docker daemon does not start container nodes",
            place=str(daemon.socket),
            value=str(error),
            next_step="see `policylab doctor`",
        ) from error
    return {
        name: ContainerNode(name, _held(name, container, daemon, stack), daemon.socket, container.id or "")
        for name, container in zip(names, started, strict=True)
    }


def _image(daemon: Daemon) -> str:
    """The image of nodes in a daemon, imported unless it is there."""
    image = node_image()
    name = f"{REPOSITORY}:{image.tag}"
    try:
        daemon.client.images.get(name)
    except ImageNotFound:
        said = daemon.client.api.import_image_from_data(image.tar(), repository=REPOSITORY, tag=image.tag)
        if "error" in said:
            raise DockerException(said.strip()) from None
    return name


def _start(daemon: Daemon, image: str, identity: str, name: str) -> Container:
    container = daemon.client.containers.create(
        image,
        list(_PROCESS),
        hostname=name,
        network_mode="none",
        cap_drop=["ALL"],
        cap_add=list(_CAPABILITIES),
        labels={LABEL: identity, "policylab.node": name},
        name=f"{PREFIX}{identity}-{name}",
    )
    container.start()
    container.reload()
    return container


def _held(name: str, container: Container, daemon: Daemon, stack: ExitStack) -> dict[str, int]:
    """Descriptors of a container's namespaces, by kind."""
    process = daemon.processes / str(container.attrs["State"]["Pid"])
    try:
        # Its command is executed a moment after it has started; its cgroup is named after it from the beginning.
        ours = (container.id or "") in (process / "cgroup").read_text(encoding="ascii")
        held = {kind: os.open(process / "ns" / kind, os.O_RDONLY | os.O_CLOEXEC) for kind in ENTERED}
    except OSError as error:
        raise _elsewhere(name, daemon) from error
    for descriptor in held.values():
        stack.callback(os.close, descriptor)
    if not ours:
        raise _elsewhere(name, daemon)
    return held


def _elsewhere(name: str, daemon: Daemon) -> HostError:
    return HostError(
        f"the process of container node {name} cannot be found here: the Docker daemon runs it in a machine of its own",
        place=str(daemon.socket),
        next_step="stop that daemon, or set DOCKER_HOST to one on this host; without any the lab starts its own",
    )
