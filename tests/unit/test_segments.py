# SPDX-License-Identifier: Apache-2.0
"""Packets of conversations against scapy, which computes every checksum and length by itself."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Packet

from lab.errors import LabError
from lab.topology import Address, Flow, IcmpHeader
from lab.traffic.checksum import fold, words
from lab.traffic.conversation import Conversation, Line, Shape, flow_of
from lab.traffic.packets import Wire
from lab.traffic.reassembly import Seen, whole
from lab.traffic.segments import icmp_message, ip_frame, tcp_segment, udp_datagram, with_wrong_checksum
from lab.traffic.shapes import Extension, extended, fragments, overlapping
from lab.traffic.speech import Speech

IPV4 = st.integers(1, 2**32 - 1).map(IPv4Address)
IPV6 = st.integers(1, 2**128 - 1).map(IPv6Address)
ENDS = st.one_of(st.tuples(IPV4, IPV4), st.tuples(IPV6, IPV6))
PORTS = st.tuples(st.integers(0, 65535), st.integers(0, 65535))
NUMBERS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
DATA = st.binary(max_size=1400)
FOUR = (IPv4Address("198.18.0.1"), IPv4Address("198.18.0.2"))
SIX = (IPv6Address("fd00::1"), IPv6Address("fd00::2"))
MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")


def frame(ends: tuple[Address, Address], protocol: int, content: bytes) -> bytes:
    return ip_frame(Wire(*MACS, *ends), protocol, content)


def rebuilt(data: bytes) -> Packet:
    """The frame with every checksum and length left to scapy."""
    packet = Ether(data)
    for layer in (IP, IPv6, TCP, UDP, ICMP, ICMPv6DestUnreach, SCTP):
        if layer in packet:
            names = {field.name for field in packet[layer].fields_desc}
            for name in {"chksum", "cksum", "len", "plen"} & names:
                setattr(packet[layer], name, None)
    return Ether(bytes(packet))


@given(ends=ENDS, ports=PORTS, flags=st.integers(0, 255), numbers=NUMBERS, data=DATA)
def test_tcp_segment_is_scapys(ends, ports, flags, numbers, data) -> None:
    built = frame(ends, 6, tcp_segment(ends, ports, flags, numbers, data))
    packet = Ether(built)[TCP]
    assert (packet.sport, packet.dport, int(packet.flags), packet.seq, packet.ack) == (*ports, flags, *numbers)
    assert bytes(packet.payload) == data
    assert bytes(rebuilt(built)) == built


@given(ends=ENDS, ports=PORTS, data=DATA)
def test_udp_datagram_is_scapys(ends, ports, data) -> None:
    ports = (ports[0], ports[1] | 1 if ports[1] in (53, 67, 68, 69, 123, 161, 500, 520, 4789) else ports[1])
    built = frame(ends, 17, udp_datagram(ends, ports, data))
    packet = Ether(built)[UDP]
    assert (packet.sport, packet.dport, packet.len) == (*ports, 8 + len(data))
    packet.chksum = None
    assert Ether(bytes(Ether(built).copy()))[UDP].chksum == UDP(bytes(rebuilt(built)[UDP])).chksum


@given(ends=ENDS, ports=PORTS, data=DATA, coverage=st.one_of(st.just(0), st.integers(8, 1408)))
def test_udp_lite_is_summed_as_far_as_it_says(ends, ports, data, coverage) -> None:
    """scapy does not know it: the sum of all that is covered, checksum and pseudo-header included, is all ones."""
    coverage = min(coverage, 8 + len(data))
    built = udp_datagram(ends, ports, data, protocol=136, coverage=coverage)
    covered = built[: coverage or len(built)]
    pseudo = words(ends[0].packed) + words(ends[1].packed) + 136 + len(built)
    assert int.from_bytes(built[4:6], "big") == coverage
    assert fold(words(covered) + pseudo) == 0


@given(kind=st.integers(0, 255), code=st.integers(0, 255), word=st.binary(min_size=4, max_size=4), body=DATA)
def test_icmp_message_is_scapys(kind, code, word, body) -> None:
    built = icmp_message(FOUR, 1, (kind, code), word, body)
    assert (built[0], built[1], built[4:]) == (kind, code, word + body)
    assert fold(words(built)) == 0
    error = frame(SIX, 58, icmp_message(SIX, 58, (1, 4), bytes(4), body))
    assert bytes(rebuilt(error)) == error


@pytest.mark.parametrize("protocol", [6, 17, 132, 136])
@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_wrong_checksum_differs_from_the_right_one_and_nothing_else_does(protocol, ends) -> None:
    right = Speech(talk(protocol, ends), ends).frames(line(protocol), Wire(*MACS, *ends))[0]
    wrong = Speech(talk(protocol, ends), ends).frames(
        Line(line(protocol).word, shape=Shape(wrong_checksum=True)), Wire(*MACS, *ends)
    )[0]
    assert sum(a != b for a, b in zip(right, wrong, strict=True)) == 1
    assert with_wrong_checksum(253, b"1234") == b"1234"


def line(protocol: int) -> Line:
    return Line({6: "syn", 132: "init"}.get(protocol, "data"))


def talk(protocol: int, ends: tuple[Address, Address], **more: object) -> Conversation:
    return Conversation(Flow("a", "b", protocol, 80, ends[0].version, 40000, **more), ())


def said(protocol: int, ends: tuple[Address, Address], *lines: Line) -> list[Packet]:
    """Lines of a conversation in which everything arrives, as scapy reads them."""
    speech, packets = Speech(talk(protocol, ends), ends), []
    for each in lines:
        wire = Wire(*MACS, *(reversed(ends) if each.back else ends))
        packets += [Ether(made) for made in speech.frames(each, wire)]
        speech.heard(each)
    return packets


def test_what_was_sent_in_fragments_is_said_again_in_fragments_as_it_would_not_fit_else() -> None:
    longest = Line("data", shape=Shape(fragments=1480, payload=65507))
    first, again = (said(17, FOUR, longest, *more) for more in ([], [Line("again")]))
    assert max(map(len, again)) <= 1514
    assert [bytes(packet[IP].payload) for packet in again] == 2 * [bytes(packet[IP].payload) for packet in first]
    assert len({packet[IP].id for packet in again}) == 2


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_tcp_numbers_follow_what_was_said_and_heard(ends) -> None:
    words = [
        ("syn", 0),
        ("syn+ack", 1),
        ("ack", 0),
        ("data", 0),
        ("ack", 1),
        ("fin+ack", 0),
        ("fin+ack", 1),
        ("ack", 0),
    ]
    packets = [packet[TCP] for packet in said(6, ends, *(Line(word, bool(back)) for word, back in words))]
    first, second = packets[0].seq, packets[1].seq
    assert [(packet.seq - (second if back else first)) for packet, (_, back) in zip(packets, words, strict=True)] == [
        0, 0, 1, 1, 1, 13, 1, 14,
    ]  # fmt: skip
    acknowledged = [packet.ack for packet in packets[1:]]
    expected = [first + 1, second + 1, second + 1, first + 13, second + 1, first + 14, second + 2]
    assert acknowledged == expected


def test_simultaneous_open_repeats_the_numbers_of_its_syns() -> None:
    packets = said(6, FOUR, Line("syn"), Line("syn", True), Line("syn+ack"), Line("syn+ack", True), Line("data"))
    numbers = [packet[TCP].seq for packet in packets]
    assert numbers[0] == numbers[2]
    assert numbers[1] == numbers[3]
    assert numbers[4] == numbers[0] + 1


def test_what_is_said_again_is_the_same_to_the_byte() -> None:
    first, again, other = said(6, FOUR, Line("data"), Line("again"), Line("data"))
    assert bytes(first) == bytes(again) != bytes(other)


CHUNKS = {
    "data": SCTPChunkData,
    "init": SCTPChunkInit,
    "init-ack": SCTPChunkInitAck,
    "abort": SCTPChunkAbort,
    "shutdown": SCTPChunkShutdown,
    "shutdown-ack": SCTPChunkShutdownAck,
    "cookie-echo": SCTPChunkCookieEcho,
    "cookie-ack": SCTPChunkCookieAck,
    "shutdown-complete": SCTPChunkShutdownComplete,
}


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_sctp_chunks_are_scapys_and_bear_the_tag_of_their_receiver(ends) -> None:
    init, ack, *rest = said(132, ends, Line("init"), Line("init-ack", True), *(Line(word) for word in CHUNKS))
    assert init[SCTP].tag == 0
    assert ack[SCTP].tag == init[SCTPChunkInit].init_tag
    for packet, (word, chunk) in zip(rest, CHUNKS.items(), strict=True):
        assert chunk in packet, word
        assert packet[SCTP].tag == (0 if word == "init" else ack[SCTPChunkInitAck].init_tag)
        assert bytes(rebuilt(bytes(packet))) == bytes(packet)


@pytest.mark.parametrize(("ends", "kind"), [(FOUR, (3, 3)), (SIX, (1, 4))], ids=["ipv4", "ipv6"])
def test_error_quotes_the_packet_that_it_is_about_and_a_forged_one_another(ends, kind) -> None:
    sent, told, forged = said(17, ends, Line("data"), Line("unreachable", True), Line("unreachable", True, forged=True))
    start = 14 + (20 if ends == FOUR else 40)
    about, other = bytes(told)[start + 8 :], bytes(forged)[start + 8 :]
    assert tuple(bytes(told)[start : start + 2]) == kind
    assert bytes(sent)[14:].startswith(about)
    assert not bytes(sent)[14:].startswith(other)
    assert Ether(bytes(sent))[UDP].sport == 40000


@pytest.mark.parametrize(("protocol", "word"), [(6, "hello"), (17, "syn"), (132, "syn"), (1, "data"), (6, "again")])
def test_word_that_a_protocol_does_not_have_is_refused(protocol, word) -> None:
    icmp = {"icmp": IcmpHeader(8, 0)} if protocol == 1 else {}

    def spoken() -> list[bytes]:
        flow_of(talk(protocol, FOUR, **icmp), Line(word))
        return Speech(talk(protocol, FOUR, **icmp), FOUR).frames(Line(word), Wire(*MACS, *FOUR))

    with pytest.raises(LabError):
        spoken()


SIZES = st.integers(1, 40).map(lambda size: size * 8)


@given(sent=SIZES, received=SIZES, data=st.binary(min_size=0, max_size=600), six=st.booleans(), order=st.randoms())
def test_packet_is_whole_however_it_was_cut_and_cut_again(sent, received, data, six, order) -> None:
    ends = SIX if six else FOUR
    built = frame(ends, 17, udp_datagram(ends, (1, 2), data))
    if six:
        built = extended(built, Extension(60, b"\x01\x04\0\0\0\0"))
    got = fragments(built, received, 9)
    order.shuffle(got)
    assert whole(fragments(built, sent, 7), got, 0) is Seen.WHOLE
    if not six:
        assert whole([built], [piece[14:] for piece in got], 14) is Seen.WHOLE


@given(size=st.integers(1, 10).map(lambda size: size * 8), lost=st.integers(0, 5))
def test_packet_of_which_a_fragment_is_lost_is_a_part(size, lost) -> None:
    built = frame(FOUR, 17, udp_datagram(FOUR, (1, 2), bytes(range(256)) * 2))
    got = fragments(built, size)
    del got[lost]
    assert whole([built], got, 0) in (Seen.PART, Seen.NOTHING)
    assert whole([built], [], 0) is Seen.NOTHING


def test_another_packet_is_nothing_of_ours() -> None:
    built = frame(FOUR, 17, udp_datagram(FOUR, (1, 2), b"ours"))
    other = frame(FOUR, 17, udp_datagram(FOUR, (1, 2), b"its!"))
    assert whole([built], [other], 0) is Seen.NOTHING


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_overlapping_fragments_contradict_each_other(ends) -> None:
    built = frame(ends, 17, udp_datagram(ends, (1, 2), bytes(range(100))))
    plain, odd = fragments(built, 16), overlapping(built, 16)
    assert [piece for piece in odd if piece in plain] == plain
    (extra,) = [piece for piece in odd if piece not in plain]
    at = 34 if ends == FOUR else 62
    assert extra[at : at + 8] == bytes(byte ^ 0xFF for byte in plain[0][at + 8 : at + 16])


@pytest.mark.parametrize(("ends", "protocol", "at"), [(FOUR, 1, 36), (SIX, 58, 56)], ids=["icmp", "icmpv6"])
def test_wrong_checksum_of_an_echo_differs_from_the_right_one_and_nothing_else_does(ends, protocol, at) -> None:
    talked = Conversation(Flow("a", "b", protocol, None, ends[0].version, icmp=IcmpHeader(8, 0)), ())
    right, wrong = (
        Speech(talked, ends).frames(Line("request", shape=Shape(wrong_checksum=bad)), Wire(*MACS, *ends))[0]
        for bad in (False, True)
    )
    assert [place for place, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b] == [at]


@given(ends=ENDS, forged=st.one_of(st.tuples(IPV4, IPV4), st.tuples(IPV6, IPV6)))
def test_packet_with_other_addresses_is_valid_with_those(ends, forged) -> None:
    """What bears another source, or is addressed elsewhere, is no broken packet: its checksums are those of scapy."""
    for protocol in (6, 17):
        speech = Speech(talk(protocol, ends), ends)
        made = speech.frames(line(protocol), Wire(*MACS, *forged))[0]
        packet = Ether(made)[IP if forged[0].version == 4 else IPv6]
        assert (ip_address(packet.src), ip_address(packet.dst)) == forged
        assert bytes(rebuilt(made)) == made
