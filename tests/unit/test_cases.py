# SPDX-License-Identifier: Apache-2.0
"""The expectations themselves: that they load, that they say both words, and that the oracle agrees with the hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplanes.api import TRAITS, Capability
from lab.conformance.case import Case, load_cases, parse_case
from lab.conformance.conversations import judged, spoken
from lab.conformance.needs import needed_by_document
from lab.conformance.scenario import Scenario
from lab.errors import LabError
from lab.oracle import Oracle, PartialOracle

CASES = {case.id: case for case in load_cases()}
# The runner's own controls say one word only; that is what they are for.
CONTROLS = {"control.no-policy", "control.deny-all"}

NODES = {"node-1", "node-2"}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
def test_hand_written_verdicts_equal_those_of_the_oracle(case: Case, tmp_path: Path) -> None:
    for number, step in enumerate(case.steps):
        loaded = case.scenario(number).load(tmp_path / str(number))
        verdicts = PartialOracle(loaded.topology, loaded.resources, loaded.state.known).verdicts(loaded.flows)
        wrong = [
            (str(flow.place), flow.entry, verdict.decided_by)
            for flow, verdict in zip(step.flows, verdicts, strict=True)
            if flow.allowed != verdict.allowed
        ]
        assert not wrong


@every_case
def test_without_policy_every_flow_is_allowed_unless_the_case_says_that_it_proves_nothing(
    case: Case, tmp_path: Path
) -> None:
    control = case.control()
    if not any(step.flows for step in case.steps):
        return  # what its conversations prove is asked below
    if control is None:
        denied = _without_policy(case, tmp_path)
        assert denied, "every flow is allowed without policy: the case needs no `control: none`"
    else:
        loaded = control.load(tmp_path)
        assert all(verdict.allowed for verdict in Oracle(loaded.topology, loaded.resources).verdicts(loaded.flows))


def _without_policy(case: Case, tmp_path: Path) -> list[object]:
    """The flows of the case that are denied without any policy."""
    loaded = case.scenario(0).load(tmp_path)
    bare = Oracle(loaded.topology, type(loaded.resources)())
    return [
        flow for flow, verdict in zip(loaded.flows, bare.verdicts(loaded.flows), strict=True) if not verdict.allowed
    ]


@every_case
def test_a_case_has_both_an_allowed_flow_and_a_denied_one(case: Case) -> None:
    if case.id not in CONTROLS:
        said = {packet["expect"] for each in case.conversations for packet in each["packets"]}
        asked = {flow.allowed for step in case.steps for flow in (*step.flows, *step.watched)}
        assert asked | {word == "allow" for word in said} == {True, False}


@every_case
def test_a_step_asks_about_no_flow_twice(case: Case) -> None:
    for step in case.steps:
        entries = [flow.entry for flow in step.flows]
        assert [entry for number, entry in enumerate(entries) if entry in entries[:number]] == []


# What a flow needs is left out of the account, and so is what every dataplane has.
OPTIONAL = {each for each in Capability if each.value.startswith(("policy.", "host.", "update.", "flow.", "l7."))}


@every_case
def test_the_declared_capabilities_are_those_that_the_resources_need(case: Case) -> None:
    needed = {Capability.LIVE_UPDATE} if len(case.steps) > 1 else set()
    for document in _documents(case):
        needed |= needed_by_document(document)
    if not case.provable and any(flow.entry["to"] in NODES for step in case.steps for flow in step.flows):
        needed.add(Capability.HOST_ENDPOINTS)  # what a workload may send its own node is a setting, the default too
    if case.topology.get("encapsulation") == "vxlan":
        needed.add(Capability.TUNNELS)
    if case.conversations or case.id == "update.window.established":
        needed.add(Capability.CONNECTIONS)
    if any("http" in flow.entry for step in case.steps for flow in step.flows):
        needed.add(Capability.L7_HTTP)
    if any(
        packet.get("source") in case.topology["workloads"] for each in case.conversations for packet in each["packets"]
    ):
        needed.add(Capability.OWN_SOURCE)
    declared = case.capabilities & OPTIONAL
    # A case about bare workloads needs profiles (their absence) without defining any.
    assert needed <= declared <= needed | {Capability.PROFILES}


def _documents(case: Case) -> Iterator[dict[str, Any]]:
    for step in case.steps:
        yield from (dict(document) for document in step.resources)


@every_case
def test_a_core_case_needs_core_capabilities_only(case: Case) -> None:
    if case.level == "core":
        assert {TRAITS[each].level for each in case.capabilities} <= {"core"}


@every_case
def test_a_case_without_ipv6_keeps_its_ipv4_flows_unless_it_is_about_ipv6(case: Case) -> None:
    met = case.within(set(Capability) - {Capability.IPV6})
    if Capability.IPV6 in case.capabilities:
        assert met is None
    else:
        assert met is not None
        flows = [flow.entry for step in met.steps for flow in (*step.flows, *step.watched)]
        entries = [*flows, *met.conversations]
        assert {entry["family"] for entry in entries} == {"ipv4"}


def test_a_dataplane_that_declares_everything_meets_every_case_in_full() -> None:
    assert [case.within(Capability) for case in CASES.values()] == list(CASES.values())


every_conversation = pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.conversations], ids=lambda case: case.id
)


def judged_by_the_model(scenario: Scenario) -> Iterator[tuple[str, bool, bool]]:
    """Each packet of a scenario's conversations: what it is, what was written, what the model says."""
    loaded = scenario.load()
    states = loaded.states
    oracles = [PartialOracle(loaded.topology, each.resources, each.known) for each in states]
    played = [(each, oracles[step]) for step in range(len(states)) for each in spoken(loaded.conversations, step)]
    for (each, _), verdict in zip(played, judged(loaded.topology, played), strict=True):
        yield f"{each.line} of {each.conversation.opening}", bool(each.line.expect), verdict.allowed


