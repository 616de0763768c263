# SPDX-License-Identifier: Apache-2.0
"""A topology brought to life, and everything that it is made of taken away again.

All that a lab owns hangs on descriptors of this process: when it ends, by any signal at any moment, the kernel
takes the lab away. Building it spawns nothing; what it is built of is sent in one netlink batch a namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

from lab.errors import HostError
from lab.fabric.barrier import MARKER_TYPE, Barrier
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.namespaces import Traveller
from lab.fabric.plan import FORWARDING_SYSCTLS, QUIET_SYSCTLS, EndPort, Plan
from lab.fabric.readiness import wait_until_up
from lab.fabric.rtnetlink import Batch, Veth, request
from lab.topology import Topology

__all__ = ["EndPort", "Lab"]

LONGEST_PATH: Final = 4
"""Veth crossings from a workload to one on another node: to its node, to the underlay, to the other node, out."""

_SYSCTLS: Final = "/proc/sys/net/"
NETLINK_NETFILTER: Final = 12
"""linux/netlink.h; the socket module does not have it."""
_CONNTRACK_DELETE: Final = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_DELETE; without a filter it empties the table."""
_BARRIER_MACS: Final = bytes.fromhex("020000000002020000000001")


class Lab:
    """A context manager; raises HostError when the host cannot hold the lab, and then leaves nothing behind."""

    longest_path = LONGEST_PATH

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._plan = Plan(topology)
        self._stack = ExitStack()
        self._channels: dict[str, socket.socket] = {}
        self._conntracks: tuple[socket.socket, ...] = ()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise HostError("a lab can only be built by root", next_step="run the command as root (sudo)")
        with ExitStack() as stack:
            self._traveller = stack.enter_context(Traveller())
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def nodes(self) -> Mapping[str, NamespaceNode]:
        """The cluster's hosts, by name."""
        return {name: self._hosts[name] for name in self.topology.nodes}

    @property
    def hosts(self) -> Mapping[str, NamespaceNode]:
        """Every host of the lab that the topology names: nodes, workloads, externals."""
        return {name: host for name, host in self._hosts.items() if name}

    @property
    def underlay(self) -> NamespaceNode:
        """The router that joins nodes and externals."""
        return self._hosts[self._plan.underlay]

    @property
    def ports(self) -> Mapping[str, EndPort]:
        """Where each workload and external is attached, by name."""
        return self._ports

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Make workloads and externals deaf, so that the lab alone plays both sides of a flow.

        Their neighbours are told a hardware address that is not theirs: frames still come out at their
        interfaces, where AF_PACKET sees them, but are another host's to their own stack.
        """
        self._send(self._plan.neighbours(muted=True))
        try:
            yield
        finally:
            self._send(self._plan.neighbours(muted=False))

    def flush_conntrack(self) -> None:
        """Forget every tracked connection on every node."""
        for channel in self._conntracks:
            request(channel, _CONNTRACK_DELETE, struct.pack("=BBH", socket.AF_UNSPEC, 0, 0))

    def _build(self, stack: ExitStack) -> None:
        self._hosts: dict[str, NamespaceNode] = {}
        with ExitStack() as passing:
            for name, forwards in self._plan.namespaces():
                # Only where neighbours change later is the channel kept; the others go when the lab is built.
                owner = stack if name in self._plan.routers else passing
                self._create(name, forwards, stack, owner)
            descriptors = {name: host.namespace for name, host in self._hosts.items()}
            self._send(self._plan.build(descriptors))
            for router in self._plan.routers:
                wait_until_up(self._channels[router], self._plan.first_up(router))
        self._ports = {name: self._plan.port(name, self._hosts[name]) for name in self._plan.ends}
        self._conntracks = tuple(
            stack.enter_context(node.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
            for node in self.nodes.values()
        )
        self.barrier = self._barrier(stack)

    def _create(self, name: str, forwards: bool, stack: ExitStack, owner: ExitStack) -> None:
        """One namespace, its sysctls set before any interface is in it, and a netlink socket into it."""
        sysctls = (*QUIET_SYSCTLS, *(FORWARDING_SYSCTLS if forwards else ()))

        def furnish() -> socket.socket:
            for sysctl, value in sysctls:
                with open(_SYSCTLS + sysctl, "wb", buffering=0) as file:  # noqa: PTH123  (a tenth of a build is this)
                    file.write(value)
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

        namespace, channel = self._traveller.create(furnish)
        stack.callback(os.close, namespace)
        self._channels[name] = owner.enter_context(channel)
        self._hosts[name] = NamespaceNode(name or "underlay", self._traveller, namespace)

    def _send(self, batches: Mapping[str, Batch]) -> None:
        for name, batch in batches.items():
            batch.send(self._channels[name])

    def _barrier(self, stack: ExitStack) -> Barrier:
        """A namespace with a veth pair of its own."""
        self._create("", False, stack, stack)
        host = self._hosts.pop("")
        near, far = Veth("near", 2, _BARRIER_MACS[6:]), Veth("far", 3, _BARRIER_MACS[:6])
        batch = Batch()
        batch.veth(near, far, host.namespace)
        batch.up(near.index)
        batch.up(far.index)
        batch.send(self._channels[""])
        wait_until_up(self._channels[""], {near.index, far.index})
        ends = []
        for veth in (near, far):
            end = stack.enter_context(host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            end.bind((veth.name, MARKER_TYPE if veth is far else 0))
            ends.append(end)
        return Barrier(ends[0], ends[1], _BARRIER_MACS)
