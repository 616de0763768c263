# SPDX-License-Identifier: Apache-2.0
"""The rival pyroute2 as most use it: an ``IPRoute`` for each namespace and one call for each object.

Like ``ip -batch`` it need not wait until the lab is ready and makes no barrier.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from lab.bench.fabric_rival import NAMES, NamedRival
from lab.fabric import settings
from lab.fabric.messages import LOOPBACK, Deed, Interface, Neighbour, OwnAddress, Route, Wire
from lab.fabric.namespace import in_namespace
from lab.topology import Topology

__all__ = ["Pyroute2"]

_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
# Chosen indexes stay clear of those that the kernel chooses.
_ABOVE: Final = 1 << 16
_IFA_F_NODAD: Final = 2
_NUD_PERMANENT: Final = 0x80
_RTNH_F_ONLINK: Final = 4


class Pyroute2(NamedRival):
    """One call an object."""

    def __init__(self, topology: Topology) -> None:
        super().__init__("pyroute2", topology)
        self._stack = ExitStack()

    def up(self) -> None:
        """Bring it up, or leave nothing."""
        from pyroute2 import IPRoute, netns

        with ExitStack() as stack:
            routes: dict[str, Any] = {}
            for host, name in self.names.items():
                netns.create(name)
                stack.callback(netns.remove, name)
                routes[host] = stack.enter_context(IPRoute(netns=name))
                self._set(name, self.of_routers if host in self.plan.routers else self.of_ends)
            self._fill(routes)
            self._stack = stack.pop_all()

    def _fill(self, routes: dict[str, Any]) -> None:
        indexes = {LOOPBACK: LOOPBACK}
        for step in self.plan.steps:
            for wire in step.wires:
                self._wire(wire, routes, indexes)
            for deed in step.deeds:
                _do(routes[step.host], deed, indexes[deed.ifindex])

    def _wire(self, wire: Wire, routes: dict[str, Any], indexes: dict[int, int]) -> None:
        """Make a wire; the far end's index cannot be chosen, so it is asked for."""
        route, near, far = routes[wire.near.host], wire.near, wire.far
        peer = _end(far, wire.mtu) | {"net_ns_fd": self.names[far.host]}
        index = indexes[near.ifindex] = near.ifindex + _ABOVE
        route.link("add", kind="veth", index=index, peer=peer, **_end(near, wire.mtu))
        route.link("set", index=index, state="up")
        indexes[far.ifindex] = routes[far.host].link("get", ifname=far.name)[0]["index"]

    def down(self) -> None:
        """Remove the namespaces, one by one."""
        self._stack.close()

    def _set(self, name: str, wanted: dict[str, str]) -> None:
        with (NAMES / name).open("rb") as held:
            in_namespace(held.fileno(), partial(settings.write, wanted))


def _end(end: Interface, mtu: int) -> dict[str, Any]:
    return {"ifname": end.name, "address": end.mac.hex(":"), "mtu": mtu, "num_tx_queues": 1, "num_rx_queues": 1}


def _do(route: Any, deed: Deed, index: int) -> None:
    if isinstance(deed, OwnAddress):
        mask = deed.address.max_prefixlen
        route.addr("add", index=index, address=str(deed.address), prefixlen=mask, flags=_IFA_F_NODAD)
    elif isinstance(deed, Neighbour):
        to = {"dst": str(deed.address), "lladdr": deed.mac.hex(":"), "family": _FAMILY[deed.address.version]}
        route.neigh("replace", ifindex=index, state=_NUD_PERMANENT, **to)
    elif isinstance(deed, Route):
        route.route("add", oif=index, **_way(deed))
    else:
        route.link("set", index=index, state="up")


def _way(deed: Route) -> dict[str, Any]:
    known = deed.address or deed.gateway
    way: dict[str, Any] = {"family": _FAMILY[known.version] if known else 0, "dst": "default", "proto": "static"}
    if deed.address is not None:
        way["dst"] = f"{deed.address}/{deed.address.max_prefixlen}"
    if deed.gateway is None:
        return way | {"scope": "link"}
    return way | {"gateway": str(deed.gateway), "flags": _RTNH_F_ONLINK}
