# SPDX-License-Identifier: Apache-2.0
"""This host in place of machines that ssh reaches: ssh starts the server as its proxy, with only a pipe between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SERVER = """
HostKey {place}/key
AuthorizedKeysFile {place}/key.pub
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
LogLevel ERROR
SetEnv PATH={place}:/usr/sbin:/usr/bin:/sbin:/bin
"""
CLIENT = """
Host {name}
    User root
    ProxyCommand {proxy}
    IdentityFile {place}/key
    IdentitiesOnly yes
    UserKnownHostsFile /dev/null
    StrictHostKeyChecking no
    LogLevel ERROR
"""


def make_hosts(place: Path, *names: str) -> None:
    """Put into a directory what it takes: keys, the server's settings, ssh-config, and policylab-python."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)
    (place / "sshd-config").write_text(SERVER.format(place=place))
    (place / "policylab-python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (place / "policylab-python").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    write_client(place, *names)


def write_client(place: Path, *names: str, proxy: str = "") -> None:
    """Write ssh-config, perhaps with a proxy that does something else."""
    said = proxy or f"/usr/sbin/sshd -i -f {place}/sshd-config"
    (place / "ssh-config").write_text("".join(CLIENT.format(name=name, proxy=said, place=place) for name in names))