@every_conversation
def test_hand_written_verdicts_of_conversations_equal_those_of_the_model(case: Case) -> None:
    assert not [told for told in judged_by_the_model(case.conversing()) if told[1] is not told[2]]


@every_conversation
def test_without_policy_every_packet_comes_through_unless_the_case_says_that_it_proves_nothing(case: Case) -> None:
    control = case.conversing_control()
    if control is not None:
        assert not [told for told in judged_by_the_model(control) if not told[2]]


def test_cases_come_ordered_by_id() -> None:
    assert list(CASES) == sorted(CASES)


@pytest.mark.parametrize(
    "fault",
    [
        "family.ipv6.rules-enforced",
        "rule.ports.range-last-included",
        "rule.ports.range-first-included",
        "rule.not-nets.beats-nets",
        "rule.not-ports.beats-ports",
        "policy.order.ties-by-name",
        "tier.pass.in-last-tier",
        "network-set.update.removed-members-leave",
        "update.policy.both-directions-change",
        "tier.default.pass-reaches-next-tier",
        "named-port.protocol.tcp-does-not-open-udp",
        "named-port.selector.both-must-hold",
        "profile.label.own-wins",
        "profile.missing.denies",
        "icmp.type.zero-is-a-constraint",
        "icmp.code.zero-is-a-constraint",
        "rule.nets.any-of-several",
        "path.same-node.egress-enforced",
        "protocol.sctp.ports-enforced",
        "tier.pass.skips-rest-of-tier",
        "rule.ports.more-than-fifteen",
    ],
)
def test_the_faults_of_the_meta_tests_have_a_case_that_names_them(fault: str) -> None:
    assert fault in CASES


GOOD = """\
id: a.b
title: A sentence.
source: somewhere
capabilities: [protocol.tcp]
level: core
steps:
  - flows:
      - {from: x/red, to: x/server, protocol: TCP, port: 80, expect: allow}
"""


def test_a_flow_without_family_stands_for_both() -> None:
    (step,) = parse_case(GOOD, "a.b.yaml").steps
    assert [flow.entry["family"] for flow in step.flows] == ["ipv4", "ipv6"]
    assert [str(flow.place) for flow in step.flows] == ["a.b.yaml:8:9"] * 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("level: core", "level: middling", "a.b.yaml:5:8"),
        ("source:", "sources:", "unknown key 'sources'"),
        ("protocol.tcp", "protocol.tpc", "a.b.yaml:4:16"),
        ("expect: allow", "expect: perhaps", "a.b.yaml:8:9: a flow without its verdict"),
        ("port: 80,", "port: 80, family: ipv5,", "a.b.yaml:8:70: no such family"),
        ("level: core", "level: core\ntopology: nowhere", "allowed: conformance"),
        ("id: a.b", "id: a.c", "a.b.yaml:1:5: the id is not the file's name"),
        ("id: a.b", "id: A.b", "a.b.yaml:1:5"),
        (GOOD, "# nothing", "not one document"),
    ],
)
def test_a_wrong_case_file_is_refused_at_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(LabError, match=re.escape(message)):
        parse_case(GOOD.replace(old, new), "a.b.yaml")
