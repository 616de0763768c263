# SPDX-License-Identifier: Apache-2.0
"""Filters without a lab, the frames they are tried on, and what both sides of a comparison are made of."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, NoReturn

import numpy as np
from hypothesis import strategies as st
from xdp_model import WITH_PORTS, Model, Net, Rules

from dataplanes.api import BpfObject, BpfSource, PortRange, ProgramKind
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.lists import Kind
from dataplanes.xdp.plan import CLASSES, Condition, InterfacePlan, Source
from lab.fabric.bpf import load
from lab.topology import Flow
from lab.traffic.packets import Wire, frame_of
from lab.traffic.shapes import Extension, Tag, extended, fragments, tagged, with_options

XDP_DROP, XDP_PASS = 1, 2

# Sources at the borders of what a list may hold: every length, first and last address, neighbours on both sides.
LENGTHS = {
    4: (1, 8, 13, 16, 17, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32),
    6: (3, 16, 17, 28, 31, 32, 33, 40, 46, 47, 48, 58, 59, 64, 65, 96, 127, 128),
}
BITS = {4: 32, 6: 128}


class BareNode:
    """As much of a node as a filter needs that is never attached."""

    name = "bare"

    def __init__(self, source: BpfSource | None = None, *, keep: bool = False) -> None:
        self._source = source
        self._keep = keep
        self._kept: list[BpfObject] = []

    def load_bpf(self, source: BpfSource, kinds: Mapping[str, ProgramKind], **more: Any) -> BpfObject:
        """With ``keep``, what the filter has done with stays until ``close``: somebody may still run it."""
        loaded = load(self._source or source, kinds, **more)
        if self._keep:
            self._kept.append(loaded)
            loaded.close = lambda: None
        return loaded

    def close(self) -> None:
        for loaded in self._kept:
            BpfObject.close(loaded)

    def attach_xdp(self, *_: object) -> NoReturn:
        raise AssertionError("this filter is not to be attached")


def plan_for(rules: Rules) -> InterfacePlan:
    """The plan that says what the rules say."""
    ports = (
        *((LAYOUT["FAILSAFE_INBOUND"], each) for each in rules.failsafe_inbound),
        *((LAYOUT["FAILSAFE_ANSWER"], each) for each in rules.failsafe_answers),
    )
    return InterfacePlan(
        (Source("list", frozenset(rules.plain), None),),
        tuple(
            (Source("", frozenset({net}), None), Condition(protocol, tuple(PortRange(*each) for each in ranges)))
            for net, protocol, ranges in rules.conditional
        ),
        frozenset((CLASSES[protocol], side, port) for side, (protocol, port) in ports),
    )


def filter_for(rules: Rules, kind: Kind | None = None, source: BpfSource | None = None) -> InterfaceFilter:
    """A filter that nothing is attached to."""
    return InterfaceFilter(BareNode(source), "eth0", plan_for(rules), kind, attached=False)


def program_of(bare: InterfaceFilter) -> Any:
    """Its program."""
    (program,) = bare._loaded.programs.values()
    return program


def wrong(bare: InterfaceFilter, rules: Rules, frames: Sequence[bytes]) -> list[bytes]:
    """The frames on which filter and model disagree."""
    model = Model(rules)
    verdicts = program_of(bare).returns(frames)
    assert set(verdicts) <= {XDP_DROP, XDP_PASS}
    return [
        frame for frame, verdict in zip(frames, verdicts, strict=True) if (verdict == XDP_DROP) != model.dropped(frame)
    ]


def nets(versions: Iterable[int] = (4, 6)) -> st.SearchStrategy[Net]:
    """Networks of all lengths, many of them near each other, so that some contain others."""

    def make(version: int) -> st.SearchStrategy[Net]:
        bits = BITS[version]
        near = (203 << 24) if version == 4 else (0x2001_0DB8 << 96)
        values = st.one_of(
            st.integers(0, (1 << bits) - 1), st.integers(0, 4095).map(lambda low: near | low),
            st.integers(0, 4095).map(lambda low: near | low << bits // 2 - 8),
        )  # fmt: skip
        lengths = st.one_of(st.sampled_from(LENGTHS[version]), st.integers(1, bits))

        def net(pair: tuple[int, int]) -> Net:
            value, length = pair
            kind = IPv4Address if version == 4 else IPv6Address
            return ip_network((kind(value >> (bits - length) << (bits - length)), length))

        return st.tuples(values, lengths).map(net)

    return st.sampled_from(tuple(versions)).flatmap(make)


def edges(listed: Iterable[Net]) -> Iterator[bytes]:
    """First and last address of each network, and their neighbours outside."""
    for net in listed:
        first, last, top = int(net.network_address), int(net.broadcast_address), (1 << net.max_prefixlen) - 1
        for value in {first, last, max(first - 1, 0), min(last + 1, top)}:
            yield value.to_bytes(net.max_prefixlen // 8)


PORTS = (22, 53, 67, 79, 80, 81, 1024, 65535)


@cache
def shapes() -> tuple[bytes, ...]:
    """Valid frames of every protocol, family and shape."""
    macs = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
    ends = {
        4: (IPv4Address("203.0.113.9"), IPv4Address("198.18.0.2")),
        6: (IPv6Address("2001:db8::9"), IPv6Address("fd00::2")),
    }
    plain = [
        frame_of(Flow("a", "b", protocol, port, version, source_port=source), Wire(*macs, *ends[version]), 7)
        for version in (4, 6) for protocol in (*WITH_PORTS, 136)
        for port, source in ((80, 40000), (22, 40000), (3000, 53))
    ]  # fmt: skip
    plain += [
        frame_of(Flow("a", "b", protocol, None, version), Wire(*macs, *ends[version]), 7)
        for version in (4, 6) for protocol in (1, 58, 253)
    ]  # fmt: skip
    made = list(plain)
    for frame in plain:
        if frame[12:14] == b"\x08\x00":
            made += [with_options(frame, b"\x01" * count) for count in (1, 20, 40)]
        else:
            made += [
                extended(frame, *chain)
                for chain in (
                    (Extension(0),), (Extension(60), Extension(43, bytes(30))), (Extension(51),), (Extension(44),),
                    (Extension(0), Extension(60), Extension(43), Extension(44), Extension(51), Extension(60)),
                    (Extension(60),) * 8, (Extension(60),) * 9,
                )
            ]  # fmt: skip
        made += fragments(frame, 40)
    made += [short(frame) for frame in plain]
    tags = ((Tag(0, 5),), (Tag(5),), (Tag(0, 5, service=True), Tag(0)), (Tag(0), Tag(7)), (Tag(0),) * 3)
    made += [tagged(frame, *each) for frame in made for each in tags]
    return (*made, macs[0] + macs[1] + b"\x08\x06" + bytes(46), bytes(14))


def short(frame: bytes) -> bytes:
    """The frame with two bytes behind its IP header, as this states, and padding behind them."""
    if frame[12:14] == b"\x08\x00":
        return frame[:16] + (22).to_bytes(2) + frame[18:36] + bytes(24)
    return frame[:18] + (2).to_bytes(2) + frame[20:56] + bytes(4)


def mutated(generator: random.Random, sources: Sequence[bytes], number: int) -> list[bytes]:
    """Frames of every shape with other sources and ports, bytes changed, cut short."""
    known, made = shapes(), []
    for _ in range(number):
        frame = bytearray(generator.choice(known))
        start = 14
        while start < 26 and bytes(frame[start - 2 : start]) in (b"\x81\x00", b"\x88\xa8"):
            start += 4
        source = generator.choice(sources)
        at = start + (12 if len(source) == 4 else 8)
        if frame[start - 2 : start] == (b"\x08\x00" if len(source) == 4 else b"\x86\xdd"):
            frame[at : at + len(source)] = source
        dice = generator.random()
        if dice < 0.5:
            for _ in range(generator.randrange(1, 4)):
                frame[generator.randrange(12, min(len(frame), 110))] = generator.randrange(256)
        if dice < 0.15:
            del frame[generator.randrange(14, len(frame) + 1) :]
        made.append(bytes(frame))
    return made


def shapes_from(sources: Iterable[bytes]) -> list[bytes]:
    """A plain frame from each source."""
    made = []
    for source in sources:
        plain = shapes()[0] if len(source) == 4 else next(each for each in shapes() if each[12:14] == b"\x86\xdd")
        at = 26 if len(source) == 4 else 22
        made.append(plain[:at] + source + plain[at + len(source) :])
    return made


def list_of(generator: np.random.Generator, number: int, version: int) -> frozenset[Net]:
    """A long list with all the lengths that lists have."""
    bits, kind = BITS[version], IPv4Address if version == 4 else IPv6Address
    often = (20, 24, 26, 28, 30, 32, 32, 32) if version == 4 else (32, 44, 48, 56, 64, 64, 96, 128)
    top, free = (0, bits) if version == 4 else (0x2001 << 112, bits - 16)
    listed = set()
    for length in generator.choice(often, number).tolist():
        value = top | int.from_bytes(generator.bytes(16)) & (1 << free) - 1
        listed.add(ip_network((kind(value >> (bits - length) << (bits - length)), length)))
    return frozenset(listed)


def crowd(generator: np.random.Generator) -> frozenset[Net]:
    """More networks in one /32, /24 and /64 than a line or a place holds; the broad ones leave gaps, and hosts free."""
    return frozenset(
        ip_network((top << bits - common | int(value) << bits - length, length))
        for top, common, bits, lengths in (
            (0x2001_0DB8, 32, 128, (36, 40, 48, 56, 62, 64, 128)),
            (203 << 12, 20, 32, (25, 26, 28, 29, 30, 32)),
        )
        for length in lengths
        for value in generator.integers(1, min(1 << length - common, 1 << 20), min(400, 1 << length - common >> 3))
    )
