# SPDX-License-Identifier: Apache-2.0
"""A run of the suite that pytest-xdist spreads over hosts that ssh reaches, as docs/how-to/use-vagrant.md has it.

By day both are this host; by night (POLICYLAB_NIGHTLY=1) they are machines with different kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from own_sshd import make_hosts

from lab.fabric.machine.acceleration import accelerator
from lab.fabric.machine.emulator import Hardware, start_machine
from lab.fabric.machine.kernels import get_kernel
from lab.fabric.machine.ssh import make_keys
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs

NIGHTLY = os.environ.get("POLICYLAB_NIGHTLY") == "1"
CASES = {"control.deny-all", "control.no-policy", "tier.order.lower-first", "rule.ports.of-source"}


def spread(tmp_path: Path, gateways: list[str], seconds: float) -> tuple[str, dict[str, str]]:
    """Run some expectations over ssh gateways; gives what pytest said, and what became of each."""
    words = [sys.executable, "-m", "pytest", "-v", "--pyargs", "lab.conformance", "--dataplane", "nftables", "-d"]
    words += ["-k", " or ".join(sorted(CASES)), "-p", "no:cacheprovider", "--lab-call-seconds", "240"]
    words += [word for gateway in gateways for word in ("--tx", gateway)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "policylab-report" / "report.json").read_text())
    return done.stdout, {each["id"]: each["outcome"] for each in told["dataplanes"]["nftables"]["expectations"]}


def test_suite_is_spread_over_two_hosts_and_the_report_is_put_together_here(tmp_path: Path):
    make_hosts(tmp_path, "one", "other")
    gateways = [
        f"ssh=-F {tmp_path}/ssh-config {name}//python=policylab-python//chdir={tmp_path}/at-{name}"
        for name in ("one", "other")
    ]
    said, outcomes = spread(tmp_path, gateways, 200)
    assert outcomes == dict.fromkeys(CASES, "passed")
    assert {gateway for gateway in ("[gw0]", "[gw1]") if gateway in said} == {"[gw0]", "[gw1]"}


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Gateways to two machines with different kernels, which see the file system of this host."""
    namespace = aside(new_namespace)
    with closing(Programs()) as programs:
        make_keys(programs.directory)
        outside = NamespaceNode("outside", namespace)
        kernels = [get_kernel(name) for name in ("5.10", "6.1")]
        driver = accelerator(programs, outside, kernels[0])
        started = [
            start_machine(programs, outside, f"m{number}", Hardware(kernel, driver))
            for number, kernel in enumerate(kernels)
        ]
        for machine in started:
            machine.wait_until_ready()
        yield [f"ssh=-F {each.ssh_config} {each.name}//python={sys.executable}//chdir=/run/there" for each in started]
    os.close(namespace)


@pytest.mark.skipif(not NIGHTLY, reason="two machines that may be emulated: by night")
@pytest.mark.timeout(1800)
def test_suite_is_spread_over_two_machines(tmp_path: Path, machines: list[str]):
    said, outcomes = spread(tmp_path, machines, 1200)
    assert outcomes == dict.fromkeys(CASES, "passed")
    assert {gateway for gateway in ("[gw0]", "[gw1]") if gateway in said} == {"[gw0]", "[gw1]"}
