# SPDX-License-Identifier: Apache-2.0
"""A lab with sidecars and sockets in its workloads, for tests that hold conversations themselves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.sidecar.mesh import Mesh
from lab.topology import Topology, address_of

SECONDS = 20.0
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass
class World:
    lab: Lab
    mesh: Mesh
    listeners: list[socket.socket] = field(default_factory=list)

    @property
    def topology(self) -> Topology:
        return self.lab.topology

    def enforce(self, resources: Resources) -> None:
        """Put policy in force at the sidecars alone: what they deny was let through by everything else."""
        self.mesh.enforce(compile_snapshots(self.topology, resources))

    def connect(self, source: str, destination: str, port: int, family: int = 4) -> socket.socket:
        client = self.lab.hosts[source].socket(FAMILIES[family], socket.SOCK_STREAM)
        client.settimeout(SECONDS)
        end = self.topology.end(destination)
        assert end is not None
        client.connect((str(address_of(end, family)), port))
        return client

    def serve(self, workload: str, port: int, serve: Callable[[socket.socket], None], family: int = 4) -> None:
        """Accept connections and hold each conversation in a thread of its own, until the world is left."""
        listener = self.lab.hosts[workload].socket(FAMILIES[family], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("0.0.0.0" if family == 4 else "::", port))  # noqa: S104
        listener.listen(64)
        self.listeners.append(listener)

        def hold(connection: socket.socket) -> None:
            connection.settimeout(SECONDS)
            with closing(connection), suppress(OSError):
                serve(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=hold, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()


@contextmanager
def world(topology: Topology, *, tls: bool = True) -> Iterator[World]:
    with Lab(topology) as lab, Mesh(lab, tls=tls) as mesh:
        found = World(lab, mesh)
        try:
            yield found
        finally:
            for listener in found.listeners:
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side has said its last."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def response(connection: socket.socket) -> bytes:
    """The head and body of an HTTP/1.1 answer with a content length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer_http(body: bytes = b"hello") -> Callable[[socket.socket], None]:
    """Answers each request that has no body, and says from which address it came."""

    def serve(connection: socket.socket) -> None:
        data = b""
        while more := connection.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                _, _, data = data.partition(b"\r\n\r\n")
                peer = connection.getpeername()[0].encode()
                head = b"HTTP/1.1 200 OK\r\nx-from: %s\r\ncontent-length: %d\r\n\r\n" % (peer, len(body))
                connection.sendall(head + body)

    return serve


def get(connection: socket.socket, path: str, *headers: str, method: str = "GET") -> tuple[int, bytes]:
    """One request on a connection; status and the whole answer."""
    lines = [f"{method} {path} HTTP/1.1", "host: policylab", *headers]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    whole = response(connection)
    return int(whole.split(b" ")[1]) if whole else 0, whole
