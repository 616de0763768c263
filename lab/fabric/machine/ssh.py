# SPDX-License-Identifier: Apache-2.0
"""How machines are reached: ssh over a serial port, with keys that live as long as the lab.

There is no management network: an interface more would be one that policies see, and a policy could cut it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.finding import which
from lab.fabric.machine import connector
from lab.fabric.namespace_node import PATIENCE_VARIABLE

__all__ = ["SERVER_SETTINGS", "SSHD", "host_settings", "make_keys"]

SSHD: Final = "/usr/sbin/sshd"

SERVER_SETTINGS: Final = """
HostKey {directory}/host-key
AuthorizedKeysFile {directory}/user-key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
AcceptEnv LANG LC_*
SetEnv {patience}=10
LogLevel ERROR
Subsystem sftp internal-sftp
"""
"""Of the server in a machine; it sees the lab's directory as the host does."""

_CLIENT_SETTINGS: Final = """
Host {name}
    User root
    ProxyCommand {python} -I -S {connector} {socket}
    IdentityFile {directory}/user-key
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/known-hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    HostKeyAlias machine
    ControlMaster auto
    ControlPath {directory}/%n.ssh
    BatchMode yes
    ConnectTimeout 120
    ServerAliveInterval 30
    ServerAliveCountMax 10
    LogLevel ERROR
"""


def make_keys(directory: Path) -> None:
    """Make the keys of a lab's machines and of their user; raises HostError where OpenSSH is missing."""
    for command, package in (("ssh-keygen", "openssh-client"), ("ssh", "openssh-client"), ("sshd", "openssh-server")):
        if which(command) is None:
            raise HostError(f"no command {command}: machines are reached by ssh", next_step=apt_install(package))
    for name in ("host-key", "user-key"):
        command_line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "policylab", "-f", str(directory / name)]
        subprocess.run(command_line, check=True, capture_output=True)
    kind, key, _ = (directory / "host-key.pub").read_text(encoding="ascii").split(" ")
    (directory / "known-hosts").write_text(f"machine {kind} {key}\n", encoding="ascii")
    (directory / "sshd-config").write_text(
        SERVER_SETTINGS.format(directory=directory, patience=PATIENCE_VARIABLE), encoding="utf-8"
    )


def host_settings(name: str, directory: Path, socket: Path) -> str:
    """What the client's configuration says of one machine."""
    return _CLIENT_SETTINGS.format(
        name=name, directory=directory, socket=socket, python=sys.executable, connector=connector.__file__
    )
