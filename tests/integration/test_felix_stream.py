# SPDX-License-Identifier: Apache-2.0
"""A stream as Felix sends it, written by the numbers of fields alone: what a driver makes of it, and its verdicts.

Nothing of our own encoding is used here. The numbers are those of felix/proto/felixbackend.proto, 3.32 and before.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO

import pytest

from dataplanes.external.felix import FelixState, Form
from dataplanes.nftables import NftablesDataplane
from lab.fabric.lab import Lab
from lab.protocols import TCP, UDP
from lab.topology import Flow
from lab.topology.load import load_topology
from lab.traffic.prober import Prober

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

Value = int | str | bytes
TOPOLOGY = load_topology("one-node")
FORMS: tuple[Form, ...] = ("3.32", "before 3.32")
ALLOW = (1, "allow")


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def message(*fields: tuple[int, Value]) -> bytes:
    """Fields by number, in any order: a number, a text, or another message."""
    told = b""
    for number, value in fields:
        if isinstance(value, int):
            told += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            told += varint(number << 3 | 2) + varint(len(data)) + data
    return told


class Stream:
    """What Felix writes to descriptor 3."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.data = b""
        self._sequence = 0

    def send(self, number: int, *fields: tuple[int, Value]) -> None:
        body = message((number, message(*fields)), (15, self._sequence))
        self.data += struct.pack("<Q", len(body)) + body
        self._sequence += 1

    def policy_id(self, tier: str, name: str) -> bytes:
        if self.form == "3.32":
            return message((2, name), (4, "GlobalNetworkPolicy"))
        return message((1, tier), (2, name))

    def policy(self, tier: str, name: str, *rules: tuple[int, bytes]) -> None:
        self.send(7, (1, self.policy_id(tier, name)), (2, message(*rules, (8, tier))))

    def tier(self, name: str, action: str, *lists: tuple[int, str]) -> bytes:
        listed = [(way, self.policy_id(name, each) if self.form == "3.32" else each) for way, each in lists]
        return message((1, name), *listed, (4, action))

    def workload(self, name: str, *fields: tuple[int, Value], state: str = "active") -> None:
        workload = TOPOLOGY.workloads[name]
        nets = [(5 if each.version == 4 else 6, f"{each}/{each.max_prefixlen}") for each in workload.addresses]
        endpoint = message((1, state), (2, workload.interface), *nets, *fields, (12, b"\x08\x01"), (16, 1))
        self.send(11, (1, message((2, "k8s"), (3, name), (4, "eth0"))), (5, endpoint))


def member(name: str, version: int) -> str:
    return str(next(each for each in TOPOLOGY.workloads[name].addresses if each.version == version))


def first_flush(stream: Stream) -> None:
    """One tier that denies a set, and behind it one that allows a named port; one workload may reach one service."""
    stream.send(13, (1, message((1, "DefaultEndpointToHostAction"), (2, "Return"))))
    stream.send(4, (1, "s:never-there"))
    stream.send(8, (1, stream.policy_id("sec", "never-there")))
    web4 = member("shop/web", 4)
    stream.send(2, (1, "s:banned"), (2, f"{web4}/32"), (2, "192.0.2.0/24"), (3, 2))
    banned = [member("ops/monitor", version) for version in (4, 6)]
    stream.send(3, (1, "s:banned"), (2, f"{banned[0]}/32"), (2, f"{banned[1]}/128"), (3, f"{web4}/32"))
    sql = [(2, f"{member('shop/db', version)},tcp:5432") for version in (4, 6)]
    stream.send(2, (1, "n:sql"), *sql, (3, 1))
    log = [(2, f"{member('ops/monitor', version)},udp:514") for version in (4, 6)]
    stream.send(2, (1, "svc:log"), *log, (3, 1))
    tcp = message((2, "tcp"))
    stream.policy("sec", "sec.ban", (1, message((1, "deny"), (3, tcp), (10, "s:banned"), (201, "an id"))))
    stream.policy("default", "ports", (1, message((13, "n:sql"), (1, ""), (3, message((1, 6))))))
    stream.policy("default", "to-service", (2, message(ALLOW, (15, "svc:log"))))
    stream.send(5, (1, message((1, "open"))), (2, message((1, message(ALLOW)), (2, message(ALLOW)))))
    tiers = [(7, stream.tier("sec", "Pass", (2, "sec.ban"))), (7, stream.tier("default", "Deny", (2, "ports")))]
    stream.workload("shop/db", (4, "open"), *tiers)
    stream.workload("shop/web", (4, "open"), (7, stream.tier("default", "Deny", (3, "to-service"))))
    stream.workload("ops/monitor", (4, "open"))
    stream.send(1)


