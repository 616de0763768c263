# SPDX-License-Identifier: Apache-2.0
"""Container nodes: verdicts as anywhere, nothing left behind, and one clear error where there can be none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nodes_left import of_process, read, wait_for_none

from dataplanes.registry import load_dataplane
from lab.conformance.harness import Harness
from lab.errors import HostError
from lab.fabric.docker_daemon import users_socket
from lab.fabric.lab import Lab
from lab.fabric.orphans import take_away_orphans
from lab.policy.load import load_resources
from lab.topology.flows import default_flows
from lab.topology.load import load_topology

POLICIES = Path(__file__).parents[2] / "topologies" / "policies"

HOLD_A_LAB = """
import time
from lab.fabric.lab import Lab
from lab.fabric.orphans import take_away_orphans
from lab.topology.load import load_topology
with Lab(load_topology("containers")) as lab:
    print(lab.nodes["node-2"].run(["cat", "/proc/self/mountinfo"]).stdout.split()[0], flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize("dataplane", ["iptables", "iptables-legacy"])
def test_all_flows_through_a_container_node_are_as_expected(dataplane: str):
    topology = load_topology("containers")
    flows = default_flows(topology)
    with Harness(topology, load_dataplane(dataplane)) as harness:
        for names in ((), ("calico-named-ports.yaml",), ("kubernetes-default-deny.yaml", "kubernetes-peers.yaml")):
            resources = load_resources([POLICIES / name for name in names], topology)
            results = harness.verify(resources, flows)
            assert results.conformant, results.wrong


def test_lab_that_is_left_leaves_nothing():
    with Lab(load_topology("containers")):
        assert of_process(os.getpid())
    assert of_process(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_process_leaves_no_daemon_no_container_and_no_file(number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        if not holder.stdout.readline().strip().isdecimal():
            pytest.fail(holder.communicate()[1])
        assert of_process(holder.pid)
        holder.send_signal(number)
    assert wait_for_none(holder.pid) == []


def test_two_labs_with_containers_stand_side_by_side():
    topology = load_topology("containers")
    with Lab(topology) as one, Lab(topology) as other:
        one.nodes["node-2"].write_sysctl("ipv4.ip_default_ttl", "33")
        read_it = ["cat", "/proc/sys/net/ipv4/ip_default_ttl"]
        told = [lab.nodes["node-2"].run(read_it).stdout.strip() for lab in (one, other)]
        assert told[0] == "33"
        assert told[1] != "33"


def test_remote_daemon_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://198.51.100.1:2375")
    with pytest.raises(HostError, match=r"on another machine.*tcp://198\.51\.100\.1:2375.*unset DOCKER_HOST"):
        Lab(load_topology("containers")).__enter__()
    assert of_process(os.getpid()) == []


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A daemon that gives one answer to everything."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    with listener.accept()[0] as client:
                        client.recv(65536)
                        client.sendall(answer)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def test_daemon_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    refusal = b'HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"message":"not now"}'
    with answering(path, refusal), pytest.raises(HostError, match=r"does not serve us.*not now"):
        Lab(load_topology("containers")).__enter__()
    assert of_process(os.getpid()) == []


def test_daemon_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(HostError, match="does not serve us"):
        Lab(load_topology("containers")).__enter__()


@pytest.mark.skipif(users_socket() is not None, reason="host has a Docker daemon of its own")
@pytest.mark.parametrize(
    ("script", "complaint"),
    [("echo 'no such storage driver' >&2; exit 1", "no such storage driver"), ("sleep 60", "within 0.5 s")],
)
def test_private_daemon_that_does_not_come_up_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
):
    fake = tmp_path / "dockerd"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("lab.fabric.docker_daemon.READY_SECONDS", 0.5 if "sleep" in script else 20)
    with pytest.raises(HostError, match=f"private Docker daemon does not come up.*{complaint}|{complaint}"):
        Lab(load_topology("containers")).__enter__()
    assert wait_for_none(os.getpid()) == []


@pytest.mark.skipif(users_socket() is not None, reason="host has a Docker daemon of its own")
def test_host_without_dockerd_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.fabric.docker_daemon.which", lambda _: None)
    with pytest.raises(HostError, match=r"apt-get install --no-install-recommends docker\.io"):
        Lab(load_topology("containers")).__enter__()
    assert of_process(os.getpid()) == []


def test_image_that_the_daemon_refuses_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.fabric.image.Image.tar", lambda _: b"no archive at all" * 100)
    with pytest.raises(HostError, match="image of container nodes"):
        Lab(load_topology("containers")).__enter__()
    assert wait_for_none(os.getpid()) == []


def test_gc_takes_away_what_a_lab_left_whose_watcher_was_killed_too():
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        watchers = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        for child in map(int, watchers):
            if "watcher_process" in read(Path(f"/proc/{child}/cmdline")):
                os.kill(child, signal.SIGKILL)
        holder.kill()
    assert of_process(holder.pid)
    with Lab(load_topology("containers")) as other:
        assert any(f"-{holder.pid}-" in each for each in take_away_orphans())
        assert other.nodes["node-2"].run(["true"]).returncode == 0
    assert wait_for_none(holder.pid) == []
