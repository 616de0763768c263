# SPDX-License-Identifier: Apache-2.0
"""Floods of many millions of sources, made in the kernel: live frames of a BPF test run, sent at a veth's far end.

Every frame is valid, whatever source it has: its checksums are worked out beforehand. A flood is bounded by its number
of packets, and goes nowhere but over the one wire that it is given.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabError
from lab.fabric.bpf import BpfProgram, ProgramKind, load, run_live, shipped_bpf
from lab.fabric.lab import EndPort
from lab.protocols import TCP, UDP
from lab.topology import Address, Flow
from lab.traffic.checksum import words
from lab.traffic.packets import ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER
from lab.traffic.shapes import fragments
from lab.traffic.transport import ip_header, segment

__all__ = ["Flood", "FloodKind", "Sources", "Spent"]

FloodKind = Literal["udp", "syn", "fragments"]

Sources = NDArray[np.uint64] | tuple[NDArray[np.uint64], NDArray[np.uint64]]
"""IPv4 addresses as numbers, or upper and lower halves of IPv6 ones."""

_LIBC: Final = ctypes.CDLL(None)
# Frames that the kernel sends before it lets the receiver have its turn; a veth's ring holds 256.
_BATCH: Final = 64
# One system call sends so many, so that a flood in a thread can be told to stop.
_AT_ONCE: Final = 1 << 16
# At a given rate, the seconds for which packets are sent in one go: the kernel takes some hundredths to begin.
_PACE: Final = 0.1
_MOST: Final = 200_000_000
_UDP_SIZE, _TCP_SIZE = 26, 20
_CHECKSUM_AT: Final = {UDP: 6, TCP: 16}
_DESTINATION_AT: Final = {IPV4_HEADER: 16, IPV6_HEADER: 24}
_ETHERTYPES: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}


@dataclass(frozen=True, slots=True)
class Spent:
    """What sending took, the receiver's work on the same CPU included.

    ``seconds`` passed; ``busy`` is what a CPU worked: in the sending thread, and in the kernel's own thread that takes
    over when packets come too fast. Others on the machine lengthen the first, and hardly the second.
    """

    packets: int
    seconds: float
    busy: float

    @property
    def nanoseconds(self) -> float:
        """Of work for each packet."""
        return self.busy * 1e9 / self.packets


class Flood:
    """A flood to one address from many sources in turn; a context manager that holds its program and its sources.

    Raises BpfError and HostError as loading a program does; LabError when the number of sources is no power of two.
    """

    def __init__(self, sources: Sources, destination: Address, kind: FloodKind = "udp", port: int = 9) -> None:
        self._version = destination.version
        self._kind: FloodKind = kind
        self._packet, self._checksum_at = _packet(destination, kind, port)
        rows = _rows(sources, self._packet, self._version, TCP if kind == "syn" else UDP)
        if not len(rows) or len(rows) & (len(rows) - 1):
            raise LabError("sources of a flood must be a power of two", value=len(rows))
        name, discarding = f"flood_v{self._version}", f"discard_v{self._version}"
        table = f"sources_v{self._version}"
        kinds = dict.fromkeys((name, discarding), ProgramKind.XDP)
        self._loaded = load(shipped_bpf("flood.c"), kinds, sizes={table: len(rows), "table": 1})
        self._program, self._discarding = self._loaded.programs[name], self._loaded.programs[discarding]
        with self._loaded.maps[table].memory() as memory:
            memory[: rows.nbytes] = rows.tobytes()
        self._sources = len(rows)
        self._set_course(0, len(rows) - 1)
        self._set_course(1, self._checksum_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loaded.close()

    def narrow(self, sources: int) -> None:
        """Take the first of the sources in turn, so many, a power of two."""
        self._set_course(0, min(sources, self._sources) - 1)

    def send(self, port: EndPort, packets: int, seconds: float = 60.0, rate: float = 0.0) -> Spent:
        """Send so many packets from a veth's end to the other, at most so long; the caller's thread waits.

        ``rate`` is how many a second at most, none by default: as fast as the receiver takes them.
        """
        return port.host.inside(partial(self._send, self._program, port, packets, seconds, rate))

    def discard(self, port: EndPort, packets: int, seconds: float = 60.0) -> Spent:
        """Make so many packets as ``send`` does, and let none of them go: what the generator costs by itself."""
        return port.host.inside(partial(self._send, self._discarding, port, packets, seconds))

    def _send(self, program: BpfProgram, port: EndPort, packets: int, seconds: float, rate: float = 0.0) -> Spent:
        if not 0 < packets <= _MOST:
            raise LabError("no such number of packets", value=packets, allowed=f"1 to {_MOST}")
        frame = port.gateway_mac + port.mac + _ETHERTYPES[self._version] + self._packet
        sent = 0
        most = int(rate * _PACE) or _AT_ONCE
        with _on_one_cpu() as worked:
            start, before = time.perf_counter(), worked()
            while sent < packets and time.perf_counter() - start < seconds:
                number = min(most, packets - sent)
                run_live(program, frame, ifindex=port.ifindex, repeat=number, batch=_BATCH)
                sent += number
                if rate:
                    time.sleep(max(0.0, start + sent / rate - time.perf_counter()))
            return Spent(sent, time.perf_counter() - start, worked() - before)

    def _set_course(self, place: int, value: int) -> None:
        self._loaded.maps["course"].set(struct.pack("=I", place), struct.pack("=Q", value))


@contextmanager
def _on_one_cpu() -> Iterator[Callable[[], float]]:
    """Keep this thread on the CPU that it is on; gives the seconds that it and its helper in the kernel have worked."""
    allowed = os.sched_getaffinity(0)
    cpu = _LIBC.sched_getcpu()
    helper = _helper(cpu)
    os.sched_setaffinity(0, {cpu})
    try:
        yield lambda: time.thread_time() + helper()
    finally:
        os.sched_setaffinity(0, allowed)


def _helper(cpu: int) -> Callable[[], float]:
    """The seconds that the kernel's thread for late packets of a CPU has worked; none where it cannot be seen."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text(encoding="ascii").strip() == f"ksoftirqd/{cpu}":
                schedule = comm.with_name("schedstat")
                return lambda: int(schedule.read_text(encoding="ascii").split()[0]) / 1e9
        except (OSError, UnicodeDecodeError):
            continue  # a process that ended meanwhile, or one with another alphabet
    return lambda: 0.0


