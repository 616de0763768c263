# SPDX-License-Identifier: Apache-2.0
"""Real Envoys with sockmap between them: on every leg, when one dies, and when its policy changes under load."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sockmap_world import TALK, World, world
from test_sockmap import exchange

from lab.bench.sidecar_load import Load, LoadGenerator, compiled_load
from lab.policy.compile import compile_snapshots
from lab.policy.load import load_resources
from lab.sidecar.mesh import Mesh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

HTTP = 8080


@pytest.fixture
def meshed(tmp_path: Path) -> Iterator[tuple[World, Mesh]]:
    with world(tmp_path) as made, Mesh(made.lab) as mesh:
        yield made, mesh


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_all_three_legs_through_two_envoys_skip_the_stack(meshed: tuple[World, Mesh], family: str) -> None:
    made, _ = meshed
    with made.sockets(made.leg(f"veth-{family}"), TALK) as sockets:
        near, far = sockets.pair()
        exchange(near, far, b"warm", 1)
        hosts = [made.lab.hosts[name] for name in ("x/near", "x/far")]
        before, counted = sum(host.carried() for host in hosts), made.counters()["redirected.bytes"]
        exchange(near, far, bytes(10_000), 20)
        # From the application to its sidecar, from that to the other, and on to the application there; and back.
        assert made.counters()["redirected.bytes"] - counted >= 3 * 2 * 20 * 10_000
        assert sum(host.carried() for host in hosts) - before < 10_000


def test_an_envoy_that_dies_is_the_same_to_its_client_with_and_without(tmp_path: Path) -> None:
    def ends(name: str, *, accelerated: bool) -> str:
        (tmp_path / name).mkdir()
        with world(tmp_path / name) as made, Mesh(made.lab) as mesh:
            if not accelerated:
                made.accelerator.suspend()
            with made.sockets(made.leg("veth-ipv4"), TALK) as sockets:
                near, far = sockets.pair()
                exchange(near, far, b"all is well", 3)
                assert (made.counters()["redirected.bytes"] > 0) == accelerated
                near.sendall(b"no answer comes")
                assert far.recv(100) == b"no answer comes"
                mesh.envoys["x/far"].process.kill()
                try:
                    return repr(near.recv(100))
                except OSError as error:
                    return repr(error)

    assert ends("with", accelerated=True) == ends("without", accelerated=False)


def test_policy_that_changes_under_load_loses_no_request(meshed: tuple[World, Mesh]) -> None:
    made, mesh = meshed
    snapshots = compile_snapshots(made.lab.topology, load_resources((), made.lab.topology))
    generator = LoadGenerator(made.lab, compiled_load())
    address = made.leg("veth-ipv4").address
    generator.serve(made.lab.hosts["x/far"], "0.0.0.0", HTTP, "http1", 64)  # noqa: S104 - of a namespace
    over = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        while not over.is_set():
            mesh.enforce(snapshots)
            changes += 1

    changing = threading.Thread(target=change)
    with closing(generator.client(made.lab.hosts["x/near"], address, HTTP, Load("http1", 64, 8))) as client:
        client.exchange(0.1)
        changing.start()
        try:
            # A request that is lost, or answered by anything but 200, ends the client with an error.
            assert client.exchange(2).rate > 0
        finally:
            over.set()
            changing.join()
    assert changes > 1
    assert made.counters()["redirected.bytes"] > 0
