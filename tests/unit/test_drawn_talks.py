# SPDX-License-Identifier: Apache-2.0
"""Drawn conversations: many to a scenario, of all that can be said, and the model has a verdict on every packet."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

from dataplanes.iptables import IptablesDataplane
from lab.conformance.conversations import judged, spoken
from lab.conformance.generate.talks import talks
from lab.conformance.rounds import Rounds
from lab.conformance.scenario import Scenario
from lab.conformance.talking import PROFILES
from lab.oracle import PartialOracle


@pytest.fixture(scope="module")
def drawn() -> list[Scenario]:
    found: list[Scenario] = []
    Rounds(settings(PROFILES["ci"], max_examples=60)).check(talks(None, IptablesDataplane.capabilities), found.append)
    return found


def test_scenarios_have_several_conversations_of_every_protocol(drawn: list[Scenario]) -> None:
    told = [entry for scenario in drawn for entry in scenario.conversations]
    assert len(told) > 5 * len(drawn)
    protocols = Counter(str(entry["protocol"]) for entry in told)
    assert min(protocols[each] for each in ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite")) > 5


def test_all_that_can_be_out_of_the_ordinary_is_drawn(drawn: list[Scenario]) -> None:
    conversations = [entry for scenario in drawn for entry in scenario.conversations]
    packets = [packet for entry in conversations for packet in entry["packets"]]  # type: ignore[attr-defined]  # as YAML has it
    assert any(packet.get("answer") == "syn" for packet in packets)
    assert any(packet.get("destination") for packet in packets)
    sources = {str(packet["source"]) for packet in packets if "source" in packet}
    assert sources & {"127.0.0.1", "224.0.0.5", "::1", "ff02::1"}
    assert sources & {"x/a", "y/b", "out"}
    shapes = [packet["shape"] for packet in packets if "shape" in packet]
    assert any(shape.get("payload", 0) > 65_000 for shape in shapes)
    assert any(shape.get("wrong_header_checksum") for shape in shapes)


def test_model_has_a_verdict_on_every_packet(drawn: list[Scenario]) -> None:
    verdicts = Counter[bool]()
    for scenario in drawn:
        loaded = scenario.load()
        oracles = [PartialOracle(loaded.topology, each.resources, each.known) for each in loaded.states]
        played = [(each, oracle) for step, oracle in enumerate(oracles) for each in spoken(loaded.conversations, step)]
        verdicts.update(each.allowed for each in judged(loaded.topology, played))
    assert min(verdicts.values()) > 500
