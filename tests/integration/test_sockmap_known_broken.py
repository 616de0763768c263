# SPDX-License-Identifier: Apache-2.0
"""What sockmap cannot hide from a program: each divergence that it declares is there, and not on plain TCP."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from sockmap_world import Sockets, World, world

from dataplanes.sockmap import SockmapAccelerator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000

Diverges = Callable[[World, Sockets], bool]


def come(end: socket.socket) -> None:
    assert select.select([end], [], [], 10)[0]


def all_sent(end: socket.socket, length: int) -> None:
    """Wait until so many bytes, sent by TCP or not, can be read."""
    deadline = time.monotonic() + 10
    while len(end.recv(length, socket.MSG_PEEK)) < length and time.monotonic() < deadline:
        pass


def delivered(end: socket.socket) -> None:
    """Wait until TCP has nothing left to deliver."""
    told, deadline = array.array("i", [1]), time.monotonic() + 10
    while told[0] and time.monotonic() < deadline:
        fcntl.ioctl(end, termios.TIOCOUTQ, told)


def blocking_read_says_again(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.settimeout(None)
    said: list[bool] = []

    def read() -> None:
        try:
            near.recv(1)
            said.append(False)
        except BlockingIOError:
            said.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    while not said and reader.is_alive():
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_WR)
        reader.join(0.2)
        if reader.is_alive():
            far.sendall(b"x")
    reader.join()
    return said[0]


def queued_bytes_by_tcp_are_not_told(world: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    world.accelerator.join_only()
    near.sendall(b"12345")
    world.accelerator.resume()
    come(far)
    told = array.array("i", [0])
    fcntl.ioctl(far, termios.FIONREAD, told)
    return told[0] != 5


def splice_does_not_see_them(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.sendall(b"12345")
    come(far)
    out, into = os.pipe()
    far.setblocking(False)
    try:
        return os.splice(far.fileno(), into, 100) != 5
    except BlockingIOError:
        return True
    finally:
        os.close(out)
        os.close(into)


def waiting_for_all_gets_less(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    far.settimeout(None)
    near.sendall(b"first")
    later = threading.Timer(0.2, near.sendall, (b"then",))
    later.start()
    short = len(far.recv(9, socket.MSG_WAITALL)) < 9
    later.join()
    return short


def low_water_mark_is_ignored(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100)
    near.sendall(b"few")
    return bool(select.select([far], [], [], 0.2)[0])


def urgent_data_is_in_band(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.sendall(b"in ")
    near.send(b"!", socket.MSG_OOB)
    near.sendall(b"band")
    all_sent(far, 3)
    time.sleep(0.05)
    return b"!" in far.recv(100)


def zero_copy_never_completes(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    near.send(bytes(50_000), MSG_ZEROCOPY)
    far.recv(50_000)
    poll = select.poll()
    poll.register(near, 0)
    return not poll.poll(300)


def truncating_read_fails(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.sendall(b"12345")
    come(far)
    buffer = bytearray(b"intact")
    try:
        # TCP throws the bytes away and tells how many.
        return (far.recv_into(buffer, 5, socket.MSG_TRUNC), buffer) != (5, b"intact")
    except OSError:
        return True


def tcp_info_does_not_count_them(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.sendall(bytes(5000))
    all_sent(far, 5000)
    # tcpi_bytes_received, at 128 in struct tcp_info (linux/tcp.h)
    (received,) = struct.unpack_from("=Q", far.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 128)
    return received < 5000


def closing_with_unread_bytes_is_no_reset(_: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    near.sendall(b"unread")
    come(far)
    far.close()
    come(near)
    try:
        return near.recv(1) == b""
    except ConnectionResetError:
        return False


def short_read_is_not_the_end(world: World, sockets: Sockets) -> bool:
    """A reader at the edge that takes a short read for the end waits for an event that does not come."""
    near, far = sockets.pair()
    near.setblocking(False)
    full = world.counters()["passed.queue"]
    with contextlib.suppress(BlockingIOError):
        while world.counters()["passed.queue"] == full:
            near.send(bytes(1 << 16))
        delivered(near)
    far.setblocking(False)
    with select.epoll() as edge:
        edge.register(far, select.EPOLLIN | select.EPOLLET)
        assert edge.poll(10)
        buffer = bytearray(64 << 20)
        length = far.recv_into(buffer)
        assert length < len(buffer)
        if edge.poll(0.5):
            return False
    with contextlib.suppress(BlockingIOError):
        return far.recv_into(buffer) > 0
    return False


def interfaces_do_not_carry_them(world: World, sockets: Sockets) -> bool:
    near, far = sockets.pair()
    host = world.lab.hosts[sockets.leg.near]
    before = sum(link.get("stats64", {})["tx_bytes"] for link in host.interfaces())
    near.sendall(bytes(100_000))
    all_sent(far, 100_000)
    return sum(link.get("stats64", {})["tx_bytes"] for link in host.interfaces()) - before < 100_000


DIVERGENCES: Mapping[str, Diverges] = {
    "read.blocking-says-again": blocking_read_says_again,
    "read.fionread-misses-tcp": queued_bytes_by_tcp_are_not_told,
    "read.splice-misses-redirected": splice_does_not_see_them,
    "read.waitall-is-short": waiting_for_all_gets_less,
    "read.low-water-mark-ignored": low_water_mark_is_ignored,
    "read.truncate-fails": truncating_read_fails,
    "read.short-is-not-the-end": short_read_is_not_the_end,
    "write.urgent-in-band": urgent_data_is_in_band,
    "write.zero-copy-never-completes": zero_copy_never_completes,
    "close.unread-is-no-reset": closing_with_unread_bytes_is_no_reset,
    "count.tcp-info-misses-redirected": tcp_info_does_not_count_them,
    "count.interfaces-miss-redirected": interfaces_do_not_carry_them,
}


@pytest.fixture(scope="module")
def sockmap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sockmap")) as made:
        yield made


def test_each_divergence_that_is_declared_is_shown_here() -> None:
    assert DIVERGENCES.keys() == SockmapAccelerator.known_broken.keys()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_there_when_redirected_and_not_on_plain_tcp(sockmap: World, name: str) -> None:
    with ExitStack() as stack:
        plain = stack.enter_context(sockmap.sockets(sockmap.leg("veth-ipv4", plain=True)))
        assert not DIVERGENCES[name](sockmap, plain)
        joined = stack.enter_context(sockmap.sockets(sockmap.leg("veth-ipv4")))
        assert DIVERGENCES[name](sockmap, joined)
