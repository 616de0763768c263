# SPDX-License-Identifier: Apache-2.0
"""Plays conversations: the lab speaks for both ends, one packet at a time, and sees what becomes of each.

Between two packets nothing is waited for but the barrier. Conntrack is emptied before the first packet and never after:
what was said before is what these verdicts depend on.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from os import strerror
from types import TracebackType
from typing import Final, Self

from lab.errors import LabError, TopologyError
from lab.fabric.lab import Lab
from lab.protocols import UDP
from lab.topology import Address, Flow
from lab.traffic.conversation import Conversation, Line, address_named, flow_of
from lab.traffic.losses import ConntrackDrops, LossMeter
from lab.traffic.observation import Observation, Reason
from lab.traffic.packets import ETHERNET_HEADER, Wire, group_mac
from lab.traffic.prober import one_cpu
from lab.traffic.reassembly import Seen, whole
from lab.traffic.speech import Speech
from lab.traffic.taps import RECEIVE_BUFFER, SocketSender, raw_sender, raw_tap
from lab.traffic.together import together
from lab.traffic.tracked import Tracked, tracked

__all__ = ["Player"]

_ROOM: Final = 1 << 16
_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_RCVBUFFORCE: Final = 33


@dataclass(frozen=True, slots=True)
class _Tap:
    """Where packets come out at an end; ``skip`` bytes of a frame's start are left away."""

    socket: socket.socket
    skip: int


