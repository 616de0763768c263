# SPDX-License-Identifier: Apache-2.0
"""A lab whose workloads talk through sockmap, or not: legs, paths, conversations, and single sockets to look at."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from dataplanes.sockmap import SockmapAccelerator
from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.load import load_resources
from lab.sidecar.mesh import Mesh
from lab.topology import Topology
from lab.topology.load import load_topology

HERE: Final = Path(__file__).parent
PYTHON: Final = (sys.executable, "-I", "-S")

TOPOLOGY: Final = """
name: sockmap
nodes: {node-1: {}, node-2: {}}
namespaces: {x: {}}
workloads:
  x/near: {node: node-1, sidecar: envoy}
  x/far: {node: node-1, sidecar: envoy, ports: [{name: tcp-talk, port: 7000}, {name: http, port: 8080}]}
  x/plain-near: {node: node-1}
  x/plain-far: {node: node-1}
  x/remote: {node: node-2, sidecar: envoy}
"""

LEGS: Final = ("veth-ipv4", "veth-ipv6", "loopback-ipv4", "loopback-ipv6")
ENVOY_LEGS: Final = ("envoys-ipv4", "envoys-ipv6")
"""In a world with a mesh: from the one to its sidecar, to the sidecar of the other, and to the other."""
TALK: Final = 7000
"""The port that sidecars carry without looking at what comes."""

Protocols = tuple[int, int]
"""Of the sockets that connect and of those that accept, as socket() takes them; 0 is TCP."""

PATHS: Final = ("plain", "joined", "redirected")
"""By TCP alone; on sockets that are in the map, but by TCP; through the map."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Between which hosts, and by which addresses, sockets are connected."""

    name: str
    near: str
    far: str
    address: str


def leg_of(lab: Lab, name: str, *, plain: bool = False) -> Leg:
    """One of LEGS or ENVOY_LEGS, or remote-ipv4 or -ipv6 between nodes; the like among those without sidecars."""
    kind, family = name.split("-")
    near, far = ("x/plain-near", "x/plain-far") if plain else ("x/near", "x/far")
    if kind == "remote":
        far = "x/remote"
    version = 4 if family == "ipv4" else 6
    address = next(str(each) for each in lab.ports[far].addresses if each.version == version)
    if kind == "loopback":
        near, address = far, "127.0.0.1" if version == 4 else "::1"
    return Leg(name, near, far, address)


class World:
    """A lab with an accelerator on each node, everybody admitted that has a sidecar; perhaps with the sidecars."""

    def __init__(self, lab: Lab, accelerators: Mapping[str, SockmapAccelerator], *, meshed: bool = False) -> None:
        self.lab = lab
        self.meshed = meshed
        self.accelerators = accelerators
        self.accelerator = accelerators["node-1"]

    def leg(self, name: str, *, plain: bool = False) -> Leg:
        return leg_of(self.lab, name, plain=plain)

    def counters(self) -> dict[str, int]:
        return dict(self.accelerator.evidence().counters)

    @contextmanager
    def path(self, path: str) -> Iterator[None]:
        """With the accelerator as the path wants it."""
        if path == "joined":
            self.accelerator.join_only()
        if path == "plain" and self.meshed:  # else there are workloads that have never asked for it
            self.accelerator.suspend()
        try:
            yield
        finally:
            self.accelerator.resume()

    @contextmanager
    def talkers(self, leg: Leg, patience: int = 60) -> Iterator[Talkers]:
        """Two programs that have conversations on the leg."""
        with ExitStack() as stack:
            yield Talkers(self.lab, leg, patience, stack, TALK if self.meshed else 0)

    @contextmanager
    def sockets(self, leg: Leg, port: int = 0, protocols: Protocols = (0, 0)) -> Iterator[Sockets]:
        """Connected sockets of programs in the leg's hosts, in this process's hands."""
        with ExitStack() as stack:
            yield Sockets(self.lab, leg, stack, port, protocols)


