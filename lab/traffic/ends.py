# SPDX-License-Identifier: Apache-2.0
"""The ends of a lab as the verdict engine uses them: which sockets a flow goes through, and with what addresses."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self

from lab.errors import TopologyError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.topology import Address, Flow, address_of
from lab.traffic.mmsg import BODY_AT
from lab.traffic.packets import ETHERNET_HEADER, IPV6_HEADER, Wire, stamp_of
from lab.traffic.taps import Sender, SocketSender, Tap, frame_tap, raw_sender, raw_tap, sockaddr
from lab.traffic.together import together
from lab.traffic.transport import TCP_PAYLOAD_AT
from lab.traffic.volley import Arrival, Load

__all__ = ["Ends", "NodePortOf"]

NodePortOf = tuple[str, int, int, int | None]
"""A node's name, a family, a protocol and a port."""

_NO_MAC: Final = bytes(6)
_LOOPBACK: Final = "lo"
_IPV4_SOURCE_AT: Final = ETHERNET_HEADER + 12
"""Where an IPv4 frame's addresses begin; before them, time to live and checksum change on the way."""
_PAYLOAD_AT: Final = ETHERNET_HEADER + IPV6_HEADER + TCP_PAYLOAD_AT
"""Behind the longest headers: what address translation leaves alone."""
_KEPT: Final = 1 << 14
"""Loads that are kept: a suite sends the same flows under many policies."""


class Ends:
    """Opens sockets at all workloads and externals, and at nodes as soon as a flow names them; a context manager."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._open: list[Tap | Sender] = []
        self._taps: dict[tuple[str, ...], Tap] = {}
        self._senders: dict[tuple[str, ...], Sender] = {}
        self._loads: dict[Hashable, Load] = {}
        self._latest: tuple[Hashable, Load] | None = None
        self._translated = False
        self._forwards: Mapping[NodePortOf, Arrival] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self.__exit__)
            ends = [(name, port.interface) for name, port in self._lab.ports.items()]
            together(partial(self._frames, *end) for end in ends)
            self._taps = {end: self._taps[end] for end in ends}  # they are looked at in the topology's order
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        together(each.close for each in self._open)
        self._open.clear()

    @property
    def taps(self) -> tuple[Tap, ...]:
        """All receiving sockets that are open."""
        return tuple(self._taps.values())

    @property
    def translated(self) -> bool:
        """Whether headers may change on the way."""
        return self._translated

    def translate(self, forwards: Mapping[NodePortOf, Arrival], *, translated: bool) -> None:
        """What comes to a node's port comes out at another end; ``translated``: headers may change on the way."""
        if (forwards, translated) != (self._forwards, self._translated):
            self._forwards, self._translated = forwards, translated
            self._loads.clear()
            self._latest = None

    def load(self, flow: Flow) -> Load:
        """Make a flow ready to be sent; raises TopologyError when one of its ends has no address in its family."""
        # What comes to a node's port may come out elsewhere; else a port is only stamped into the frame.
        port = flow.port if self._forwards else None
        key = (flow.source, flow.destination, flow.protocol, flow.family, flow.icmp, port)
        latest = self._latest
        if latest is not None and latest[0] == key:  # most flows go the way of the one before
            return latest[1]
        made = self._loads.get(key)
        if made is None:
            if len(self._loads) >= _KEPT:
                self._loads.clear()
            made = self._loads[key] = self._load(flow)
        self._latest = key, made
        return made

    def _load(self, flow: Flow) -> Load:
        wire, tap = self._wire(flow), self._tap(flow)
        start = BODY_AT if flow.family == 6 else _IPV4_SOURCE_AT
        start = _PAYLOAD_AT if self._translated else start
        return Load(
            sender=self._sender(flow),
            tap=tap,
            stamp=stamp_of(flow, wire),
            compare_from=max(start, tap.skip),
            sockaddr=sockaddr(wire.destination),
        )

    def arrive_at(self, flow: Flow) -> Arrival:
        """Where a flow comes out; a flow without ports has port 0."""
        to = (flow.destination, flow.family, flow.protocol, flow.port)
        return self._forwards.get(to) or (flow.destination, flow.port or 0)

    def _address(self, flow: Flow, name: str) -> Address:
        end = self._lab.topology.end(name)
        address = None if end is None else address_of(end, flow.family)
        if address is None:
            raise TopologyError(
                f"the flow's end {name} is not there or has no IPv{flow.family} address",
                place=flow.place,
                value=f"{flow.source} -> {flow.destination}",
                allowed="ends of the topology that have an address of the flow's family",
            )
        return address

    def _wire(self, flow: Flow) -> Wire:
        source, destination = self._address(flow, flow.source), self._address(flow, flow.destination)
        port = self._lab.ports.get(flow.source)
        if port is None or flow.source == flow.destination:
            return Wire(_NO_MAC, _NO_MAC, source, destination)
        return Wire(port.mac, port.gateway_mac, source, destination)

    def _sender(self, flow: Flow) -> Sender:
        """A workload sends frames; to itself it sends them on ``lo``, the only way that such packets ever go."""
        name = flow.source
        port = self._lab.ports.get(name)
        if port is None:
            return self._raw_sender(name, flow.family)
        self._frames(name, interface := _LOOPBACK if name == flow.destination else port.interface)
        return self._senders[name, interface]

    def _tap(self, flow: Flow) -> Tap:
        name, _ = self.arrive_at(flow)
        port = self._lab.ports.get(name)
        if port is None:
            return self._raw_tap(name, flow.family, flow.protocol)
        # By way of a node port a workload's own packet comes back over the wire.
        return self._frames(name, _LOOPBACK if name == flow.source == flow.destination else port.interface)

    def _frames(self, name: str, interface: str) -> Tap:
        key = (name, interface)
        if key not in self._taps:
            self._taps[key], self._senders[key] = _open_frames(name, self._lab.ports[name].host, interface)
            self._open.append(self._taps[key])
        return self._taps[key]

    def _raw_tap(self, name: str, family: int, protocol: int) -> Tap:
        key = (name, f"ip{family}", str(protocol))
        if key not in self._taps:
            self._taps[key] = _open_raw_tap(name, self._lab.nodes[name], family, protocol)
            self._open.append(self._taps[key])
        return self._taps[key]

    def _raw_sender(self, name: str, family: int) -> Sender:
        key = (name, f"ip{family}")
        if key not in self._senders:
            self._senders[key] = _open_raw_sender(name, self._lab.nodes[name], family)
            self._open.append(self._senders[key])
        return self._senders[key]


def _open_frames(name: str, host: NamespaceNode, interface: str) -> tuple[Tap, Sender]:
    """Both use one socket, which is closed with the tap."""
    if host.far is not None:
        from lab.traffic.far_ends import far_frames

        return far_frames(host.far, name, host, interface)
    tap = frame_tap(name, host, interface)
    return tap, SocketSender(name, tap.socket, 0)


def _open_raw_tap(name: str, node: NamespaceNode, family: int, protocol: int) -> Tap:
    if node.far is not None:
        from lab.traffic.far_ends import far_raw_tap

        return far_raw_tap(node.far, name, node, family, protocol)
    return raw_tap(name, node, family, protocol)


def _open_raw_sender(name: str, node: NamespaceNode, family: int) -> Sender:
    if node.far is not None:
        from lab.traffic.far_ends import far_raw_sender

        return far_raw_sender(node.far, name, node, family)
    return raw_sender(name, node, family)
