# SPDX-License-Identifier: Apache-2.0
"""The load generator of ``bench sidecar``: compiled once, run as server and client in a lab's hosts.

It is our own, as none that Debian or PyPI have does all of this: plain TCP and HTTP with bodies that are checked, one
way and both ways, from one connection to hundreds, in slices of a tenth of a second on connections that stay, and
latencies that count from when a request was due. (wrk and h2load speak HTTP alone, and wait for an answer before they
send what is due; netperf has one connection a process; sockperf has no HTTP, iperf3 no requests.)
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import Final, Literal

from lab.errors import HostError
from lab.fabric.apt import apt_install
from lab.fabric.bpf.headers import cache_folder
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode

__all__ = ["Client", "Load", "LoadGenerator", "Outcome", "Protocol", "compiled_load"]

Protocol = Literal["tcp", "http1", "http2", "stream"]

_SOURCE: Final = Path(__file__).with_suffix(".c")
_HTTP2: Final = _SOURCE.with_name("sidecar_http2.h")
_FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")
# An exchange takes part of a second; connecting hundreds of sockets through busy proxies some more.
_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What a client does: messages of so many bytes, on so many connections at once."""

    protocol: Protocol
    size: int
    connections: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an exchange: answers a second, how many there were before and after as well, latencies in us."""

    rate: float
    exchanged: int
    p50: float
    p99: float
    p999: float


class LoadGenerator:
    """Servers and clients in the hosts of one lab."""

    def __init__(self, lab: Lab, binary: Path) -> None:
        self._lab = lab
        self._binary = str(binary)

    def serve(self, host: NamespaceNode, address: str, port: int, protocol: Protocol, size: int) -> None:
        """Start a server that ends with the lab; raises HostError when it does not listen."""
        argv = (self._binary, "server", address, str(port), protocol, str(size))
        server = self._lab.programs.start(host, argv, output=subprocess.PIPE, errors=subprocess.STDOUT)
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        said = server.stdout.readline()
        if said != b"ready\n":
            raise HostError("a server of the benchmark does not start", value=said.decode(errors="replace").strip())

    def client(self, host: NamespaceNode, address: str, port: int, load: Load) -> Client:
        """Start a client that connects and waits to be told when; it ends with the lab, or when it is closed."""
        what = (address, str(port), load.protocol, str(load.size), str(load.connections))
        argv = (self._binary, "client", *what)
        return Client(self._lab.programs.start(host, argv, output=subprocess.PIPE, errors=subprocess.PIPE), what)


class Client:
    """A client that has connected."""

    def __init__(self, process: subprocess.Popen[bytes], what: Sequence[str]) -> None:
        self._process = process
        self._what = " ".join(what)

    def exchange(self, seconds: float, rate: float = 0) -> Outcome:
        """Exchange messages for so long; ``rate`` is how many are due a second, 0 as many as are answered.

        Raises HostError when the client has ended, or has no answer for a long time.
        """
        given, told = self._process.stdin, self._process.stdout
        assert given is not None  # noqa: S101 - both are pipes
        assert told is not None  # noqa: S101
        with suppress(BrokenPipeError):
            given.write(f"{seconds} {rate}\n".encode())
            given.flush()
        line = told.readline() if select([told], [], [], _SECONDS)[0] else b""
        if not line:
            raise HostError("a client of the benchmark has failed", place=self._what, value=self._complaint())
        return Outcome(**json.loads(line))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _complaint(self) -> str:
        self._process.kill()
        return self._process.communicate()[1].decode(errors="replace").strip() or "no answer"


def compiled_load() -> Path:
    """The program, compiled once for each version of its source and kept; raises HostError without a compiler."""
    source = _SOURCE.read_bytes() + _HTTP2.read_bytes()
    place = cache_folder() / "load" / hashlib.sha256(source + repr(_FLAGS).encode()).hexdigest()
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=".new-") as scratch:
        made = Path(scratch, "load")
        _compile(made)
        made.rename(place)
    return place


def _compile(into: Path) -> None:
    try:
        subprocess.run(("cc", *_FLAGS, "-o", str(into), str(_SOURCE)), capture_output=True, text=True, check=True)
    except FileNotFoundError as missing:
        step = apt_install("gcc", "libc6-dev")
        raise HostError("there is no C compiler for the load generator", next_step=step) from missing
    except subprocess.CalledProcessError as failed:
        first = next((line for line in failed.stderr.splitlines() if "error:" in line), failed.stderr.strip())
        step = apt_install("libc6-dev")
        raise HostError("the load generator does not compile", value=first, next_step=step) from failed
