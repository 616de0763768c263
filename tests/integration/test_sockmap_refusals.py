# SPDX-License-Identifier: Apache-2.0
"""What sockmap leaves to TCP: sockets beyond its map, other protocols on top of TCP, and all when memory is short."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import test_sockmap as sound
from sockmap_world import Protocols, World, world, wrong
from test_sockmap import exchange
from test_sockmap_integrity import OVERRUN

from dataplanes.api import Node
from dataplanes.sockmap import SockmapAccelerator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TCP, MPTCP = 0, 262
TCP_ULP = 31


@pytest.fixture
def sockmap(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_a_full_map_leaves_the_rest_to_tcp(tmp_path: Path) -> None:
    class Small(SockmapAccelerator):
        sockets: ClassVar[int] = 8

    with world(tmp_path, Small) as small, small.sockets(small.leg("veth-ipv4")) as sockets:
        pairs = [sockets.pair() for _ in range(10)]
        for near, far in pairs:
            exchange(near, far, b"all the same", 3)
        counters = small.counters()
        assert counters["sockets.joined"] == 8
        assert counters["sockets.refused"] == 12
        assert counters["redirected.messages"] == 4 * 2 * 3
        for each in pairs[0]:
            each.close()
        exchange(*sockets.pair(), b"there is room", 1)
        assert small.counters()["sockets.joined"] > 8


@pytest.mark.parametrize("leg", ["veth-ipv4", "loopback-ipv6"])
@pytest.mark.parametrize(
    ("protocols", "joined", "redirected"),
    [
        pytest.param((MPTCP, MPTCP), 0, False, id="both"),
        pytest.param((MPTCP, TCP), 1, False, id="one-that-connects"),
        # The kernel accepts a plain socket where its client speaks plain TCP.
        pytest.param((TCP, MPTCP), 2, True, id="one-that-listens"),
    ],
)
def test_sockets_of_mptcp_are_refused(
    sockmap: World, leg: str, protocols: Protocols, joined: int, redirected: bool
) -> None:
    try:
        socket.socket(proto=MPTCP).close()
    except OSError:
        pytest.skip("NOT ON THIS HOST: the kernel has no MPTCP")
    with sockmap.sockets(sockmap.leg(leg), protocols=protocols) as sockets:
        exchange(*sockets.pair(), bytes(10_000), 5)
    counters = sockmap.counters()
    assert (counters["sockets.joined"], counters["sockets.refused"]) == (joined, 2 - joined)
    assert (counters["redirected.bytes"] > 0) == redirected


def test_what_is_sent_by_tls_in_the_kernel_is_left_to_it(sockmap: World) -> None:
    with sockmap.sockets(sockmap.leg("veth-ipv4")) as sockets:
        near, far = sockets.pair()
        try:
            near.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            pytest.skip("NOT ON THIS HOST: the kernel has no TLS (CONFIG_TLS), so this was never seen to pass")
        exchange(near, far, b"no key yet", 5)
    assert sockmap.counters()["passed.state"] == 5


def on_another_kernel(changes: Mapping[str, str | None]) -> type[SockmapAccelerator]:
    """The accelerator on a kernel that has no such member, or another one in its place."""

    class Kernel:
        def __init__(self, node: Node) -> None:
            self._node = node

        def __getattr__(self, name: str) -> Any:
            return getattr(self._node, name)

        def member_offsets(self, paths: Sequence[str]) -> dict[str, int | None]:
            wanted = {path: changes.get(path, path) for path in paths}
            found = self._node.member_offsets([other for other in wanted.values() if other])
            return {path: found[other] if other else None for path, other in wanted.items()}

    class Elsewhere(SockmapAccelerator):
        def __init__(self, node: Node) -> None:
            super().__init__(Kernel(node))

    return Elsewhere


def test_a_kernel_that_counts_no_queue_has_its_queues_bounded_all_the_same(tmp_path: Path) -> None:
    older = on_another_kernel({"sk_psock.msg_tot_len": None})
    with world(tmp_path, older) as made, made.sockets(made.leg("veth-ipv4")) as sockets:
        exchange(*sockets.pair(), b"as before", 5)
        assert made.counters()["redirected.messages"] == 10
        sound.test_a_writer_whose_reader_sleeps_is_stopped_as_by_tcp(made, sockets)


def test_when_memory_is_short_tcp_has_it(tmp_path: Path) -> None:
    # Numbers that are never 0 stand where the kernel tells whether TCP is short of memory.
    short = on_another_kernel({"proto.memory_pressure": "proto.sysctl_mem"})
    with world(tmp_path, short) as made, made.sockets(made.leg("veth-ipv4")) as sockets:
        exchange(*sockets.pair(), bytes(1000), 5)
        counters = made.counters()
        assert (counters["redirected.messages"], counters["passed.pressure"]) == (0, 10)


@contextmanager
def limited_memory(limit: int) -> Iterator[Path]:
    """A cgroup below this process's own whose sockets may take so many bytes; skips where there can be none."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    own = next((line.split(":")[2] for line in lines if "memory" in line.split(":")[1].split(",")), None)
    if own is None:
        pytest.skip("NOT ON THIS HOST: no cgroup v1 that limits memory")
    group = Path(f"/sys/fs/cgroup/memory{own.rstrip('/')}/policylab-test-{os.getpid()}")
    group.mkdir()
    try:
        (group / "memory.kmem.tcp.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        deadline = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        group.rmdir()


def overrun_with_little_memory(made: World, patience: int = 60) -> None:
    """More is under way than the sockets of both ends may take in memory."""
    with limited_memory(20_000_000) as group, made.talkers(made.leg("veth-ipv4"), patience) as talkers:
        talkers.move(group)
        assert wrong(talkers.play([OVERRUN] * 8)) == []
    assert made.counters()["order.violated"] == 0


def test_when_its_cgroup_is_short_of_memory_no_writer_fails(sockmap: World) -> None:
    overrun_with_little_memory(sockmap)
    counters = sockmap.counters()
    assert counters["passed.pressure"] > 0
    assert counters["redirected.bytes"] > 0
