# SPDX-License-Identifier: Apache-2.0
"""Machines that are somebody else's, of Vagrant's above all: reached by ssh, and left as they were.

Such a machine has the command ``policylab-python``: the Python in which the same policylab as here is installed, as
root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.finding import last_line, which
from lab.fabric.tool import run_tool
from lab.topology import Topology
from lab.topology.model import Node

__all__ = ["PYTHON", "VAGRANT", "Guest", "find_guests", "sources_digest"]

PYTHON: Final = "policylab-python"
VAGRANT: Final = "vagrant"
"""In place of a file: what ``vagrant ssh-config`` says in the directory in which the user stands."""
ANSWER_SECONDS: Final = 180.0
"""For Vagrant, and for a machine to import policylab; emulated, on a busy host, it takes a minute."""
_NOT_FOUND: Final = 127
_UNREACHABLE: Final = 255
_TELL: Final = "from lab.fabric.machine.guests import sources_digest; print(sources_digest())"

# What was said first counts (ssh_config(5)): the user's file stands before it.
_CLIENT_SETTINGS: Final = """
Host {name}
    ControlMaster auto
    ControlPath {directory}/%n.ssh
    BatchMode yes
    ConnectTimeout 60
    ServerAliveInterval 15
    ServerAliveCountMax 8
    LogLevel ERROR
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine that runs, and the ssh configuration by which it is reached."""

    name: str
    ssh_config: Path

    def ssh(self, *command: str, options: Sequence[str] = ()) -> list[str]:
        """The words that run a command of a shell there."""
        return ["ssh", *options, "-F", str(self.ssh_config), self.name, *command]

    def check(self) -> None:
        """Raise HostError when it cannot be reached, or has not the policylab that is here."""
        late = self.trouble(f"did not answer by ssh within {ANSWER_SECONDS:g} s")
        told = run_tool(self.ssh(PYTHON, "-c", f"'{_TELL}'"), ANSWER_SECONDS, late)
        if told.returncode == _UNREACHABLE:
            raise self.trouble(f"cannot be reached by ssh ({last_line(told.stderr)})")
        if told.returncode == _NOT_FOUND:
            raise self.trouble(f"has no command {PYTHON}: policylab is not installed there")
        if told.returncode or told.stdout.strip() != sources_digest():
            raise self.trouble(f"has another policylab than this host ({last_line(told.stderr) or 'other sources'})")

    def trouble(self, what: str) -> HostError:
        """The error for what has become of the machine."""
        return HostError(
            f"the machine {self.name} {what}",
            next_step=f"try `ssh -F FILE {self.name}`; of Vagrant's: `vagrant up`, `vagrant rsync`",
        )


def find_guests(topology: Topology, directory: Path) -> list[Guest]:
    """The machines of a topology that are reached by ssh, in its order; raises HostError for one that cannot be.

    Their ssh configurations are put together in ``directory``.
    """
    nodes = [node for node in topology.nodes.values() if node.ssh]
    if nodes and which("ssh") is None:
        raise HostError("no command ssh: machines are reached by it", next_step=apt_install("openssh-client"))
    of_vagrant = [node.name for node in nodes if node.ssh == VAGRANT]
    told = _vagrant(of_vagrant) if of_vagrant else ""
    guests = []
    for node in nodes:
        said = told if node.ssh == VAGRANT else _read(node, Path(topology.file).parent)
        config = directory / f"{node.name}.config"
        config.write_text(said + _CLIENT_SETTINGS.format(name=node.name, directory=directory), encoding="utf-8")
        guests.append(Guest(node.name, config))
    return guests


def sources_digest() -> str:
    """What tells one policylab from another: all that its packages consist of."""
    digest = sha256()
    for package in ("lab", "dataplanes"):
        for name, content in sorted(_contents(files(package), package)):
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _contents(place: Traversable, name: str) -> list[tuple[str, bytes]]:
    if place.is_file():
        return [(name, place.read_bytes())] if name.endswith((".py", ".json", ".lark")) else []
    return [found for each in place.iterdir() for found in _contents(each, f"{name}/{each.name}")]


def _vagrant(names: list[str]) -> str:
    if which("vagrant") is None:
        raise HostError("no command vagrant", next_step=apt_install("vagrant", "vagrant-libvirt"))
    late = HostError(f"vagrant did not answer within {ANSWER_SECONDS:g} s")
    told = run_tool(["vagrant", "ssh-config", *names], ANSWER_SECONDS, late)
    if told.returncode:
        raise HostError(
            f"vagrant does not tell how {', '.join(names)} can be reached",
            value=last_line(told.stderr),
            next_step="`vagrant up`, and run the command where the Vagrantfile is",
        )
    return told.stdout


def _read(node: Node, home: Path) -> str:
    file = home / (node.ssh or "")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HostError(
            f"the node {node.name} is reached as a file says that cannot be read: {error}",
            place=node.place,
            value=node.ssh,
            allowed=f"a file in the form of ssh_config(5), or {VAGRANT}",
        ) from error
