# SPDX-License-Identifier: Apache-2.0
"""The benchmark of sidecars in its shortest form, and its load generator against servers that are not right."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.bench.priority import ahead_of_others
from lab.bench.sidecar import CELLS, FULL, run
from lab.bench.sidecar_arms import ARMS, Cell
from lab.bench.sidecar_load import Client, Load, Protocol, compiled_load
from lab.errors import HostError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")

PROTOCOLS: tuple[Protocol, ...] = ("http1", "http2")
VETH = Cell("veth", Load("tcp", 64, 1))
ENVOYS = tuple(Cell("envoy", Load(protocol, 64, 16)) for protocol in PROTOCOLS)


def test_each_arm_is_measured_and_does_what_it_is_called() -> None:
    result = run(1, (VETH, *ENVOYS))
    rows = {(row.details["protocol"], row.details["arm"]): row for row in result.rows}
    assert set(rows) == {(protocol, arm) for protocol in ("tcp", *PROTOCOLS) for arm in ARMS}
    for (_, arm), row in rows.items():
        details = row.details
        assert row.spread.min > 0
        assert details["cpu_us"] > 0
        assert 0 < details["p50_us"] <= details["p99_us"]
        by_map = arm in ("sockmap", "naive")
        assert (details["map_bytes"] > 64) == by_map
        assert (details["stack_bytes"] < 64) == by_map
    assert {"sockmap.plain_veth", "sockmap.envoy_http", "naive.plain_veth", "sockmap.p99"} <= set(result.ratios)


def test_an_only_connection_that_envoy_keeps_holds_up_no_other_load() -> None:
    result = run(1, tuple(Cell("envoy", Load("http1", 64, connections)) for connections in (1, 16)))
    assert {row.details["connections"] for row in result.rows} == {1, 16}


def test_what_is_measured_runs_ahead_of_others_and_nothing_after_it() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ahead_of_others():
        told = subprocess.run(("nice",), capture_output=True, text=True, check=True).stdout
    assert told.strip() == "-20"
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_cells_that_are_asked_for_are_among_all_of_them() -> None:
    assert {(cell.way, cell.load.protocol) for cell in CELLS} == {(cell.way, cell.load.protocol) for cell in FULL}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def client(listener: socket.socket, answer: Callable[[socket.socket], None]) -> Client:
    """A client of the load generator, and a server that answers it so."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, closing(connection):
            answer(connection)

    threading.Thread(target=serve, daemon=True).start()
    what = ("client", "127.0.0.1", str(listener.getsockname()[1]), "tcp", "64", "1")
    pipe = subprocess.PIPE
    return Client(subprocess.Popen((str(compiled_load()), *what), stdin=pipe, stdout=pipe, stderr=pipe), what)


def test_answers_that_are_not_what_was_sent_end_the_client(listener: socket.socket) -> None:
    def lie(connection: socket.socket) -> None:
        while data := connection.recv(64, socket.MSG_WAITALL):
            connection.sendall(data[:32] + data[31:63])

    asking = client(listener, lie)
    with closing(asking), pytest.raises(HostError, match="bytes that came"):
        asking.exchange(0.1)


def test_latencies_at_a_fixed_rate_count_from_when_requests_were_due(listener: socket.socket) -> None:
    def stall(connection: socket.socket) -> None:
        seen = 0
        while data := connection.recv(64, socket.MSG_WAITALL):
            seen += 1
            if seen % 100 == 0:
                time.sleep(0.2)
            connection.sendall(data)

    asking = client(listener, stall)
    with closing(asking):
        closed, fixed = asking.exchange(0.5), asking.exchange(0.5, 500)
    # Of those that wait for an answer, one in a hundred meets the stall; at a fixed rate, all that were due meanwhile.
    assert fixed.p50 > 3 * closed.p50
    assert fixed.p99 > 100_000


def test_without_a_compiler_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match=r"apt-get install .* gcc libc6-dev"):
        compiled_load()
