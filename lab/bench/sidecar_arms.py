# SPDX-License-Identifier: Apache-2.0
"""What ``bench sidecar`` compares: the same two labs several times over, with and without acceleration.

Each arm has labs of its own, for Envoys keep their connections: those that one arm made must not serve another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from dataplanes.api import BpfSource
from dataplanes.iptables import IptablesDataplane
from dataplanes.sockmap import SockmapAccelerator
from lab.bench.sidecar_load import Client, Load, LoadGenerator, Outcome, Protocol
from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.sidecar.mesh import Mesh
from lab.topology import Topology

__all__ = ["ARMS", "Arm", "Cell", "Figures", "NaiveSockmap", "Way", "open_arm"]

Way = Literal["loopback", "veth", "envoy"]

_NODE, _CLIENT, _SERVER = "node-1", "x/client", "x/server"
# Envoy looks at what comes to these ports, or does not, by the names that the topology gives them.
PORTS: Final[Mapping[Protocol, int]] = {"tcp": 7000, "http1": 8000, "http2": 8500, "stream": 9000}


class NaiveSockmap(SockmapAccelerator):
    """A redirect without any condition: what being right costs is measured against it. It loses bytes."""

    name: ClassVar[str] = "naive"
    program: ClassVar[BpfSource] = BpfSource(SockmapAccelerator.program.path, (("NAIVE", "1"),))


def _joined(accelerator: SockmapAccelerator) -> None:
    accelerator.join_only()


def _as_it_is(_: SockmapAccelerator) -> None:
    """Redirecting, as it has started."""


ARMS: Final[Mapping[str, tuple[type[SockmapAccelerator], Callable[[SockmapAccelerator], None]]]] = {
    "plain": (SockmapAccelerator, SockmapAccelerator.suspend),
    "joined": (SockmapAccelerator, _joined),
    "sockmap": (SockmapAccelerator, _as_it_is),
    "naive": (NaiveSockmap, _as_it_is),
}
"""By TCP alone; on sockets in the map, but by TCP; accelerated; redirected without conditions."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load on one way."""

    way: Way
    load: Load

    @property
    def name(self) -> str:
        """The cell in a few words."""
        return f"{self.way} {self.load.protocol} {self.load.size} B x{self.load.connections}"


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: answers a second; for each, microseconds of CPU and bytes on interfaces and through the map."""

    rate: float
    cpu: float
    stack_bytes: float
    map_bytes: float


class Arm:
    """One arm's labs: in one the applications talk to one another, in the other there are Envoys between."""

    def __init__(self, sides: Mapping[bool, _Side]) -> None:
        self._sides = sides

    @contextmanager
    def running(self, cell: Cell) -> Iterator[Running]:
        """With a client of the cell connected."""
        side = self._sides[cell.way == "envoy"]
        client = side.client(cell)
        try:
            yield Running(side, client)
        finally:
            client.close()


class Running:
    """A client on its connections."""

    def __init__(self, side: _Side, client: Client) -> None:
        self._side = side
        self._client = client

    def measure(self, seconds: float) -> Figures:
        """Ask as fast as answers come, and see what it takes."""
        before = self._side.taken()
        outcome = self._client.exchange(seconds)
        cpu, stack, mapped = (after - first for after, first in zip(self._side.taken(), before, strict=True))
        answers = max(outcome.exchanged, 1)
        return Figures(outcome.rate, cpu / answers, stack / answers, mapped / answers)

    def latencies(self, seconds: float, rate: float) -> Outcome:
        """Ask so many times a second, whatever comes back."""
        return self._client.exchange(seconds, rate)


@contextmanager
def open_arm(name: str, topology: Topology, binary: Path) -> Iterator[Arm]:
    """Bring both labs of an arm up; raises HostError where this host cannot."""
    with ExitStack() as stack:
        yield Arm({proxied: _side(name, topology, binary, stack, proxied=proxied) for proxied in (False, True)})


def _side(name: str, topology: Topology, binary: Path, stack: ExitStack, *, proxied: bool) -> _Side:
    kind, prepare = ARMS[name]
    lab = stack.enter_context(Lab(topology))
    snapshot = compile_snapshots(topology, Resources())[_NODE]
    # What goes over a veth passes the node, and a node has a dataplane: here one without policy, on every arm alike.
    dataplane = IptablesDataplane(lab.nodes[_NODE])
    stack.callback(dataplane.stop)
    dataplane.start()
    dataplane.apply(snapshot)
    accelerator = kind(lab.nodes[_NODE])
    stack.callback(accelerator.stop)
    accelerator.start()
    accelerator.apply(snapshot)
    prepare(accelerator)
    if proxied:
        stack.enter_context(Mesh(lab, tls=False))
    return _Side(lab, accelerator, LoadGenerator(lab, binary))


class _Side:
    """One lab, its accelerator, and the servers that were asked for so far."""

    def __init__(self, lab: Lab, accelerator: SockmapAccelerator, generator: LoadGenerator) -> None:
        self._lab = lab
        self._accelerator = accelerator
        self._generator = generator
        self._address = next(str(each) for each in lab.ports[_SERVER].addresses if each.version == 4)
        self._servers: dict[Load, int] = {}

    def client(self, cell: Cell) -> Client:
        """A client with its connections made."""
        near = cell.way == "loopback"
        host = self._lab.hosts[_SERVER if near else _CLIENT]
        return self._generator.client(host, "127.0.0.1" if near else self._address, self._port(cell.load), cell.load)

    def _port(self, load: Load) -> int:
        """Where that load is served, on all addresses, and no other: a server may sleep on an only connection.

        Envoy keeps such a one when its client has gone, and a server would not look for others.
        """
        if load not in self._servers:
            port = PORTS[load.protocol] + sum(load.protocol == other.protocol for other in self._servers)
            host = self._lab.hosts[_SERVER]
            self._generator.serve(host, "0.0.0.0", port, load.protocol, load.size)  # noqa: S104 - of a namespace
            self._servers[load] = port
        return self._servers[load]

    def taken(self) -> tuple[int, int, int]:
        """Microseconds of CPU, bytes on interfaces and through the map, since the lab began."""
        cgroup = self._lab.programs.cgroup
        assert cgroup is not None  # noqa: S101 - the accelerator has started
        lines = dict(line.split() for line in (cgroup / "cpu.stat").read_text(encoding="ascii").splitlines())
        carried = sum(self._lab.hosts[name].carried() for name in (_CLIENT, _SERVER))
        return int(lines["usage_usec"]), carried, self._accelerator.evidence().counters["redirected.bytes"]
