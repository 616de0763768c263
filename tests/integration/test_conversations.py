# SPDX-License-Identifier: Apache-2.0
"""Conversations in a real kernel: the model of state against conntrack, real sockets beside, and what nodes answer."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from talk_world import POLICY, TOPOLOGY

from dataplanes.api import Dataplane
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance.conversations import Spoken, judged
from lab.conformance.harness import Harness
from lab.document import document_of, parse_documents
from lab.errors import PolicyError
from lab.fabric.lab import Lab
from lab.oracle import PartialOracle
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Flow, IcmpHeader, Topology, address_of
from lab.topology.load import topology_of
from lab.traffic.conversation import Conversation, Line
from lab.traffic.player import Player

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TCP = ("syn", "<syn+ack", "ack", "data", "<ack", "<data", "ack", "fin+ack", "<ack", "<data", "<fin+ack", "ack", "syn")
"""What a connection says from one end to the other; < marks what comes back."""
DISTURBED = ("again", "<again", "unreachable", "<unreachable")
STRAY = ("syn+ack", "ack", "data", "rst", "fin+ack", "fin", "none", "syn+fin", "fin+psh+urg")
WORDS = {
    17: ("data", "data", "again", "unreachable", "time-exceeded"),
    132: ("init", "init", "init-ack", "cookie-echo", "cookie-ack", "data", "shutdown", "shutdown-ack", "again"),
    1: ("request", "request", "reply", "again", "unreachable"),
    58: ("request", "request", "reply", "again", "unreachable"),
    253: ("data", "again", "unreachable"),
    136: ("data",),
}
ICMP_OF = {1: IcmpHeader(8, 0), 58: IcmpHeader(128, 0)}
ALL_PROTOCOLS = 0x0003
ERRORS = ("unreachable", "time-exceeded")
ENDS = ("x/red", "x/server", "x/blue", "x/other", "client")


@pytest.fixture(scope="module")
def topology() -> Topology:
    return topology_of(document_of(TOPOLOGY, "topology"))


@pytest.fixture(scope="module")
def policy(topology: Topology) -> Resources:
    return resources_of(parse_documents(POLICY, "policy", PolicyError), topology)


def drawn(chosen: random.Random) -> Conversation:
    """What two ends might say; an error, and what is said again, has something that it can be about."""
    protocol = chosen.choice((6, 6, *WORDS))
    family = {1: 4, 58: 6}.get(protocol, chosen.choice((4, 6)))
    lines: list[Line] = []
    spoke: set[bool] = set()
    for word, back in connection(chosen) if protocol == 6 else babble(chosen, protocol):
        if word in ERRORS:
            if (not back) in spoke:
                by = chosen.choice((None, None, "x/blue"))
                lines.append(Line(word, back, forged=chosen.random() < 0.3, by=by))
        elif word != "again" or back in spoke:
            spoke.add(back)
            lines.append(Line(word, back))
    port = None if protocol in (1, 58, 253) else chosen.choice((80, 80, 81))
    source, destination = chosen.choice((chosen.sample(ENDS, 2), ["x/red", "x/server"], ["x/red", "x/other"]))
    return Conversation(Flow(source, destination, protocol, port, family, icmp=ICMP_OF.get(protocol)), tuple(lines))


def connection(chosen: random.Random) -> Iterator[tuple[str, bool]]:
    """TCP as it is spoken, disturbed now and then, and broken off at some time; or a segment of no connection."""
    if chosen.random() < 0.15:
        yield chosen.choice(STRAY), chosen.random() < 0.5
        return
    for word in TCP[: chosen.randint(1, len(TCP))]:
        yield word.lstrip("<"), word.startswith("<")
        if chosen.random() < 0.15:
            odd = chosen.choice(DISTURBED)
            yield odd.lstrip("<"), odd.startswith("<")
    if chosen.random() < 0.3:
        yield chosen.choice(("rst", "rst+ack")), chosen.random() < 0.5


def babble(chosen: random.Random, protocol: int) -> Iterator[tuple[str, bool]]:
    """Any words of a protocol, from either side; an association begins with INIT."""
    if protocol == 132:
        yield "init", False
    for _ in range(chosen.randint(2, 9)):
        yield chosen.choice(WORDS[protocol]), chosen.random() < 0.45


@pytest.mark.parametrize(
    "dataplane", [IptablesDataplane, NftablesDataplane, IptablesLegacyDataplane], ids=lambda plugin: plugin.name
)
def test_kernel_and_model_agree_on_conversations_that_nobody_wrote(
    dataplane: type[Dataplane], topology: Topology, policy: Resources
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - told on failure
    chosen = random.Random(seed)  # noqa: S311 - as above
    oracle, seen = PartialOracle(topology, policy), set()
    with Harness(topology, dataplane) as harness:
        harness.apply(policy)
        with Player(harness.lab) as player:
            for _ in range(150):
                conversation = drawn(chosen)
                player.begin({0: conversation})
                told = [player.say(0, line) for line in conversation.lines]
                expected = judged(topology, [(Spoken(0, conversation, line), oracle) for line in conversation.lines])
                seen |= {each.verdict for each in told}
                words = [(str(line), each.verdict) for line, each in zip(conversation.lines, told, strict=True)]
                wanted = ["allow" if verdict.allowed else "deny" for verdict in expected]
                different = [number for number, each in enumerate(told) if each.verdict != wanted[number]]
                assert not different, f"{seed} {conversation.opening} {different} {words}"
    assert seen == {"allow", "deny"}


def test_conntrack_is_read_as_evidence(topology: Topology, policy: Resources) -> None:
    conversation = Conversation(Flow("x/red", "x/server", 6, 80, 6), tuple(map(Line, ("syn",))))
    with Harness(topology, NftablesDataplane) as harness:
        harness.apply(policy)
        with Player(harness.lab) as player:
            player.begin({0: conversation})
            for line, state in (
                (Line("syn"), "syn-sent"),
                (Line("syn+ack", True), "syn-recv"),
                (Line("ack"), "established"),
            ):
                assert player.say(0, line).verdict == "allow"
                (entry,) = player.tracked()["node-1"]
                assert (entry.protocol, entry.port, entry.state, entry.replied) == (6, 80, state, state != "syn-sent")
            assert player.tracked()["node-2"] == ()


@pytest.fixture(params=[IptablesDataplane, NftablesDataplane], ids=lambda plugin: plugin.name)
def talking(request: pytest.FixtureRequest, topology: Topology, policy: Resources) -> Iterator[Lab]:
    """A lab whose ends answer by themselves, under the policy."""
    with Harness(topology, request.param) as harness:
        harness.apply(policy)
        with harness.lab.unmuted():
            yield harness.lab


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_real_sockets_connect_and_hear_both_ways_many_at_once(talking: Lab, family: int) -> None:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    address = str(address_of(talking.topology.end("x/server"), family))
    many, size = 40, 20000
    with talking.hosts["x/server"].socket(kind, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(2 * many) as pool:
        listener.bind((address, 80))
        listener.listen(many)
        listener.settimeout(20)

        def serve(_: int) -> int:
            connection, _peer = listener.accept()
            with connection:
                connection.settimeout(20)
                got = b"".join(iter(lambda: connection.recv(65536), b""))
                connection.sendall(got[::-1])
                return len(got)

        def ask(number: int) -> bool:
            with talking.hosts["x/red"].socket(kind, socket.SOCK_STREAM) as client:
                client.settimeout(20)
                client.connect((address, 80))
                data = number.to_bytes(4, "big") * size
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: client.recv(65536), b"")) == data[::-1]

        served, asked = pool.map(serve, range(many)), pool.map(ask, range(many))
        assert all(asked)
        assert list(served) == [4 * size] * many


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_real_socket_that_policy_denies_does_not_connect(talking: Lab, family: int) -> None:
    """The syn is lost without a word: nothing but the lab's own patience ends the attempt."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    address = str(address_of(talking.topology.end("x/server"), family))
    with (
        talking.hosts["x/server"].socket(kind, socket.SOCK_STREAM) as listener,
        talking.hosts["x/blue"].socket(kind, socket.SOCK_STREAM) as client,
    ):
        listener.bind((address, 80))
        listener.listen(1)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect((address, 80))


@pytest.mark.parametrize(
    "dataplane", [IptablesDataplane, NftablesDataplane, IptablesLegacyDataplane], ids=lambda plugin: plugin.name
)
def test_stray_segment_to_a_node_gets_exactly_one_reset(dataplane: type[Dataplane], topology: Topology) -> None:
    """A host without a HostEndpoint answers as its own stack does, once (Calico: felix/fv)."""
    conversation = Conversation(Flow("client", "node-1", 6, 80, 4), ())
    with Harness(topology, dataplane) as harness, Player(harness.lab) as player:
        harness.apply(Resources())
        port = harness.lab.ports["client"]
        with port.host.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
            tap.bind((port.interface, ALL_PROTOCOLS))
            player.begin({0: conversation})
            assert player.say(0, Line("ack")).verdict == "allow"
            got = list(iter(lambda: received(tap), None))
        assert sum(is_reset(frame, port.gateway_mac) for frame in got) == 1


def received(tap: socket.socket) -> bytes | None:
    try:
        return tap.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def is_reset(frame: bytes, sender: bytes) -> bool:
    return frame[6:12] == sender and frame[12:14] == b"\x08\x00" and frame[23] == 6 and bool(frame[47] & 4)
