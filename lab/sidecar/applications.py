# SPDX-License-Identifier: Apache-2.0
"""The lab's end of its workloads' applications: starts servers, has clients ask them, and hears what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.sidecar import application_process
from lab.topology import Address, HttpRequest

__all__ = ["Applications", "Asking", "Response"]


@dataclass(frozen=True, slots=True)
class Asking:
    """A request to be made: from an end of the lab, by name, to an address and port."""

    source: str
    address: Address
    port: int
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class Response:
    """What a client got: a status, and the workload whose application says that it saw the request; or an error."""

    status: int | None = None
    by: str | None = None
    error: str | None = None


class Applications:
    """Servers and clients of a lab, in one program that ends with it."""

    def __init__(self, lab: Lab) -> None:
        self._namespaces = {name: host.descriptor for name, host in lab.hosts.items()}
        self._served: set[tuple[str, int]] = set()
        self._process = lab.programs.start(
            lab.underlay,
            [sys.executable, "-I", "-S", application_process.__file__],
            output=subprocess.PIPE,
            descriptors=tuple(self._namespaces.values()),
        )

    def serve(self, workload: str, port: int) -> None:
        """Have a workload's application listen on a port; raises HostError when it cannot."""
        if (workload, port) in self._served:
            return
        refused = self._order(application_process.SERVE, self._namespaces[workload], workload, port)
        if refused is not None:
            raise HostError(f"the application of {workload} cannot listen on port {port}", value=refused)
        self._served.add((workload, port))

    def ask(self, askings: Sequence[Asking]) -> list[Response]:
        """Make all requests, many at a time, each on a connection of its own; one response for each, in order."""
        orders = [
            [
                self._namespaces[asking.source],
                str(asking.address),
                asking.port,
                asking.request.method,
                asking.request.path,
            ]
            for asking in askings
        ]
        return [Response(**answer) for answer in self._order(application_process.ASK, orders)]

    def _order(self, *order: object) -> Any:
        given, told = self._process.stdin, self._process.stdout
        assert given is not None  # noqa: S101 - both are pipes
        assert told is not None  # noqa: S101
        given.write(json.dumps(order).encode() + b"\n")
        given.flush()
        answer = told.readline()
        if not answer:
            raise HostError("the applications of the lab have ended", value=f"status {self._process.wait()}")
        return json.loads(answer)
