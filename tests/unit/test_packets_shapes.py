# SPDX-License-Identifier: Apache-2.0
"""Tags, options, extension headers and fragments, against scapy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, defragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from lab.errors import LabError
from lab.topology import Flow
from lab.traffic.packets import Wire, frame_of
from lab.traffic.shapes import Extension, Tag, extended, fragments, overlapping, tagged, with_options, with_wrong_header

IDS = st.integers(0, 2**16 - 1)
VLANS = st.integers(0, 4095)
SIZES = st.integers(1, 15).map(lambda size: size * 8)


def udp(version: int, ident: int = 7) -> bytes:
    ends = (IPv4Address("198.18.0.1"), IPv4Address("198.18.0.2"))
    if version == 6:
        ends = (IPv6Address("fd00::1"), IPv6Address("fd00::2"))
    flow = Flow("a", "b", 17, 80, version)
    return frame_of(flow, Wire(b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02", *ends), ident)


@given(inner=VLANS, outer=VLANS, priority=st.integers(0, 7))
def test_tags_stand_in_the_order_given_and_the_packet_stays(inner: int, outer: int, priority: int) -> None:
    packet = Ether(tagged(udp(4), Tag(outer, priority, service=True), Tag(inner)))
    assert (packet[Dot1AD].vlan, packet[Dot1AD].prio, packet[Dot1Q].vlan) == (outer, priority, inner)
    assert bytes(packet[IP]) == udp(4)[14:]


@given(options=st.binary(max_size=40))
def test_options_lengthen_the_header_and_its_checksum_holds(options: bytes) -> None:
    data = with_options(udp(4), options)
    packet = Ether(data)[IP]
    assert packet.ihl * 4 == 20 + (len(options) + 3 & ~3)
    assert bytes(packet[UDP]) == udp(4)[34:]
    checksum = packet.chksum
    packet.chksum = None
    assert IP(bytes(packet)).chksum == checksum


def test_header_with_a_wrong_checksum_is_the_right_one_but_for_that():
    packet, right = Ether(with_wrong_header(udp(4)))[IP], Ether(udp(4))[IP]
    assert packet.chksum != right.chksum
    packet.chksum = None
    assert IP(bytes(packet)) == right


def test_extension_headers_are_a_chain_that_ends_at_the_packet() -> None:
    data = extended(udp(6), Extension(0), Extension(43, bytes(20)), Extension(60, b"\x01\x04\0\0\0\0"))
    packet = Ether(data)[IPv6]
    assert packet.plen == len(data) - 54
    assert packet[IPv6ExtHdrHopByHop].nh == 43
    assert packet[IPv6ExtHdrRouting].len == 2
    assert packet[IPv6ExtHdrDestOpt].nh == 17
    assert bytes(packet[UDP]) == udp(6)[54:]


@given(size=SIZES, ident=IDS)
def test_ipv4_fragments_come_together_to_the_packet(size: int, ident: int) -> None:
    parts = [Ether(part)[IP] for part in fragments(udp(4), size, ident)]
    assert {part.id for part in parts} == {ident}
    (whole,) = defragment(parts)
    assert bytes(whole[IP].payload) == udp(4)[34:]


@given(size=SIZES, ident=IDS)
def test_ipv6_fragments_come_together_to_the_packet(size: int, ident: int) -> None:
    parts = [Ether(part)[IPv6] for part in fragments(udp(6), size, ident)]
    assert {part[IPv6ExtHdrFragment].id for part in parts} == {ident}
    assert bytes(defragment6(parts)[IPv6].payload) == udp(6)[54:]


def test_frame_of_the_other_family_is_refused() -> None:
    with pytest.raises(LabError, match="another kind; given: '0800'; allowed: 86dd"):
        extended(udp(4), Extension(0))
    with pytest.raises(LabError, match="another kind"):
        with_options(udp(6), b"\x01")
    with pytest.raises(LabError, match="allowed: a multiple of 8"):
        fragments(udp(4), 12)
    with pytest.raises(LabError, match="allowed: 40 bytes"):
        with_options(udp(4), bytes(41))
    with pytest.raises(LabError, match="another kind"):
        with_wrong_header(udp(6))


@given(size=SIZES.filter(lambda size: size < 56), ident=IDS)
def test_overlapping_fragment_lies_over_two_others_and_has_other_bytes(size: int, ident: int) -> None:
    for version, layer in ((4, IP), (6, IPv6ExtHdrFragment)):
        first, over, *rest = [Ether(part)[layer] for part in overlapping(udp(version), size, ident)]
        offset = "frag" if version == 4 else "offset"
        assert [getattr(part, offset) * 8 for part in (first, over, rest[0])] == [0, 8, size]
        assert over.id == first.id == ident
        behind = udp(version)[34 if version == 4 else 54 :]
        assert bytes(over.payload) == bytes(byte ^ 0xFF for byte in behind[8 : 8 + size])
