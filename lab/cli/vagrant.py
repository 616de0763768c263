# SPDX-License-Identifier: Apache-2.0
"""``policylab vagrant``: what the machines of the Vagrantfile need that Vagrant does not bring."""

from __future__ import annotations

from pathlib import Path

import click

import lab
from lab.errors import HostError
from lab.fabric.vagrant.box import BOX, build_box, remove_box
from lab.fabric.vagrant.daemon import start_daemon, stop_daemon
from lab.report.terminal import say

__all__ = ["vagrant"]


@click.group(short_help="Make what the machines of the Vagrantfile need.")
def vagrant() -> None:
    """Make what the machines of the Vagrantfile need: a box, and a libvirt daemon where the host runs none.

    Then `vagrant up`, `vagrant ssh node-1`, `vagrant destroy -f` do as they always do.
    """


@vagrant.command(short_help="Make the box and give it to Vagrant.")
def box() -> None:
    """Make the box with the kernels of the matrix and all packages, and give it to Vagrant. Takes some minutes."""
    checkout = Path(lab.__file__).parents[1]
    if not (checkout / "pyproject.toml").exists():
        raise HostError("the box is made from a checkout, and this is none", place=str(checkout))
    build_box(checkout, say)
    say(f"the box {BOX} is ready: vagrant up")


@vagrant.command(short_help="Start a libvirt daemon where the host runs none.")
def start() -> None:
    """Start a libvirt daemon in namespaces of its own, unless the host runs one; the Vagrantfile finds it."""
    say(start_daemon())


@vagrant.command(short_help="Take the daemon, its machines and the box away.")
def clean() -> None:
    """End the daemon that `start` has started, with all machines and disks that it has, and remove the box."""
    removed = [what for what, gone in (("the libvirt daemon", stop_daemon()), ("the box", remove_box())) if gone]
    say(f"removed: {' and '.join(removed)}" if removed else "there was nothing of ours")
