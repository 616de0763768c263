# SPDX-License-Identifier: Apache-2.0
"""Our frames against scapy, which knows the protocols and computes every checksum by itself."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, getmacbyip6
from scapy.layers.l2 import Ether, getmacbyip
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

from lab.topology import Address, Flow, IcmpHeader
from lab.traffic.checksum import crc32c, fold, words
from lab.traffic.packets import FRAME_LENGTH, MAGIC, Wire, frame_of, group_mac, stamp_of

conf.checkIPaddr = False

IPV4 = st.integers(1, 2**32 - 1).map(IPv4Address)
IPV6 = st.integers(1, 2**128 - 1).map(IPv6Address)
PORTS = st.integers(1, 65535)
IDS = st.integers(0, 2**32 - 1)
BYTES = st.integers(0, 255)
ADDRESS_PAIRS = st.one_of(st.tuples(IPV4, IPV4), st.tuples(IPV6, IPV6))


def frame(flow: Flow, ends: tuple[Address, Address], ident: int) -> bytes:
    return frame_of(flow, Wire(b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02", *ends), ident)


def flow_of(protocol: int, ends: tuple[Address, Address], **more: object) -> Flow:
    return Flow("a", "b", protocol, more.pop("port", None), ends[0].version, **more)


def with_own_checksums(data: bytes) -> bytes:
    """The frame as scapy writes it when every checksum of its outer headers is left to scapy."""
    packet = Ether(data)
    network = packet[IP] if IP in packet else packet[IPv6]
    if IP in packet:
        network.chksum = None
    transport = network.payload
    for field in ("chksum", "cksum"):
        if field in {described.name for described in transport.fields_desc}:
            setattr(transport, field, None)
    return bytes(packet)


def parsed(data: bytes) -> Packet:
    packet = Ether(data)
    assert len(data) == FRAME_LENGTH
    assert packet.src == "02:00:00:00:00:01"
    assert packet.dst == "02:00:00:00:00:02"
    return packet


@given(ends=ADDRESS_PAIRS, ports=st.tuples(PORTS, PORTS), ident=IDS)
def test_tcp_flow_gives_a_valid_syn(ends: tuple[Address, Address], ports: tuple[int, int], ident: int) -> None:
    data = frame(flow_of(6, ends, port=ports[1], source_port=ports[0]), ends, ident)
    tcp = parsed(data)[TCP]
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq) == (*ports, "S", ident)
    assert with_own_checksums(data) == data


@given(ends=ADDRESS_PAIRS, ports=st.tuples(PORTS, PORTS), ident=IDS)
def test_udp_flow_gives_a_valid_datagram(ends: tuple[Address, Address], ports: tuple[int, int], ident: int) -> None:
    data = frame(flow_of(17, ends, port=ports[1], source_port=ports[0]), ends, ident)
    packet = parsed(data)
    udp = packet[UDP]
    assert (udp.sport, udp.dport) == ports
    assert udp.len == len(udp)
    assert udp.chksum != 0
    assert with_own_checksums(data) == data


@given(ends=ADDRESS_PAIRS, ports=st.tuples(PORTS, PORTS), ident=IDS)
def test_udplite_flow_covers_everything_with_its_checksum(
    ends: tuple[Address, Address], ports: tuple[int, int], ident: int
) -> None:
    data = frame(flow_of(136, ends, port=ports[1], source_port=ports[0]), ends, ident)
    start = 34 if ends[0].version == 4 else 54
    content = data[start:]
    assert content[:6] == ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + b"\0\0"
    assert content[6:8] != b"\0\0"
    pseudo = ends[0].packed + ends[1].packed + (136).to_bytes(4, "big") + len(content).to_bytes(4, "big")
    assert words(pseudo + content) == 0xFFFF


@given(ends=ADDRESS_PAIRS, ports=st.tuples(PORTS, PORTS), ident=IDS)
def test_sctp_flow_gives_a_valid_init(ends: tuple[Address, Address], ports: tuple[int, int], ident: int) -> None:
    data = frame(flow_of(132, ends, port=ports[1], source_port=ports[0]), ends, ident)
    sctp = parsed(data)[SCTP]
    chunk = sctp[SCTPChunkInit]
    start = 34 if ends[0].version == 4 else 54
    content = data[start:]
    assert (sctp.sport, sctp.dport, sctp.tag) == (*ports, 0)
    assert chunk.len == len(content) - 12
    assert chunk.init_tag != 0
    assert chunk.a_rwnd >= 1500
    assert chunk.n_out_streams > 0
    assert chunk.n_in_streams > 0
    parameter = content[32:]
    assert parameter[0] & 0xC0 == 0x80
    assert int.from_bytes(parameter[2:4], "big") == len(parameter)
    assert content[8:12] == crc32c(content[:8] + bytes(4) + content[12:]).to_bytes(4, "little")
    assert with_own_checksums(data) == data


@given(ends=st.tuples(IPV4, IPV4), kind=BYTES, code=BYTES, ident=IDS)
def test_icmp_flow_of_any_type_gives_a_valid_message(
    ends: tuple[Address, Address], kind: int, code: int, ident: int
) -> None:
    data = frame(flow_of(1, ends, icmp=IcmpHeader(kind, code)), ends, ident)
    icmp = parsed(data)[ICMP]
    assert (icmp.type, icmp.code) == (kind, code)
    assert words(data[34:]) == 0xFFFF


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_icmp_error_quotes_a_packet_of_its_receiver(kind: int) -> None:
    ends = IPv4Address("198.18.1.2"), IPv4Address("198.18.2.2")
    quoted = parsed(frame(flow_of(1, ends, icmp=IcmpHeader(kind, 0)), ends, 7))[ICMP].payload
    assert (quoted.src, quoted.dst) == ("198.18.2.2", "198.18.1.2")
    assert not isinstance(quoted, ICMPerror)
    assert words(bytes(quoted)[:20]) == 0xFFFF
    assert quoted.len == len(bytes(quoted))


@given(ends=st.tuples(IPV6, IPV6), kind=BYTES, code=BYTES, ident=IDS)
def test_icmpv6_flow_of_any_type_gives_a_valid_message(
    ends: tuple[Address, Address], kind: int, code: int, ident: int
) -> None:
    data = frame(flow_of(58, ends, icmp=IcmpHeader(kind, code)), ends, ident)
    content = data[54:]
    pseudo = ends[0].packed + ends[1].packed + len(content).to_bytes(4, "big") + (58).to_bytes(4, "big")
    assert tuple(content[:2]) == (kind, code)
    assert words(pseudo + content) == 0xFFFF


def test_icmpv6_echo_agrees_with_scapy() -> None:
    ends = IPv6Address("fd00::1"), IPv6Address("fd00::2")
    data = frame(flow_of(58, ends), ends, 0x12345)
    assert parsed(data)[ICMPv6EchoRequest].id == 0x2345
    assert with_own_checksums(data) == data


@pytest.mark.parametrize("family", [4, 6])
def test_two_echo_requests_have_different_identifiers(family: int) -> None:
    ends = (IPv4Address(1), IPv4Address(2)) if family == 4 else (IPv6Address(1), IPv6Address(2))
    flow = flow_of(1 if family == 4 else 58, ends)
    start = 38 if family == 4 else 58
    assert frame(flow, ends, 1)[start : start + 2] != frame(flow, ends, 2)[start : start + 2]


@given(ends=ADDRESS_PAIRS, protocol=st.integers(1, 255), ident=IDS)
def test_any_protocol_gives_a_valid_ip_packet_with_its_id_at_the_end(
    ends: tuple[Address, Address], protocol: int, ident: int
) -> None:
    data = frame(flow_of(protocol, ends), ends, ident)
    packet = parsed(data)
    assert data.endswith(MAGIC + ident.to_bytes(4, "big"))
    if ends[0].version == 4:
        network = packet[IP]
        assert (network.src, network.dst, network.proto) == (str(ends[0]), str(ends[1]), protocol)
        assert (network.len, network.ihl, str(network.flags)) == (FRAME_LENGTH - 14, 5, "DF")
        assert words(data[14:34]) == 0xFFFF
    else:
        network = packet[IPv6]
        assert (IPv6Address(network.src), IPv6Address(network.dst), network.nh) == (*ends, protocol)
        assert network.plen == FRAME_LENGTH - 54


@given(ends=ADDRESS_PAIRS, protocol=st.sampled_from([1, 6, 17, 58, 132, 136, 253]), one=IDS, two=IDS)
def test_one_stamp_gives_different_frames_for_different_ids(
    ends: tuple[Address, Address], protocol: int, one: int, two: int
) -> None:
    stamp = stamp_of(flow_of(protocol, ends, port=80), Wire(bytes(6), bytes(6), *ends))
    assert (stamp(one, 40000, 80) == stamp(two, 40000, 80)) == (one == two)


def test_crc32c_of_the_check_string_is_as_published() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(data=st.binary(min_size=2, max_size=200))
def test_checksum_of_data_makes_the_sum_all_ones(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    assert words(padded + fold(words(data)).to_bytes(2, "big")) == 0xFFFF


@given(low=st.integers(0, 2**28 - 1))
def test_group_of_ipv4_has_the_ethernet_address_that_scapy_gives_it(low: int) -> None:
    group = IPv4Address(0xE0000000 | low)
    assert group_mac(group) == bytes.fromhex(getmacbyip(str(group)).replace(":", ""))


@given(low=st.integers(0, 2**120 - 1))
def test_group_of_ipv6_has_the_ethernet_address_that_scapy_gives_it(low: int) -> None:
    group = IPv6Address(0xFF << 120 | low)
    assert group_mac(group) == bytes.fromhex(getmacbyip6(str(group)).replace(":", ""))


def test_all_have_one_ethernet_address_and_a_single_end_none_by_itself() -> None:
    assert group_mac(IPv4Address("255.255.255.255")) == b"\xff" * 6
    assert group_mac(IPv4Address("198.18.255.255")) is None
    assert group_mac(IPv6Address("fd00::1")) is None