class Player:
    """A context manager that owns sockets at the ends of a lab, which must be mute (``Lab.mute``).

    Not to be shared by threads, nor to be used while a prober sends.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stack = ExitStack()
        self._taps: dict[tuple[str, int, int], _Tap] = {}
        self._senders: dict[tuple[str, int], SocketSender] = {}
        self._silent: set[tuple[Address, int]] = set()
        self._speeches: dict[int, Speech] = {}

    def __enter__(self) -> Self:
        for name, host in self._lab.hosts.items():
            if host.far is not None:
                raise LabError("conversations are not played where a node is a machine", place=f"node {name}")
        with ExitStack() as stack:
            self._drops = {name: ConntrackDrops(node) for name, node in self._lab.nodes.items()}
            for drops in self._drops.values():
                stack.callback(drops.close)
            stack.callback(self._close_frames)
            for name in self._lab.ports:
                self._frames(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin(self, conversations: Mapping[int, Conversation]) -> None:
        """Forget what was said before, also in conntrack; the conversations are known by these numbers from now on.

        Raises TopologyError when an end is not in the topology or lacks an address of the family.
        """
        self._lab.flush_conntrack()
        self._speeches = {number: self._speech(each) for number, each in conversations.items()}
        for speech in self._speeches.values():
            opening, ports = speech.conversation.opening, speech.conversation.ports
            for name, address, port in zip((opening.source, opening.destination), speech.ends, ports, strict=True):
                if name in self._lab.nodes and opening.protocol == UDP:
                    self._keep_silent(name, address, port)

    def say(self, number: int, line: Line) -> Observation:
        """Send one packet of a conversation, and tell what became of it."""
        speech = self._speeches[number]
        flow = flow_of(speech.conversation, line)
        wire = self._wire(speech.conversation, flow, line)
        frames = speech.frames(line, wire)
        taps = self._taps_of(flow, line)
        with one_cpu() as cpu:
            self._discard()
            meter = LossMeter(self._drops, cpu, self._lab.losses)
            refused = self._send(flow.source, flow.family, frames, wire.destination)
            settled = self._lab.settle()
            seen, end = self._seen(taps, frames)
            losses = None if seen is Seen.WHOLE else meter.losses()  # what has arrived was not lost
        if seen is Seen.WHOLE:
            speech.heard(line)
        return self._observed(seen, end, refused=refused, settled=settled, losses=losses)

    def tracked(self) -> Mapping[str, tuple[Tracked, ...]]:
        """What each node's conntrack holds, by node."""
        return {name: tracked(node) for name, node in self._lab.nodes.items()}

    def _observed(
        self, seen: Seen, end: str, *, refused: int, settled: bool, losses: tuple[Reason, str] | None
    ) -> Observation:
        if seen is Seen.WHOLE:
            return Observation("allow", arrived=end)
        if seen is Seen.PART:
            return Observation("inconclusive", arrived=end, reason=Reason.ALTERED, detail=f"in part, at {end}")
        if refused:
            return Observation("inconclusive", sent=False, reason=Reason.NOT_SENT, detail=strerror(refused))
        if not settled:
            return Observation("inconclusive", reason=Reason.NOT_SETTLED)
        if losses is not None:
            return Observation("inconclusive", reason=losses[0], detail=losses[1])
        return Observation("deny")

    def _speech(self, conversation: Conversation) -> Speech:
        opening = conversation.opening
        ends = tuple(self._address(conversation, name) for name in (opening.source, opening.destination))
        return Speech(conversation, (ends[0], ends[1]))

    def _address(self, conversation: Conversation, name: str) -> Address:
        address = address_named(name, conversation.opening.family, self._lab.topology)
        if address is None:
            raise TopologyError("an end that is not there, or not in this family", place=conversation.place, value=name)
        return address

    def _wire(self, conversation: Conversation, flow: Flow, line: Line) -> Wire:
        """The way of a packet, with the addresses that it bears: its sender's and its receiver's unless told."""
        ends = [
            self._address(conversation, name)
            for name in (line.source or flow.source, line.destination or flow.destination)
        ]
        port = self._lab.ports.get(flow.source)
        if port is None:
            return Wire(bytes(6), bytes(6), *ends)
        return Wire(port.mac, group_mac(ends[1]) or port.gateway_mac, *ends)

    def _send(self, name: str, family: int, frames: list[bytes], to: Address) -> int:
        """The error of the first frame that the kernel did not take, 0 for none; EPERM of a node is a verdict."""
        on_wire = name in self._lab.ports
        sender = self._taps[name, 0, 0].socket if on_wire else self._sender(name, family).socket
        for frame in frames:
            try:
                if on_wire:
                    sender.send(frame)
                else:
                    sender.sendto(frame[ETHERNET_HEADER:], (str(to), 0))
            except PermissionError:
                return 0
            except OSError as error:
                return error.errno or 0
        return 0

    def _seen(self, taps: Mapping[str, _Tap], frames: list[bytes]) -> tuple[Seen, str]:
        """The most that came out at any of these ends, and at which."""
        found = (Seen.NOTHING, "")
        for name, tap in taps.items():
            received: list[bytes] = []
            with suppress(BlockingIOError):
                while True:
                    received.append(tap.socket.recv(_ROOM, socket.MSG_DONTWAIT))
            seen = whole(frames, received, tap.skip)
            if seen is Seen.WHOLE or (seen is Seen.PART and found[0] is Seen.NOTHING):
                found = (seen, name)
        return found

    def _discard(self) -> None:
        for tap in self._taps.values():
            with suppress(BlockingIOError):
                while True:
                    tap.socket.recv(_ROOM, socket.MSG_DONTWAIT)

    def _close_frames(self) -> None:
        together(tap.socket.close for (name, _, _), tap in self._taps.items() if name in self._lab.ports)

    def _frames(self, name: str) -> None:
        """One socket for frames of any length, out and in; those of the prober have room for its own only."""
        port = self._lab.ports[name]
        sock = port.host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._taps[name, 0, 0] = _Tap(sock, 0)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        sock.bind((port.interface, _ETH_P_ALL))

    def _taps_of(self, flow: Flow, line: Line) -> Mapping[str, _Tap]:
        """Where a packet may come out: at its receiver, or wherever it is addressed to, at any end at all."""
        names = [flow.destination] if line.destination is None else [flow.destination, *self._lab.ports]
        return {name: self._tap(name, flow.family, flow.protocol) for name in names}

    def _tap(self, name: str, family: int, protocol: int) -> _Tap:
        """Where a packet to an end comes out."""
        if name in self._lab.ports:
            return self._taps[name, 0, 0]
        key = (name, family, protocol)
        if key not in self._taps:
            tap = raw_tap(name, self._lab.nodes[name], family, protocol)
            self._taps[key] = _Tap(self._stack.enter_context(tap.socket), tap.skip)
        return self._taps[key]

    def _sender(self, name: str, family: int) -> SocketSender:
        if (name, family) not in self._senders:
            self._senders[name, family] = made = raw_sender(name, self._lab.nodes[name], family)
            self._stack.callback(made.close)
        return self._senders[name, family]

    def _keep_silent(self, name: str, address: Address, port: int) -> None:
        """Have a node not answer what comes to one of its UDP ports: somebody is there, who says nothing."""
        if (address, port) in self._silent:
            return
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        sock = self._stack.enter_context(self._lab.nodes[name].socket(family, socket.SOCK_DGRAM))
        sock.bind((str(address), port))
        self._silent.add((address, port))