def _packet(destination: Address, kind: FloodKind, port: int) -> tuple[bytes, int]:
    """A packet from nowhere, and where in its frame the checksum of the transport stands."""
    nowhere = IPv4Address(0) if destination.version == 4 else IPv6Address(0)
    protocol = TCP if kind == "syn" else UDP
    size = _TCP_SIZE if kind == "syn" else _UDP_SIZE
    content = segment(Flow("", "", protocol, port, destination.version), nowhere, destination, size)
    packet = ip_header(nowhere, destination, protocol, size) + content.data
    header = IPV4_HEADER if destination.version == 4 else IPV6_HEADER
    if kind == "fragments":
        # The first of several: it has the ports, and the rest never comes.
        frame = bytes(12) + _ETHERTYPES[destination.version] + packet
        packet = fragments(frame, 16)[0][ETHERNET_HEADER:]
        header += 0 if destination.version == 4 else 8
    return packet, ETHERNET_HEADER + header + _CHECKSUM_AT[protocol]


def _rows(sources: Sources, packet: bytes, version: int, protocol: int) -> NDArray[Any]:
    """Each source with the checksums that belong to it, as the program's map has them."""
    if version == 6:
        high, low = sources
        words_of_both = [
            (half >> np.uint64(shift)) & np.uint64(0xFFFF) for half in (high, low) for shift in (0, 16, 32, 48)
        ]
        total = sum(words_of_both, np.full(len(high), _transport_sum(packet, IPV6_HEADER, protocol), np.uint64))
        rows = np.zeros(len(high), [("high", ">u8"), ("low", ">u8"), ("transport", ">u2"), ("padding", "V6")])
        rows["high"], rows["low"], rows["transport"] = high, low, _folded(total, protocol)
        return rows
    addresses = np.asarray(sources, np.uint64)
    own = (addresses >> np.uint64(16)) + (addresses & np.uint64(0xFFFF))
    rows = np.zeros(len(addresses), [("address", ">u4"), ("header", ">u2"), ("transport", ">u2")])
    header = packet[:10] + packet[12:IPV4_HEADER]
    rows["address"] = addresses
    rows["header"] = _folded(own + np.uint64(words(header)), TCP)
    rows["transport"] = _folded(own + np.uint64(_transport_sum(packet, IPV4_HEADER, protocol)), protocol)
    return rows


def _transport_sum(packet: bytes, header: int, protocol: int) -> int:
    """The words that the checksum covers, but for the source."""
    content = packet[header:]
    return words(packet[_DESTINATION_AT[header] : header]) + protocol + len(content) + words(content)


def _folded(total: NDArray[np.uint64], protocol: int) -> NDArray[np.uint64]:
    """Checksums that belong to sums of words; in UDP zero would mean that there is none."""
    folded = np.uint64(0xFFFF) - (total % np.uint64(0xFFFF))
    folded[folded == 0xFFFF] = 0
    if protocol == UDP:
        folded[folded == 0] = 0xFFFF
    return folded
