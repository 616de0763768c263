# SPDX-License-Identifier: Apache-2.0
"""The accelerator against the kernel: whom it takes up, where it stops, what is left, and that its evidence is true."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sockmap_world import LEGS, Sockets, World, leg_of, topology, world

from dataplanes.api import DataplaneError
from dataplanes.sockmap import SockmapAccelerator
from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.load import load_resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

STATE_OF_A_SOCKET = "kmalloc-1k"  # what the kernel keeps beside each socket of a map: 696 bytes on 6.18
QUEUE = 8 << 20
LARGEST_MESSAGE = 1 << 20  # one sk_msg holds 17 fragments of at most 32 KiB each


@pytest.fixture(scope="module")
def sockmap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sockmap")) as made:
        yield made


@pytest.fixture
def sockets(sockmap: World) -> Iterator[Sockets]:
    with sockmap.sockets(sockmap.leg("veth-ipv4")) as made:
        yield made


def exchange(near: socket.socket, far: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        near.sendall(data)
        far.sendall(receive(far, len(data)))
        assert receive(near, len(data)) == data


def receive(end: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (more := end.recv(length - len(data))):
        data += more
    return bytes(data)


def talk_on(end: socket.socket) -> None:
    for _ in range(10_000):
        end.send(b"anybody there?")


def fill(end: socket.socket, most: int) -> int:
    """Write without blocking until there is no room: how much went in."""
    end.setblocking(False)
    written = 0
    try:
        while written < most:
            written += end.send(bytes(65536))
    except BlockingIOError:
        pass
    return written


@pytest.mark.parametrize("leg", LEGS)
def test_redirected_bytes_are_counted_and_seen_on_no_interface(sockmap: World, leg: str) -> None:
    where = sockmap.leg(leg)
    hosts = [sockmap.lab.hosts[name] for name in {where.near, where.far}]
    with sockmap.sockets(where) as sockets:
        near, far = sockets.pair()
        before, counted = sum(host.carried() for host in hosts), sockmap.counters()["redirected.bytes"]
        exchange(near, far, bytes(10_000), 20)
        told = sockmap.counters()["redirected.bytes"] - counted
        seen = sum(host.carried() for host in hosts) - before
    assert told == 2 * 20 * 10_000
    assert seen < 10_000


def test_suspended_everything_is_on_the_wire_and_nothing_counts_as_redirected(sockmap: World) -> None:
    where = sockmap.leg("veth-ipv4")
    with sockmap.sockets(where) as sockets:
        near, far = sockets.pair()
        exchange(near, far, b"fast", 1)
        sockmap.accelerator.suspend()
        before, counted = sockmap.lab.hosts[where.near].carried(), sockmap.counters()
        exchange(near, far, bytes(1000), 20)
        seen = sockmap.lab.hosts[where.near].carried() - before
        after = sockmap.counters()
        sockmap.accelerator.resume()
        assert seen > 20 * 1000
        assert after["redirected.bytes"] == counted["redirected.bytes"]
        assert after["passed.switch"] - counted["passed.switch"] == 40
        exchange(near, far, b"fast", 2)
        assert sockmap.counters()["upgrades"] > after["upgrades"]


def test_suspended_new_sockets_do_not_join(sockmap: World, sockets: Sockets) -> None:
    sockmap.accelerator.suspend()
    before = sockmap.counters()["sockets.joined"]
    try:
        near, far = sockets.pair()
    finally:
        sockmap.accelerator.resume()
    exchange(near, far, b"slow", 3)
    assert sockmap.counters()["sockets.joined"] == before


@pytest.mark.parametrize("leg", ["remote-ipv4", "remote-ipv6"])
def test_workloads_on_two_nodes_are_not_joined_though_one_kernel_has_both(sockmap: World, leg: str) -> None:
    where = sockmap.leg(leg)
    before = {name: each.evidence().counters for name, each in sockmap.accelerators.items()}
    with sockmap.sockets(where) as sockets:
        near, far = sockets.pair()
        exchange(near, far, b"far away", 5)
    after = {name: each.evidence().counters for name, each in sockmap.accelerators.items()}
    assert all(after[name]["redirected.bytes"] == before[name]["redirected.bytes"] for name in after)
    assert sum(after[name]["passed.peer"] - before[name]["passed.peer"] for name in after) == 10


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_same_addresses_and_ports_in_two_namespaces_stay_apart(sockmap: World, family: str) -> None:
    legs = [replace(sockmap.leg(f"loopback-{family}"), near=host, far=host) for host in ("x/near", "x/far")]
    with ExitStack() as stack:
        pairs = [stack.enter_context(sockmap.sockets(leg, 7001)).pair(own_port=7002) for leg in legs]
        for place, (near, far) in enumerate(pairs):
            near.sendall(b"to %d" % place)
            far.sendall(b"back %d" % place)
        for place, (near, far) in enumerate(pairs):
            assert (receive(far, 4), receive(near, 6)) == (b"to %d" % place, b"back %d" % place)
        before = sockmap.counters()["redirected.messages"]
        for near, far in pairs:
            exchange(near, far, b"both fast", 1)
        assert sockmap.counters()["redirected.messages"] - before == 4


def test_workloads_that_did_not_ask_for_it_are_left_alone(sockmap: World) -> None:
    before = sockmap.counters()
    with sockmap.sockets(sockmap.leg("veth-ipv4", plain=True)) as sockets:
        exchange(*sockets.pair(), b"as ever", 5)
    assert sockmap.counters() == before


def test_a_writer_whose_reader_sleeps_is_stopped_as_by_tcp(sockmap: World, sockets: Sockets) -> None:
    near, far = sockets.pair()
    written = fill(near, 4 * QUEUE)
    assert QUEUE // 2 < written < 4 * QUEUE
    assert sockmap.counters()["queue.deepest"] <= QUEUE + LARGEST_MESSAGE
    assert len(receive(far, written)) == written


def test_after_shutdown_nothing_more_is_taken(sockets: Sockets) -> None:
    near, far = sockets.pair()
    near.sendall(b"last words")
    near.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        near.send(b"one more")
    assert receive(far, 100) == b"last words"
    far.sendall(b"answer")
    assert receive(near, 6) == b"answer"


def test_what_is_queued_when_its_writer_closes_is_read_to_the_end(sockets: Sockets) -> None:
    near, far = sockets.pair()
    near.sendall(bytes(1_000_000))
    near.close()
    assert len(receive(far, 2_000_000)) == 1_000_000


def test_writing_to_an_end_that_has_closed_fails_as_by_tcp(sockets: Sockets) -> None:
    near, far = sockets.pair()
    exchange(near, far, b"hello", 1)
    far.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        talk_on(near)


def test_a_connection_that_is_reset_is_so_at_the_other_end(sockets: Sockets) -> None:
    near, far = sockets.pair()
    exchange(near, far, b"hello", 1)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    select.select([near], [], [], 10)
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def kernel_objects(kind: str) -> int:
    """How many objects of a kind the kernel has now."""
    lines = Path("/proc/slabinfo").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.split()[0] == kind), 0)


def test_ten_thousand_connections_leave_nothing_behind(sockmap: World) -> None:
    leg = sockmap.leg("loopback-ipv4")
    shape = {
        "turns": [[0, 64, 64, 0, False], [1, 64, 64, 0, True]],
        "readers": [("poll", 64, 1, 0)] * 2,
        "early": [True] * 2,
    }
    before = sockmap.counters()["sockets.joined"]
    kinds = {kind: kernel_objects(kind) for kind in ("TCP", STATE_OF_A_SOCKET)}
    with sockmap.talkers(leg) as talkers:
        for _ in range(10):
            outcomes = talkers.play([shape] * 1000)
            assert all(near["received"][0] == far["received"][0] == 64 for near, far in outcomes)
    assert sockmap.counters()["sockets.joined"] - before == 20_000
    assert sockmap.accelerator.known() == 0
    # What else runs on the machine has some hundred sockets; of 20,000 no tenth may be left.
    deadline = time.monotonic() + 10
    while any(kernel_objects(kind) - first > 2000 for kind, first in kinds.items()):
        assert time.monotonic() < deadline, "the kernel has kept what belonged to sockets that are gone"
        time.sleep(0.1)


def test_stopped_it_redirects_nothing_and_the_sockets_go_on(tmp_path: Path) -> None:
    with world(tmp_path) as short, short.sockets(short.leg("veth-ipv4")) as sockets:
        near, far = sockets.pair()
        near.sendall(b"queued")
        short.accelerator.stop()
        short.accelerator.stop()
        near.sendall(b", then by TCP")
        assert receive(far, 19) == b"queued, then by TCP"
        where = short.lab.hosts["x/near"]
        before = where.carried()
        exchange(near, far, bytes(1000), 10)
        assert where.carried() - before > 10_000
        with pytest.raises(DataplaneError, match="stopped"):
            short.accelerator.evidence()


def load_and_wait(lab: Lab, ready: int) -> None:
    """What the process does that is going to be killed."""
    accelerator = SockmapAccelerator(lab.nodes["node-1"])
    accelerator.start()
    snapshots = compile_snapshots(lab.topology, load_resources((), lab.topology))
    accelerator.apply(snapshots["node-1"])
    os.write(ready, b"!")
    signal.pause()


def test_its_loader_killed_connections_go_on_and_new_ones_go_by_tcp(tmp_path: Path) -> None:
    with Lab(topology(tmp_path)) as lab, ExitStack() as stack:
        sockets = Sockets(lab, leg_of(lab, "veth-ipv4"), stack)
        ready, tell = os.pipe()
        loader = os.fork()
        if not loader:
            try:
                load_and_wait(lab, tell)
            finally:
                os._exit(1)
        try:
            os.close(tell)
            assert os.read(ready, 1) == b"!"
            near, far = sockets.pair()
            before = lab.hosts["x/near"].carried()
            exchange(near, far, bytes(10_000), 5)
            assert lab.hosts["x/near"].carried() - before < 10_000
            near.sendall(b"queued")
        finally:
            os.kill(loader, signal.SIGKILL)
            os.waitpid(loader, 0)
            os.close(ready)
        assert receive(far, 6) == b"queued"
        exchange(near, far, bytes(10_000), 5)
        near, far = sockets.pair()
        before = lab.hosts["x/near"].carried()
        exchange(near, far, bytes(10_000), 5)
        assert lab.hosts["x/near"].carried() - before > 50_000
