# SPDX-License-Identifier: Apache-2.0
"""What it takes to be compared with our way of bringing a lab up, and our way.

All are made from the same plan. The others need named namespaces: their names live in a private mount namespace that
goes with the thread that made it, whatever happens, so that the host's /run stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from lab.errors import HostError
from lab.fabric import settings
from lab.fabric.build import missing_settings
from lab.fabric.lab import Lab
from lab.fabric.namespace import aside
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.plan import plan
from lab.topology import Topology

__all__ = ["NAMES", "RUN", "NamedRival", "Picture", "Policylab", "Rival"]

Picture = frozenset[tuple[Any, ...]]
"""What stands in a lab's namespaces: interfaces, addresses, routes and neighbours, to be compared."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS: Final = 0x00020000
_MS_REC: Final = 1 << 14
_MS_PRIVATE: Final = 1 << 18
RUN: Final = Path("/run")
"""Each rival has its own, which goes with the rival's thread."""
NAMES: Final = RUN / "netns"
"""Where named namespaces are."""

_IFF_UP: Final = 1
_NUD_PERMANENT: Final = 0x80
_RT_TABLE_MAIN: Final = 254


class Rival(ABC):
    """A way to bring a lab up; ``down_ms`` is how long it took, each time, to be told that the lab is down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.down_ms: list[float] = []

    @abstractmethod
    def up_and_down(self) -> float:
        """Bring the lab up and take it down; returns the milliseconds that the first took."""

    @abstractmethod
    def picture(self) -> Picture:
        """Bring it up, look at what is there, take it down."""


class Policylab(Rival):
    """Ours: from the topology to a lab that is ready."""

    def __init__(self, topology: Topology) -> None:
        super().__init__("policylab")
        self._topology = topology

    def up_and_down(self) -> float:
        """A Lab, entered and left."""
        started = time.perf_counter()
        with Lab(self._topology):
            up = time.perf_counter()
        self.down_ms.append(_since(up))
        return (up - started) * 1e3

    def picture(self) -> Picture:
        """What a Lab has in it."""
        with Lab(self._topology) as lab:
            return _picture([lab.underlay, *lab.hosts.values()])


class NamedRival(Rival):
    """One whose namespaces have names: ``n0`` is the underlay, then nodes, then ends."""

    def __init__(self, name: str, topology: Topology) -> None:
        super().__init__(name)
        self.plan = plan(topology)
        self.of_routers, self.of_ends = aside(missing_settings)
        self.names = {host: f"n{at}" for at, host in enumerate((*self.plan.routers, *self.plan.ends))}

    def prepare(self) -> None:
        """What is done beforehand, outside of the time; files go below ``RUN``, and with it."""

    @abstractmethod
    def up(self) -> None:
        """Bring it up."""

    @abstractmethod
    def down(self) -> None:
        """Take it down."""

    def up_and_down(self) -> float:
        """In a thread, with which all names go."""
        return aside(self._timed)

    def picture(self) -> Picture:
        """In a thread, with which all names go."""
        return aside(self._seen)

    def _timed(self) -> float:
        _hide_run()
        self.prepare()
        started = time.perf_counter()
        self.up()
        up = time.perf_counter()
        self.down()
        self.down_ms.append(_since(up))
        return (up - started) * 1e3

    def _seen(self) -> Picture:
        _hide_run()
        self.prepare()
        with ExitStack() as stack:
            self.up()
            stack.callback(self.down)
            return _picture([self._node(host, stack) for host in self.names])

    def _node(self, host: str, stack: ExitStack) -> NamespaceNode:
        descriptor = os.open(NAMES / self.names[host], os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        return NamespaceNode(host or "underlay", descriptor)


def _since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1e3


def _hide_run() -> None:
    """Give this thread, and what it starts, a /run of its own: names made there go when the thread ends."""
    failed = (
        _LIBC.unshare(_CLONE_NEWNS)
        or _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        or _LIBC.mount(b"tmpfs", b"/run", b"tmpfs", 0, None)
    )
    if failed:
        what = f"this host refuses a private mount namespace: {os.strerror(ctypes.get_errno())}"
        raise HostError(what, next_step="run the command as root (sudo)")
    NAMES.mkdir()


def _picture(nodes: Iterable[NamespaceNode]) -> Picture:
    return frozenset(fact for node in nodes for fact in _facts(node))


def _facts(node: NamespaceNode) -> Iterator[tuple[Any, ...]]:
    wanted = settings.ROUTER.keys() | settings.END.keys()
    yield node.name, "settings", *sorted(node.inside(lambda: settings.read(wanted)).items())
    names = {link["index"]: link.get("ifname") for link in node.interfaces()}
    for link in node.interfaces():
        features = map(link.get, ("ifname", "address", "mtu", "num_tx_queues", "num_rx_queues"))
        yield node.name, "link", link["flags"] & _IFF_UP, *features
    for each in node.addresses():
        yield node.name, "address", names[each["index"]], each.get("address"), each["prefixlen"]
    for each in node.routes():
        if each.get("table") == _RT_TABLE_MAIN:
            yield node.name, "route", each.get("dst"), each["dst_len"], each.get("gateway"), names[each.get("oif")]
    for each in node.neighbours():
        if each["state"] == _NUD_PERMANENT:
            yield node.name, "neighbour", names[each["ifindex"]], each.get("dst"), each.get("lladdr")
