# SPDX-License-Identifier: Apache-2.0
"""The Vagrantfile, as far as Vagrant judges it without a machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab.fabric.finding import which
from lab.fabric.machine.kernels import KERNELS
from lab.fabric.vagrant.box import BOX

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(which("vagrant") is None, reason="host lacks it: no command vagrant")
@pytest.mark.parametrize("own", [True, False], ids=["own-box", "public-box"])
@pytest.mark.parametrize("driver", ["kvm", "qemu"])
def test_vagrant_finds_nothing_wrong(tmp_path: Path, own: bool, driver: str):
    (tmp_path / "setup_version").write_text("1.5")  # of a home without it Vagrant takes the boxes for older ones
    if own:
        box = tmp_path / "boxes" / BOX / "0" / "libvirt"
        box.mkdir(parents=True)
        (box / "metadata.json").write_text('{"provider": "libvirt"}')
        (box / "key").write_text("")
    places = {"VAGRANT_HOME": str(tmp_path), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
    environment = os.environ | places | {"POLICYLAB_DRIVER": driver}
    done = subprocess.run(
        ["vagrant", "validate"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_machines_have_the_kernels_of_the_matrix_and_their_releases():
    named = re.findall(r'"node-\d" => \["([^"]+)", "([^"]+)"\]', (ROOT / "Vagrantfile").read_text())
    assert dict(named) == KERNELS
