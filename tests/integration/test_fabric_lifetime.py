# SPDX-License-Identifier: Apache-2.0
"""Nothing outlives its lab, and the host's own namespace never notices one."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.netlink import Message, Netlink, attribute
from lab.fabric.plan import plan
from lab.topology import Topology
from lab.topology.load import load_topology

RTM_NEWNSID, RTM_GETNSID = 88, 90
NETNSA_NSID, NETNSA_FD = 1, 3
# Of three-by-three: the underlay, two nodes, nine workloads, the barrier.
NAMESPACES = 13
OWN = Path("/proc/self/ns/net")
SIOCGSKNS = 0x894C
PIDFD_GETFD = 438

HOLD_A_LAB = """
import sys, time
from lab.fabric.lab import Lab
from lab.topology.load import load_topology
with Lab(load_topology("three-by-three")) as lab:
    print("up", flush=True)
    time.sleep(60)
"""


class Observer:
    """Tells which network namespaces still live, without keeping them alive.

    The kernel numbers the namespaces that another one knows (RTM_NEWNSID) and forgets a number only when it takes
    that namespace down; the number holds nothing.
    """

    def __init__(self) -> None:
        def open_inside() -> Netlink:
            os.close(new_namespace())
            return Netlink()

        self._netlink = aside(open_inside)
        self._known = 0

    def watch(self, descriptor: int) -> None:
        body = bytes(4) + attribute(NETNSA_FD, struct.pack("=I", descriptor))
        body += attribute(NETNSA_NSID, struct.pack("=i", self._known))
        self._netlink.send([Message(RTM_NEWNSID, 0, body, "a number for a namespace")])
        self._known += 1

    def alive(self) -> int:
        return len(self._netlink.ask(Message(RTM_GETNSID, 0, bytes(4), "the numbers"), dump=True))

    def wait_for_none(self) -> bool:
        deadline = time.monotonic() + 20
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.alive() == 0


@contextmanager
def namespaces_of(pid: int) -> Iterator[list[int]]:
    """Descriptors of all network namespaces that a process holds by a descriptor or a socket, but for the host's."""
    libc = ctypes.CDLL(None, use_errno=True)
    found: dict[int, int] = {OWN.stat().st_ino: -1}
    with ExitStack() as stack:
        pidfd = os.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        # As a list first, for the listing's own descriptor is one of them.
        for entry in [entry for entry in list(Path(f"/proc/{pid}/fd").iterdir()) if entry.is_symlink()]:
            kind = str(entry.readlink()).partition(":")[0]
            if kind not in ("net", "socket"):
                continue
            held = libc.syscall(PIDFD_GETFD, pidfd, int(entry.name), 0)
            stack.callback(os.close, held)
            if kind == "socket":
                held = fcntl.ioctl(held, SIOCGSKNS)
                stack.callback(os.close, held)
            found.setdefault(os.fstat(held).st_ino, held)
        yield [descriptor for descriptor in found.values() if descriptor >= 0]


def descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def host_state() -> dict[str, Any]:
    """What the host's own namespace has, but for what changes by itself (counters, known neighbours)."""
    with OWN.open("rb") as own:
        host = NamespaceNode("the host", own.fileno())
        links = sorted(
            (link["index"], link.get("ifname"), link["flags"], link.get("mtu")) for link in host.interfaces()
        )
        addresses = sorted((each["index"], str(each.get("address"))) for each in host.addresses())
        routes = sorted(str((r.get("dst"), r.get("gateway"), r.get("oif"), r.get("table"))) for r in host.routes())
    settings = {
        str(path): path.read_bytes()
        for family in ("ipv4", "ipv6")
        for path in sorted(Path("/proc/sys/net", family).rglob("*"))
        if path.is_file() and path.stat().st_mode & 0o444 and path.name not in ("flush", "stable_secret")
    }
    return {"links": links, "addresses": addresses, "routes": routes, "settings": settings}


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology("three-by-three")


def test_lab_that_is_left_is_gone(topology: Topology):
    with namespaces_of(os.getpid()) as others:
        before = {os.fstat(descriptor).st_ino for descriptor in others}
    with Lab(topology), namespaces_of(os.getpid()) as held:
        ours = [descriptor for descriptor in held if os.fstat(descriptor).st_ino not in before]
        observer = Observer()
        for descriptor in ours:
            observer.watch(descriptor)
        assert observer.alive() == len(ours) == NAMESPACES
    assert observer.wait_for_none()


def test_killed_process_leaves_no_namespace():
    observer = Observer()
    with subprocess.Popen([sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        with namespaces_of(holder.pid) as held:
            for descriptor in held:
                observer.watch(descriptor)
        assert observer.alive() == NAMESPACES
        holder.send_signal(signal.SIGKILL)
    assert observer.wait_for_none()


def test_failure_in_the_middle_leaves_nothing_open(topology: Topology, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise HostError("not today")

    before = descriptors()
    for step in ("lab.fabric.build._take", "lab.fabric.build.wait_until_ready", "lab.fabric.barrier.wait_until_ready"):
        with monkeypatch.context() as patched:
            patched.setattr(step, fail)
            with pytest.raises(HostError, match="not today"):
                Lab(topology).__enter__()
        assert descriptors() == before, step


def test_refused_request_is_named_and_leaves_nothing_open(topology: Topology, monkeypatch: pytest.MonkeyPatch):
    planned = plan(topology)
    twice = replace(planned, steps=(*planned.steps, planned.steps[0]))
    monkeypatch.setattr("lab.fabric.lab.plan", lambda _: twice)
    before = descriptors()
    with pytest.raises(HostError, match=r"the kernel refused a veth for cali.*: .*exist"):
        Lab(topology).__enter__()
    assert descriptors() == before


def test_too_few_descriptors_are_an_error_that_says_what_to_do(topology: Topology):
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 6, hard))
    try:
        with pytest.raises(HostError, match="ulimit -n"):
            Lab(topology).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before


def test_without_privileges_the_error_says_root():
    script = "from lab.fabric.lab import Lab\nfrom lab.topology.load import load_topology\n"
    script += "from lab.errors import HostError\n"
    script += "try:\n Lab(load_topology('one-node')).__enter__()\nexcept HostError as error:\n print(error)\n"
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    said = subprocess.run(bare, capture_output=True, text=True, check=True).stdout
    assert said.startswith("this host refuses to make a network namespace")
    assert "as root" in said


def test_twenty_labs_stand_side_by_side():
    topology = load_topology("one-node")
    source, destination = (topology.workloads[name] for name in list(topology.workloads)[:2])
    with ExitStack() as stack:
        labs = [stack.enter_context(Lab(topology)) for _ in range(20)]
        for at, lab in enumerate(labs):
            to = (str(destination.addresses[0]), 9000)
            receiver = stack.enter_context(lab.hosts[destination.name].socket(socket.AF_INET, socket.SOCK_DGRAM))
            receiver.bind(to)
            receiver.settimeout(5)
            with lab.hosts[source.name].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(bytes([at]), to)
            assert receiver.recv(8) == bytes([at])


def test_host_is_as_it_was_before_during_and_after(topology: Topology):
    own = OWN.stat().st_ino
    before = host_state()
    with Lab(topology) as lab:
        lab.nodes["node-1"].run(["true"])
        assert Path("/proc/thread-self/ns/net").stat().st_ino == own
        during = host_state()
    assert host_state() == before == during
    assert OWN.stat().st_ino == own