class Talkers:
    """Two programs that have conversations; see ``talker``."""

    def __init__(self, lab: Lab, leg: Leg, patience: int, stack: ExitStack, port: int) -> None:
        argv = (*PYTHON, str(HERE / "talker.py"), str(patience))
        self._ends = [lab.programs.start(lab.hosts[host], argv, output=subprocess.PIPE) for host in (leg.near, leg.far)]
        for end in self._ends:
            stack.callback(end.wait)
            stack.callback(end.stdin.close)  # type: ignore[union-attr]
        self._leg = leg
        self._number = 0
        self._port = self._ask(1, {"listen": leg.address, "port": port})["port"]

    def play(
        self, shapes: Sequence[Mapping[str, Any]], *, wide: int = 8
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Have conversations of these shapes, some at a time: what each end sent and received."""
        numbered = [dict(shape, number=self._number + place) for place, shape in enumerate(shapes)]
        self._number += len(shapes)
        order = {"play": numbered, "address": self._leg.address, "port": self._port, "wide": wide}
        for role in (0, 1):
            self._tell(role, order | {"role": role})
        near, far = (self._told(role)["ends"] for role in (0, 1))
        return list(zip(near, far, strict=True))

    def move(self, group: Path) -> None:
        """Put both programs into a cgroup."""
        for end in self._ends:
            (group / "cgroup.procs").write_text(str(end.pid))

    def _ask(self, role: int, order: Mapping[str, Any]) -> Any:
        self._tell(role, order)
        return self._told(role)

    def _tell(self, role: int, order: Mapping[str, Any]) -> None:
        stream = self._ends[role].stdin
        assert stream is not None
        stream.write(json.dumps(order).encode() + b"\n")
        stream.flush()

    def _told(self, role: int) -> Any:
        stream = self._ends[role].stdout
        assert stream is not None
        line = stream.readline()
        assert line, "one end of the conversations has failed"
        return json.loads(line)


class Sockets:
    """Makes pairs of connected sockets on a leg; ``port`` 0 lets the kernel choose where the far end listens."""

    def __init__(self, lab: Lab, leg: Leg, stack: ExitStack, port: int = 0, protocols: Protocols = (0, 0)) -> None:
        self.leg = leg
        self._stack = stack
        self._near, self._far = (self._broker(lab, host) for host in (leg.near, leg.far))
        self._protocols = dict(zip((self._near, self._far), protocols, strict=True))
        self._listener, self._port = self._order(self._far, "listen", port)

    def pair(self, own_port: int = 0) -> tuple[socket.socket, socket.socket]:
        """The one that connected, from a port of its own, and the one that was accepted."""
        near = self._order(self._near, "connect", self._port, own_port)[0]
        far = self._order(self._far, "accept", self._port)[0]
        for each in (near, far):
            each.settimeout(10)
        return near, far

    def attempt(self) -> socket.socket:
        """One that has begun to connect."""
        return self._order(self._near, "begin", self._port)[0]

    def waiting(self) -> bool:
        """Whether a connection has come that nobody has accepted yet."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def _broker(self, lab: Lab, host: str) -> socket.socket:
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            lab.programs.start(lab.hosts[host], (*PYTHON, str(HERE / "broker.py"), str(number)), descriptors=(number,))
        own.settimeout(10)
        self._stack.callback(own.close)
        return own

    def _order(self, broker: socket.socket, what: str, port: int, own_port: int = 0) -> tuple[socket.socket, int]:
        order = {
            "do": what,
            "address": self.leg.address,
            "port": port,
            "own": own_port,
            "protocol": self._protocols[broker],
        }
        broker.send(json.dumps(order).encode())
        message, descriptors, _, _ = socket.recv_fds(broker, 4096, 1)
        told = json.loads(message)
        if "errno" in told:
            raise OSError(told["errno"], os.strerror(told["errno"]))
        made = socket.socket(fileno=descriptors[0])
        self._stack.callback(made.close)
        return made, told["port"]


def topology(directory: Path) -> Topology:
    """The topology of the tests."""
    file = directory / "sockmap.yaml"
    file.write_text(TOPOLOGY, encoding="utf-8")
    return load_topology(file)


@contextmanager
def world(
    directory: Path, kind: type[SockmapAccelerator] = SockmapAccelerator, *, meshed: bool = False
) -> Iterator[World]:
    """A lab with that accelerator at work on both nodes, and with sidecars if it is to be meshed."""
    described = topology(directory)
    snapshots = compile_snapshots(described, load_resources((), described))
    with Lab(described) as lab, ExitStack() as stack:
        accelerators = {}
        for name, node in lab.nodes.items():
            accelerators[name] = accelerator = kind(node)
            stack.callback(accelerator.stop)
            accelerator.start()
            accelerator.prepare(snapshots[name])
            accelerator.apply(snapshots[name])
        if meshed:
            stack.enter_context(Mesh(lab))
        yield World(lab, accelerators, meshed=meshed)


def wrong(outcomes: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """What is not as it should be: bytes that did not arrive whole and in order, or ends that failed."""
    found = []
    for place, (near, far) in enumerate(outcomes):
        found += [f"{place}: {error}" for error in (*near["errors"], *far["errors"])]
        found += [
            f"{place}: {way[0]} sent {sender['sent']}, {way[1]} received {receiver['received']}"
            for way, sender, receiver in ((("near", "far"), near, far), (("far", "near"), far, near))
            if sender["sent"] != receiver["received"]
        ]
    return found


SIZES: Final = st.one_of(st.sampled_from([1, 64, 100, 1000, 4096, 16384, 65536]), st.integers(1, 1_000_000))


@st.composite
def turns(draw: st.DrawFn) -> list[Any]:
    """Who says how much, in writes of which size, after which pause, and whether it waits for what is due."""
    said = []
    for _ in range(draw(st.integers(1, 8))):
        size = draw(SIZES)
        piece = max(size // draw(st.sampled_from([1, 1, 3, 17, 200])), 1)
        said.append([draw(st.integers(0, 1)), size, piece, draw(st.sampled_from([0, 0, 0.0005])), draw(st.booleans())])
    return said


READERS: Final = st.tuples(
    st.sampled_from(["block", "poll", "edge", "waitall"]),
    st.sampled_from([1000, 16384, 65536, 262144]),
    st.sampled_from([4096, 100_000]),
    st.sampled_from([0, 0, 0.0005]),
)

SHAPES: Final = st.fixed_dictionaries(
    {
        "turns": turns(),
        "readers": st.tuples(READERS, READERS),
        "early": st.tuples(st.just(value=True), st.booleans()),
    }
)
"""Conversations without their numbers; see ``talker``."""
