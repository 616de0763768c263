# SPDX-License-Identifier: Apache-2.0
"""What of a lab is in one kernel: its namespaces, and what is done to all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final

from lab.fabric.build import build
from lab.fabric.messages import Neighbour
from lab.fabric.namespace import aside, refused
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.netlink import Message
from lab.fabric.plan import Plan, PlannedPort

__all__ = ["Part"]

# An end whose neighbours take this for its address sees frames go by that are not for it (PACKET_OTHERHOST).
_NOBODY: Final = bytes.fromhex("02ffffffffff")

# Delete without a filter (IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK; struct nfgenmsg): all connections.
_FLUSH_CONNTRACK: Final = Message(1 << 8 | 2, 0, bytes(4), "to empty conntrack")


class Part:
    """Makes what a plan says, in this kernel; all of it is held by ``stack``. Raises HostError.

    Attributes:
        hosts: what it has made, and the ``given`` hosts, by name; the underlay is the one without a name.
        barrier: proves that all packets sent before in this kernel have come to their end.
        taps: the descriptors of wires to machines, by machine.
    """

    def __init__(self, plan: Plan, stack: ExitStack, given: Mapping[str, NamespaceNode]) -> None:
        self._plan = plan
        held = {name: node.descriptor for name, node in given.items()}
        try:
            self._built = aside(partial(build, plan, stack, held))
        except OSError as error:
            raise refused("to hold a lab", error.errno or 0) from error
        made = {name: NamespaceNode(name or "underlay", each) for name, each in self._built.namespaces.items()}
        self.hosts: Mapping[str, NamespaceNode] = made | dict(given)
        for host in self.hosts.values():
            stack.callback(host.release)
        self.barrier = self._built.barrier
        self.taps = self._built.taps

    def mute(self) -> None:
        """Make the workloads and externals deaf: routers send to them under an address that is not theirs."""
        self._address_ends(lambda _: _NOBODY)

    def unmute(self) -> None:
        """Let them hear again."""
        self._address_ends(lambda port: port.near.mac)

    def flush_conntrack(self) -> None:
        """Empty conntrack in all routers but the underlay, which has none."""
        for name, sockets in self._built.sockets.items():
            if name:
                sockets.netfilter.send((_FLUSH_CONNTRACK,))

    def _address_ends(self, mac_of: Callable[[PlannedPort], bytes]) -> None:
        """Tell the routers which MAC addresses workloads and externals have."""
        for router, sockets in self._built.sockets.items():
            ports = [port for name in self._plan.ends if (port := self._plan.ports[name]).far.host == router]
            sockets.route.send(
                [
                    Neighbour(port.far.ifindex, address, mac_of(port)).message()
                    for port in ports
                    for address in port.addresses
                ]
            )