def second_flush(stream: Stream) -> None:
    """The first tier goes, endpoints before policies before sets; and one workload is taken down."""
    stream.workload("shop/db", (4, "open"), (7, stream.tier("default", "Deny", (2, "ports"))))
    stream.workload("shop/web", (4, "open"))
    stream.workload("ops/monitor", (4, "open"), state="inactive")
    stream.send(8, (1, stream.policy_id("sec", "sec.ban")))
    stream.send(8, (1, stream.policy_id("sec", "sec.ban")))
    stream.send(4, (1, "s:banned"))


FLOWS = {
    ("ops/monitor", "shop/db", TCP, 5432): ("deny", "deny"),  # banned; then cut off
    ("shop/web", "shop/db", TCP, 5432): ("deny", "allow"),  # its own egress; then that is free
    ("shop/web", "ops/monitor", UDP, 514): ("allow", "deny"),  # the service; then who is down gets nothing
    ("shop/web", "ops/monitor", UDP, 515): ("deny", "deny"),
    ("shop/db", "shop/web", TCP, 80): ("allow", "allow"),
    ("shop/web", "shop/db", TCP, 5433): ("deny", "deny"),
}


def taken(state: FelixState, data: bytes) -> None:
    stream = BytesIO(data)
    while head := stream.read(8):
        state.take(stream.read(struct.unpack("<Q", head)[0]))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(TOPOLOGY) as opened:
        yield opened


@pytest.mark.parametrize("form", FORMS)
def test_stream_written_by_numbers_gives_the_verdicts_that_it_means(form: Form, lab: Lab) -> None:
    state = FelixState("node-1", form)
    flows = [Flow(*ends, family) for ends in FLOWS for family in (4, 6)]
    (node,) = lab.nodes.values()
    plane = NftablesDataplane(node)
    plane.start()
    with Prober(lab) as prober:
        for number, flush in enumerate((first_flush, second_flush)):
            stream = Stream(form)
            flush(stream)
            taken(state, stream.data)
            assert state.in_sync
            plane.apply(state.snapshot())
            seen = [each.verdict for each in prober.observe(flows)]
            assert seen == [told[number] for told in FLOWS.values() for _ in (4, 6)]
    plane.stop()


@pytest.mark.parametrize("form", FORMS)
def test_state_is_what_the_stream_tells(form: Form) -> None:
    stream, state = Stream(form), FelixState("node-1", form)
    first_flush(stream)
    taken(state, stream.data)
    snapshot = state.snapshot()
    assert {str(each) for each in snapshot.ip_sets["s:banned"].nets} == {
        "192.0.2.0/24",
        f"{member('ops/monitor', 4)}/32",
        f"{member('ops/monitor', 6)}/128",
    }
    assert snapshot.settings.endpoint_to_host_action == "return"
    assert (6, 22) in {
        (each.protocol, each.port) for each in snapshot.settings.failsafe_inbound
    }  # nobody said otherwise
    db = snapshot.endpoints[TOPOLOGY.workloads["shop/db"].interface]
    assert [(tier.name, [each.name for each in tier.ingress], tier.pass_by_default) for tier in db.tiers] == [
        ("sec", ["sec.ban"], True),
        ("default", ["ports"], False),
    ]
    assert not any(name.name == "never-there" for name in snapshot.policies)
