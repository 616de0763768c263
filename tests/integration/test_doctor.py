# SPDX-License-Identifier: Apache-2.0
"""``policylab doctor`` against what testinfra sees of the same host."""

from __future__ import annotations

import pytest
import testinfra
from testinfra.host import Host

from lab.fabric.finding import Finding
from lab.fabric.host import examine, fitness

# The parts of the host that a lab has no business in, each as a command that prints it.
HOST_STATE = (
    "ip -o link",
    "ip -o address",
    "ip route show table all",
    "ip netns list",
    "iptables-nft-save",
    "iptables-legacy-save",
    "nft list tables",
    "ipset list -name",
    "cat /proc/self/mounts",
)


@pytest.fixture(scope="module")
def host() -> Host:
    return testinfra.get_host("local://")


def state(host: Host) -> dict[str, str]:
    printed = {command: host.check_output(command) for command in HOST_STATE}
    # What iptables-save prints as comments are the time and its own version.
    return {command: "\n".join(x for x in text.splitlines() if x[:1] != "#") for command, text in printed.items()}


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_examination_leaves_the_host_as_it_was(host: Host) -> None:
    before = state(host)
    examine()
    assert state(host) == before


def test_host_that_runs_these_tests_is_fit(findings: dict[str, Finding]) -> None:
    assert fitness(findings.values()) == "yes"
    assert findings["root"].state == "yes"


@pytest.mark.parametrize(("name", "command"), [("ipset", "ipset"), ("iptables-nft", "iptables-nft"), ("nft", "nft")])
def test_missing_command_is_found_missing(findings: dict[str, Finding], host: Host, name: str, command: str) -> None:
    assert (findings[name].detail == f"no command {command}") != host.exists(command)


def test_cgroup_finding_names_a_mount_point(findings: dict[str, Finding], host: Host) -> None:
    place = findings["cgroup v2"].detail.removeprefix("mounted at ")
    assert host.mount_point(place).exists == (findings["cgroup v2"].state == "yes")


def test_kernel_finding_is_the_running_kernel(findings: dict[str, Finding], host: Host) -> None:
    assert findings["kernel"].detail.startswith(host.check_output("uname -r"))
