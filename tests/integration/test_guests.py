# SPDX-License-Identifier: Apache-2.0
"""Machines that are reached by ssh, with this host in place of one: the same way, without a machine's boot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nodes_left import read
from own_sshd import make_hosts, write_client

from dataplanes.registry import load_dataplane
from lab.conformance.harness import Harness
from lab.conformance.hosts import host_of
from lab.errors import HostError, TopologyError
from lab.fabric.lab import Lab
from lab.fabric.machine import guests
from lab.policy.load import load_resources
from lab.topology.flows import default_flows
from lab.topology.load import load_topology

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
POLICY = TOPOLOGIES / "policies" / "mixed.yaml"
MIXED = (TOPOLOGIES / "mixed.yaml").read_text()
TOPOLOGY = MIXED.replace('kind: machine, kernel: "6.1"', "kind: machine, ssh: ssh-config").replace(
    "kind: container", "kind: namespace"
)
HOLD_A_LAB = """
import sys
from lab.fabric.lab import Lab
from lab.topology.load import load_topology
with Lab(load_topology(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Keys, a server's and a client's configuration, and the command by which policylab is run on the other side."""
    make_hosts(tmp_path, "node-3")
    (tmp_path / "t.yaml").write_text(TOPOLOGY)
    return tmp_path


@pytest.mark.parametrize("dataplane", ["iptables", "nftables"])
def test_lab_with_such_a_machine_does_what_the_oracle_says_and_leaves_nothing(place: Path, dataplane: str):
    topology = load_topology(place / "t.yaml")
    with Harness(topology, load_dataplane(dataplane)) as harness:
        for files in ((), (POLICY,)):
            results = harness.verify(load_resources(list(files), topology), default_flows(topology))
            assert results.conformant, results.wrong
        ends = far_ends()
        assert ends
    assert left_of(ends) == []


def test_node_is_a_namespace_of_the_machine_and_testinfra_sees_that_one(place: Path):
    with Lab(load_topology(place / "t.yaml")) as lab:
        node = lab.nodes["node-3"]
        told = host_of(node).check_output("ip -o -4 address show dev eth0").split()
        assert told[3].partition("/")[0] == str(lab.topology.nodes["node-3"].addresses[0])
        assert node.run(["readlink", "/proc/self/ns/net"]).stdout.strip() != str(Path("/proc/self/ns/net").readlink())


def test_killed_process_leaves_nothing_on_the_machine(place: Path):
    command = [sys.executable, "-c", HOLD_A_LAB, str(place / "t.yaml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        ends = far_ends()
        assert ends
        holder.send_signal(signal.SIGKILL)
    assert left_of(ends) == []


def far_ends() -> list[str]:
    """The processes at the far end of wires, of any lab here; their names are all different."""
    return [words for path in Path("/proc").glob("[0-9]*/cmdline") if "wire.py far policylab-" in (words := read(path))]


def left_of(ends: list[str]) -> list[str]:
    deadline = time.monotonic() + 20
    while (left := [each for each in far_ends() if each in ends]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def refusal(place: Path) -> str:
    with pytest.raises(HostError) as refused:
        Lab(load_topology(place / "t.yaml")).__enter__()
    return str(refused.value)


def test_machine_that_nobody_answers_for_is_told(place: Path):
    write_client(place, "node-3", proxy="false")
    assert "node-3 cannot be reached by ssh (" in refusal(place)


def test_ssh_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guests, "ANSWER_SECONDS", 1.0)
    write_client(place, "node-3", proxy="sleep 60")
    assert "node-3 did not answer by ssh within 1 s" in refusal(place)


def test_machine_without_policylab_is_told(place: Path):
    (place / "policylab-python").unlink()
    assert "node-3 has no command policylab-python: policylab is not installed there" in refusal(place)


def test_machine_with_another_policylab_is_told(place: Path):
    (place / "policylab-python").write_text("#!/bin/sh\necho 0123\n")
    assert "node-3 has another policylab than this host" in refusal(place)


def test_machine_that_does_not_take_up_its_wire_is_told(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.fabric.machine.machines.WIRE_SECONDS", 0.5)
    script = f'#!/bin/sh\ncase "$*" in *wire.py*) exec sleep 60;; esac\nexec {sys.executable} "$@"\n'
    (place / "policylab-python").write_text(script)
    assert "node-3 did not take up the wire to the underlay within 0.5 s" in refusal(place)


def test_machine_that_dies_while_the_lab_is_up_is_told(place: Path):
    with Lab(load_topology(place / "t.yaml")) as lab:
        server = int(lab.nodes["node-3"].run(["sh", "-c", "echo $PPID"]).stdout)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(HostError, match="the machine node-3 does not answer any more"):
            lab.nodes["node-3"].run(["true"])


def test_file_that_is_not_there_is_told(place: Path):
    (place / "ssh-config").unlink()
    assert "the node node-3 is reached as a file says that cannot be read" in refusal(place)


def test_vagrant_that_is_not_there_is_told_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "t.yaml").write_text(TOPOLOGY.replace("ssh: ssh-config", "ssh: vagrant"))
    monkeypatch.setattr(guests, "which", lambda name: None if name == "vagrant" else name)
    assert "apt-get install --no-install-recommends vagrant vagrant-libvirt" in refusal(place)


def test_vagrant_that_knows_no_such_machine_is_told(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "t.yaml").write_text(TOPOLOGY.replace("ssh: ssh-config", "ssh: vagrant"))
    (place / "vagrant").write_text("#!/bin/sh\necho no machine with that name >&2; exit 1\n")
    (place / "vagrant").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    assert "no machine with that name" in refusal(place)


def test_what_vagrant_says_is_used(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "t.yaml").write_text(TOPOLOGY.replace("ssh: ssh-config", "ssh: vagrant"))
    (place / "vagrant").write_text(f'#!/bin/sh\n[ "$*" = "ssh-config node-3" ] && exec cat {place}/ssh-config\n')
    (place / "vagrant").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    with Lab(load_topology(place / "t.yaml")) as lab:
        assert lab.nodes["node-3"].run(["echo", "there"]).stdout == "there\n"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("kind: namespace, ssh: vagrant", "only a node of kind machine is reached by ssh"),
        ('kind: machine, ssh: vagrant, kernel: "6.1"', "a machine that is reached by ssh runs a kernel already"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, said: str, error: str):
    (tmp_path / "t.yaml").write_text(f"nodes: {{n: {{{said}}}}}\n")
    with pytest.raises(TopologyError, match=error):
        load_topology(tmp_path / "t.yaml")
