# SPDX-License-Identifier: Apache-2.0
"""Real sockets beside packets that are played: connections as programs have them, many at once, all bytes both ways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dataplanes.api import Capability
from lab.conformance.guard import FRIEND, GUARDED, PORT, STRANGER, guard
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.fabric.lab import Lab
from lab.topology import address_of
from lab.topology.load import load_topology

__all__ = ["MANY", "talks_by_sockets"]

MANY: Final = 24
"""Connections at a time."""
_BYTES: Final = 60_000
"""That each end sends: more than one window."""
_PATIENCE_SECONDS: Final = 20.0
_DENIED_SECONDS: Final = 0.5
"""How long a connection is waited for that must not be: a SYN arrives at once or never."""
_FAMILIES: Final = ((4, socket.AF_INET, Capability.IPV4), (6, socket.AF_INET6, Capability.IPV6))


def talks_by_sockets(judged: Judged) -> Iterator[str]:
    """All that goes wrong when programs talk under a policy that lets one side connect and nothing else.

    Raises NotHeldError for a dataplane that does not declare what that takes.
    """
    needed = {Capability.CONNECTIONS, Capability.TCP}
    families = [each for each in _FAMILIES if each[2] in judged.capabilities]
    if not needed <= judged.capabilities or not families:
        raise NotHeldError("it does not declare connections of TCP")
    topology = load_topology("one-node")
    with Harness(topology, judged.dataplane, judged.accelerators) as harness:
        harness.apply(guard(topology))
        with harness.lab.unmuted():
            for family, kind, _ in families:
                yield from (f"ipv{family}: {told}" for told in _talk(harness.lab, family, kind))


def _talk(lab: Lab, family: int, kind: int) -> Iterator[str]:
    end = lab.topology.end(GUARDED)
    address = "" if end is None else str(address_of(end, family))
    with lab.hosts[GUARDED].socket(kind, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(2 * MANY) as pool:
        listener.bind((address, PORT))
        listener.listen(MANY)
        listener.settimeout(_PATIENCE_SECONDS)

        def serve(_: int) -> str:
            try:
                connection, _peer = listener.accept()
                with connection:
                    connection.settimeout(_PATIENCE_SECONDS)
                    connection.sendall(_all_of(connection)[::-1])
            except OSError as error:
                return f"{GUARDED} did not hear all: {error}"
            return ""

        def ask(number: int) -> str:
            said = number.to_bytes(4, "big") * (_BYTES // 4)
            try:
                with lab.hosts[FRIEND].socket(kind, socket.SOCK_STREAM) as client:
                    client.settimeout(_PATIENCE_SECONDS)
                    client.connect((address, PORT))
                    client.sendall(said)
                    client.shutdown(socket.SHUT_WR)
                    heard = _all_of(client)
            except OSError as error:
                return f"connection {number} of {FRIEND}: {error}"
            return "" if heard == said[::-1] else f"connection {number} of {FRIEND} heard other bytes than were sent"

        served, asked = pool.map(serve, range(MANY)), pool.map(ask, range(MANY))
        yield from filter(None, (*asked, *served))
        with lab.hosts[STRANGER].socket(kind, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(_DENIED_SECONDS)
            if stranger.connect_ex((address, PORT)) == 0:
                yield f"{STRANGER} connected, whom no rule allows"


def _all_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))
