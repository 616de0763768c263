# SPDX-License-Identifier: Apache-2.0
"""``policylab doctor``: what it concludes from findings, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.cli import doctor as command
from lab.errors import BpfError
from lab.fabric import host, host_nodes, host_trials
from lab.fabric.apt import apt_install
from lab.fabric.finding import Finding, State
from lab.fabric.host import examine, fitness
from lab.fabric.host_nodes import CORE

GOOD = tuple(Finding(name, "yes", "tried", "every lab") for name in CORE)
NO_TOOLS = (
    Finding("ipset", "no", "no command ipset", "iptables", apt_install("ipset")),
    Finding("set match", "no", "no command ipset", "iptables", apt_install("ipset")),
    Finding("iptables-nft", "no", "no command", "iptables", apt_install("iptables")),
    Finding("root", "no", "lacks CAP_NET_ADMIN", "every lab", "run as root"),
)


def found(core: State) -> tuple[Finding, ...]:
    return (*GOOD[:2], Finding(CORE[2], core, "tried", "every lab"))


@pytest.mark.parametrize(("core", "code"), [("yes", 0), ("inconclusive", 0), ("no", 3)])
def test_exit_code_is_3_only_where_no_lab_can_work(monkeypatch: pytest.MonkeyPatch, core: State, code: int) -> None:
    monkeypatch.setattr(command, "examine", lambda: (*found(core), *NO_TOOLS))
    ended = CliRunner().invoke(command.doctor, ["--output", "json"])
    assert ended.exit_code == code
    assert json.loads(ended.stdout)["fit"] == core


def test_core_that_was_never_tried_is_inconclusive() -> None:
    assert fitness(GOOD[:1]) == "inconclusive"


def test_missing_packages_are_mended_by_one_command() -> None:
    assert command.mending((*GOOD, *NO_TOOLS)) == [apt_install("ipset", "iptables"), "run as root"]


def test_table_has_a_line_for_each_finding_and_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "examine", lambda: (*GOOD, *NO_TOOLS))
    lines = CliRunner().invoke(command.doctor, []).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[: len(GOOD)]] == list(CORE)
    assert lines[-2:] == [f"mend: {apt_install('ipset', 'iptables')}", "mend: run as root"]


def test_this_host_is_examined_without_a_word_from_its_user() -> None:
    findings = examine()
    assert {"root", "kernel", "network namespaces", "cgroup v2", "BPF"} <= {finding.name for finding in findings}
    assert all(finding.detail for finding in findings)


def lacking(monkeypatch: pytest.MonkeyPatch, *commands: str) -> dict[str, Finding]:
    """What is found where these commands are not there."""
    monkeypatch.setattr(host_nodes, "which", lambda name: None if name in commands else f"/usr/bin/{name}")
    monkeypatch.setattr(host_nodes, "_PLUGIN_PLACES", ())
    return {finding.name: finding for finding in host_nodes.examine_nodes(GOOD)}


def test_each_kind_of_node_is_told_with_the_one_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    emulator = next(name for name in host_nodes._KINDS["machine"] if name.startswith("qemu-system"))
    found = lacking(monkeypatch, emulator, "sshd", "busybox", "mmdebstrap")
    assert found["namespace nodes"].state == "yes"
    assert found["container nodes"].mend == apt_install("busybox-static")
    assert found["machine nodes"].mend == apt_install("qemu-system-x86", "openssh-server", "busybox-static")
    assert found["Vagrant machines"].mend == apt_install(
        "qemu-system-x86", "openssh-server", "busybox-static", "mmdebstrap", "vagrant-libvirt"
    )
    assert f"lacks {emulator}, sshd, busybox: apt-get update" in found["machine nodes"].detail


def test_kind_of_node_whose_core_is_missing_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Finding("root", "no", "lacks CAP_NET_ADMIN", "every lab", "run the command as root (sudo)")
    monkeypatch.setattr(host_nodes, "which", lambda name: f"/usr/bin/{name}")
    found = {finding.name: finding for finding in host_nodes.examine_nodes((*GOOD, root))}
    assert [found[f"{kind} nodes"].state for kind in ("namespace", "container", "machine")] == ["no"] * 3
    assert found["namespace nodes"].mend == "run the command as root (sudo)"


def test_kinds_of_node_are_not_mended_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lacking(monkeypatch, "mmdebstrap", "vagrant")
    assert command.mending(found.values()) == []


def test_kernel_without_types_of_its_own_is_told_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "KERNEL_TYPES", Path("/nowhere"))
    told = host._btf()
    assert (told.state, told.needed_for) == ("no", "--accelerator sockmap")
    assert told.detail == "no /nowhere: use a kernel that has CONFIG_DEBUG_INFO_BTF"


def test_kernel_that_refuses_xdp_is_told_of_in_each_mode_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BpfError("the kernel refuses")

    monkeypatch.setattr(host_trials, "BpfProgram", refuse)
    told = list(host_trials._try_xdp())
    assert [(each.name, each.state) for each in told] == [("native XDP", "no"), ("generic XDP", "no")]
    assert all(each.detail.startswith("the kernel refuses: use Linux 5.9 or later") for each in told)
