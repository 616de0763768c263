# SPDX-License-Identifier: Apache-2.0
"""What host endpoints' policies are asked of: applyOnForward, preDNAT, doNotTrack, failsafe ports, by hand."""

from __future__ import annotations

import pytest
from oracle_hosts import ALLOW, DENY, NODES, PASS, felix, forward, hep, policy, pre_dnat, tier, untracked
from oracle_lab import Document, Lab, calico, gnp, lab

__all__ = ["lab"]

both = pytest.mark.parametrize("family", [4, 6])


@both
def test_forward_policy_of_eth0_meets_what_crosses_it_and_nothing_else(lab: Lab, family: int) -> None:
    judge = lab(hep(), forward("f", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert judge.rule("client", "x/a", family=family)[1] == "f"
    assert judge.verdict("client", "x/a", family=family).decided_by.direction.value == "ingress"
    assert judge.verdict("x/a", "client", family=family).decided_by.direction.value == "egress"
    assert judge.verdict("x/a", "x/b", family=family).decided_by.direction.value == "egress"
    assert judge.verdict("x/b", "x/a", family=family).decided_by.direction.value == "ingress"
    assert judge.allows("x/a", "y/c", family=family)
    assert judge.allows("x/b", "client", family=family)


@both
def test_policy_without_apply_on_forward_leaves_passing_traffic_alone(lab: Lab, family: int) -> None:
    judge = lab(hep(interface="*"), policy("p", ingress=[DENY], egress=[DENY]), nodes=NODES)
    for pair in (("client", "x/a"), ("x/a", "client"), ("x/a", "x/b"), ("x/a", "y/c")):
        assert judge.allows(*pair, family=family)


@both
def test_workload_out_of_node_meets_forward_ingress_workload_forward_egress(lab: Lab, family: int) -> None:
    star = hep("s", interface="*")
    into, out = forward("into", "s", ingress=[DENY]), forward("out", "s", egress=[DENY])
    pod = gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]}, "pod")
    assert lab(star, into, pod, out, nodes=NODES).rule("x/a", "client", family=family)[1] == "into"
    assert lab(star, pod, out, nodes=NODES).rule("x/a", "client", family=family)[1] == "pod"
    assert lab(star, out, nodes=NODES).rule("x/a", "client", family=family)[1] == "out"
    # With an endpoint of its own, eth0 is not among every other interface.
    assert lab(star, hep(), out, nodes=NODES).allows("x/a", "client", family=family)


@both
def test_workload_pair_on_one_node_meets_forward_policy_of_every_interface(lab: Lab, family: int) -> None:
    stages = [
        ("dnat", pre_dnat("dnat", ingress=[DENY])),
        ("into", forward("into", ingress=[DENY])),
        ("sender", gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]}, "sender")),
        ("receiver", gnp({"selector": "pod == 'c'", "types": ["Ingress"], "ingress": [DENY]}, "receiver")),
        ("out", forward("out", egress=[DENY])),
    ]
    for index, (name, _) in enumerate(stages):
        judge = lab(hep(interface="*"), *(document for _, document in stages[index:]), nodes=NODES)
        assert judge.rule("x/a", "y/c", family=family)[1] == name


@both
def test_external_to_workload_meets_every_stage_of_its_node_in_order(lab: Lab, family: int) -> None:
    stages = [
        ("raw", untracked("raw", ingress=[DENY])),
        ("dnat", pre_dnat("dnat", ingress=[DENY])),
        ("into", forward("into", ingress=[DENY])),
        ("pod", gnp({"selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY]}, "pod")),
        ("out", forward("out", "s", egress=[DENY])),
    ]
    for index, (name, _) in enumerate(stages):
        documents = (document for _, document in stages[index:])
        judge = lab(hep(), hep("s", interface="*"), *documents, nodes=NODES)
        assert judge.rule("client", "x/a", family=family)[1] == name


@both
def test_workload_to_workload_across_nodes_meets_both_hosts(lab: Lab, family: int) -> None:
    stages = [
        ("sender", gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]}, "sender")),
        ("out", forward("out", egress=[DENY])),
        ("raw", untracked("raw", "h2", ingress=[DENY])),
        ("dnat", pre_dnat("dnat", "h2", ingress=[DENY])),
        ("into", forward("into", "h2", ingress=[DENY])),
        ("receiver", gnp({"selector": "pod == 'b'", "types": ["Ingress"], "ingress": [DENY]}, "receiver")),
    ]
    for index, (name, _) in enumerate(stages):
        judge = lab(hep(), hep("h2", "node-2"), *(document for _, document in stages[index:]), nodes=NODES)
        assert judge.rule("x/a", "x/b", family=family)[1] == name
    # What is untracked on the sending node is what the node itself sends.
    mine = untracked("mine", egress=[DENY], ingress=[DENY])
    assert lab(hep(), mine, nodes=NODES).allows("x/a", "x/b", family=family)


def test_forward_policy_in_one_direction_leaves_the_other_open(lab: Lab) -> None:
    """Unconfirmed: from 3.30 on Calico leaves the other direction to the node's own FORWARD rules."""
    into = lab(hep(), forward("f", ingress=[DENY]), nodes=NODES)
    assert not into.allows("client", "x/a")
    assert into.allows("x/a", "client")
    out = lab(hep(), forward("f", egress=[DENY]), nodes=NODES)
    assert out.allows("client", "x/a")
    assert not out.allows("x/a", "client")


def test_forward_tier_denies_at_its_end_and_asks_no_profile(lab: Lab) -> None:
    open_ = calico("Profile", "open", {"ingress": [ALLOW], "egress": [ALLOW]})
    some = forward("f", ingress=[{**ALLOW, "protocol": "UDP"}])
    judge = lab(open_, hep(profiles=["open"]), some, nodes=NODES)
    assert judge.default("client", "x/a") == ("ingress", "tier-end-deny", "default")
    assert judge.allows("client", "x/a", "UDP", 53)


@pytest.mark.parametrize("passes", ["rule", "tier"])
def test_forward_tier_that_passes_on_to_nobody_leaves_the_packet_alone(lab: Lab, passes: str) -> None:
    """Unconfirmed: such a packet has no mark of Calico's, and meets the node's own FORWARD rules."""
    rules = [PASS] if passes == "rule" else [{**DENY, "protocol": "UDP"}]
    judge = lab(tier("t", 1, "Pass"), hep(), forward("f", tier="t", ingress=rules), nodes=NODES)
    assert judge.allows("client", "x/a")
    assert not judge.allows("client", "node-1")


@both
def test_pre_dnat_accept_spares_host_policy_and_not_the_workloads(lab: Lab, family: int) -> None:
    early = pre_dnat("d", ingress=[{**ALLOW, "protocol": "TCP"}])
    closed = policy("n", ingress=[DENY])
    judge = lab(hep(), early, closed, nodes=NODES)
    assert judge.rule("client", "node-1", family=family)[1] == "d"
    assert judge.rule("client", "node-1", "UDP", family=family)[1] == "n"  # no match goes on
    through = lab(hep(), early, forward("f", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert through.default("client", "x/a", family=family) == ("ingress", "profile", "kns.x")
    assert through.rule("client", "x/a", "UDP", family=family)[1] == "f"
    pod = gnp({"selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY]}, "pod")
    assert lab(hep(), early, pod, nodes=NODES).rule("client", "x/a", family=family)[1] == "pod"
    star = lab(hep(interface="*"), early, forward("f", egress=[DENY]), nodes=NODES)
    assert star.rule("client", "x/a", family=family)[1] == "f"  # the way out is not spared


@both
def test_pre_dnat_accept_on_one_node_is_forgotten_on_the_next(lab: Lab, family: int) -> None:
    star = hep("s", interface="*")
    judge = lab(star, hep("h2", "node-2"), pre_dnat("d", "s", ingress=[ALLOW]), nodes=NODES)
    assert judge.default("x/a", "node-2", family=family)[:2] == ("ingress", "host-endpoint-without-policy")


@both
def test_untracked_accept_is_the_last_word_of_the_host(lab: Lab, family: int) -> None:
    raw = untracked("raw", ingress=[{**ALLOW, "protocol": "TCP"}], egress=[{**ALLOW, "protocol": "TCP"}])
    closed = policy("n", ingress=[DENY], egress=[DENY]), pre_dnat("d", ingress=[DENY])
    judge = lab(hep(), raw, *closed, nodes=NODES)
    assert judge.rule("client", "node-1", family=family)[1] == "raw"
    assert judge.rule("node-1", "client", family=family)[1] == "raw"
    assert judge.rule("client", "node-1", "UDP", family=family)[1] == "d"
    assert judge.rule("node-1", "client", "UDP", family=family)[1] == "n"


@both
def test_untracked_accept_spares_forward_ingress_alone(lab: Lab, family: int) -> None:
    raw = untracked("raw", ingress=[ALLOW])
    judge = lab(hep(), raw, pre_dnat("d", ingress=[DENY]), forward("f", ingress=[DENY]), nodes=NODES)
    assert judge.default("client", "x/a", family=family) == ("ingress", "profile", "kns.x")
    pod = gnp({"selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY]}, "pod")
    assert lab(hep(), raw, pod, nodes=NODES).rule("client", "x/a", family=family)[1] == "pod"
    out = forward("out", "s", egress=[DENY])
    assert lab(hep(), hep("s", interface="*"), raw, out, nodes=NODES).rule("client", "x/a", family=family)[1] == "out"


@both
def test_untracked_policy_of_every_interface_is_ignored(lab: Lab, family: int) -> None:
    judge = lab(hep(interface="*"), untracked("raw", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert judge.allows("client", "x/a", family=family)
    allowing = lab(hep(interface="*"), untracked("raw", ingress=[ALLOW]), nodes=NODES)
    assert allowing.default("client", "node-1", family=family)[1] == "host-endpoint-without-policy"


@both
@pytest.mark.parametrize("field", ["doNotTrack", "preDNAT"])
def test_early_policy_has_no_effect_on_workloads(lab: Lab, field: str, family: int) -> None:
    spec = {"selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY], "applyOnForward": True, field: True}
    assert lab(gnp(spec), nodes=NODES).default("x/b", "x/a", family=family) == ("ingress", "profile", "kns.x")


@both
def test_apply_on_forward_is_nothing_to_workloads(lab: Lab, family: int) -> None:
    spec = {"selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY], "applyOnForward": True}
    assert lab(gnp(spec), nodes=NODES).rule("x/b", "x/a", family=family)[1] == "p"


@pytest.mark.parametrize("make", [untracked, pre_dnat])
def test_early_tiers_pass_what_no_policy_of_them_decides(lab: Lab, make) -> None:
    first = tier("first", 1)
    rules = [{**DENY, "protocol": "UDP"}]
    judge = lab(first, hep(), make("e", tier="first", ingress=rules), policy("n", ingress=[ALLOW]), nodes=NODES)
    assert judge.rule("client", "node-1")[1] == "n"
    assert judge.rule("client", "node-1", "UDP")[1] == "e"
    passing = [{**PASS, "protocol": "TCP"}, DENY]
    later = make("e", tier="first", ingress=passing), make("l", ingress=[DENY])
    assert lab(first, hep(), *later, nodes=NODES).rule("client", "node-1")[1] == "l"


def test_ordinary_policy_is_asked_tier_by_tier_and_then_profiles(lab: Lab) -> None:
    open_ = calico("Profile", "open", {"ingress": [ALLOW]})
    first = policy("a", tier="first", ingress=[{**PASS, "protocol": "TCP"}, DENY])
    documents = tier("first", 1), open_, hep(profiles=["open"]), first
    assert lab(*documents, nodes=NODES).default("client", "node-1") == ("ingress", "profile", "open")
    assert lab(*documents, policy("b", ingress=[DENY]), nodes=NODES).rule("client", "node-1") == ("default", "b", 0)
    assert lab(*documents, nodes=NODES).rule("client", "node-1", "UDP") == ("first", "a", 1)
    ended = policy("a", tier="first", ingress=[{**ALLOW, "protocol": "UDP"}])
    judge = lab(tier("first", 1), open_, hep(profiles=["open"]), ended, nodes=NODES)
    assert judge.default("client", "node-1") == ("ingress", "tier-end-deny", "first")


@pytest.mark.parametrize(
    ("heps", "polices"),
    [
        ([hep("b"), hep("a")], "a"),
        ([hep("a", interface="*"), hep("b")], "b"),
        ([hep("a", interface="eth1"), hep("b", interface="*")], "b"),
        ([hep("b", interface=None, expectedIPs=["198.19.0.11"]), hep("c")], "b"),
        ([hep("c", interface=None, expectedIPs=["198.19.0.11"]), hep("b")], "b"),
        ([hep("a", interface=None, expectedIPs=["203.0.113.5"]), hep("b", interface="*")], "b"),
        ([hep("a", interface=None, expectedIPs=["fd00:19::11"])], "a"),
        ([hep("a", interface="eth1", expectedIPs=["198.19.0.11"]), hep("b", interface="*")], "b"),
        ([hep("b", interface="*"), hep("a", interface="*")], "a"),
        ([hep("a", "node-2"), hep("b")], "b"),
        ([hep("a", "node-2")], None),
        ([hep("a", interface="lo")], None),
    ],
)
def test_first_host_endpoint_by_name_has_the_interface(lab: Lab, heps: list[Document], polices: str | None) -> None:
    judge = lab(*heps, nodes=NODES)
    owner = None if polices is None else f"HostEndpoint {polices} on node-1"
    assert judge.default("client", "node-1")[2] == owner


def test_host_endpoint_of_a_link_is_met_by_nothing_that_is_routed(lab: Lab) -> None:
    judge = lab(hep(interface="wire0"), policy("p", ingress=[DENY]), forward("f", ingress=[DENY]), nodes=NODES)
    assert judge.allows("client", "node-1")
    assert judge.allows("client", "x/a")


# -- failsafe ports -------------------------------------------------------------------------------------------

INBOUND = {("TCP", port) for port in (22, 179, 2379, 2380, 5473, 6443, 6666, 6667)} | {("UDP", 68)}
OUTBOUND = {("TCP", port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667)} | {("UDP", 53), ("UDP", 67)}
ASKED = INBOUND | OUTBOUND | {("TCP", 21), ("TCP", 23), ("UDP", 22), ("TCP", 53), ("TCP", 68), ("UDP", 179)}


@both
def test_failsafe_ports_stay_open_under_a_deny(lab: Lab, family: int) -> None:
    judge = lab(hep(), policy("p", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert {port for port in ASKED if judge.allows("client", "node-1", *port, family=family)} == INBOUND
    assert {port for port in ASKED if judge.allows("node-1", "client", *port, family=family)} == OUTBOUND
    assert judge.default("client", "node-1", "TCP", 22, family=family) == ("ingress", "failsafe", None)
    assert judge.default("node-1", "client", "UDP", 53, family=family) == ("egress", "failsafe", None)
    assert not judge.allows("client", "node-1", "SCTP", 22, family=family)


@both
@pytest.mark.parametrize("make", [untracked, pre_dnat])
def test_failsafe_ports_go_before_early_policies(lab: Lab, make, family: int) -> None:
    judge = lab(hep(), make("e", ingress=[DENY]), nodes=NODES)
    assert judge.default("client", "node-1", "TCP", 22, family=family) == ("ingress", "failsafe", None)
    assert judge.rule("client", "node-1", "TCP", 23, family=family)[1] == "e"


@both
def test_failsafe_ports_are_nothing_to_what_passes_through(lab: Lab, family: int) -> None:
    judge = lab(hep(), forward("f", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert judge.rule("client", "x/a", "TCP", 22, family=family)[1] == "f"
    assert judge.rule("x/a", "client", "TCP", 2379, family=family)[1] == "f"
    early = lab(hep(), pre_dnat("d", ingress=[DENY]), forward("f", ingress=[DENY]), nodes=NODES)
    assert early.rule("client", "x/a", "TCP", 22, family=family)[1] == "f"
    assert early.rule("client", "x/a", "TCP", 23, family=family)[1] == "d"


@both
def test_failsafe_ports_need_the_other_nodes_help(lab: Lab, family: int) -> None:
    judge = lab(hep(), hep("h2", "node-2"), nodes=NODES)
    assert judge.default("node-1", "node-2", "TCP", 22, family=family)[:2] == ("egress", "host-endpoint-without-policy")
    assert judge.default("node-1", "node-2", "TCP", 2379, family=family) == ("ingress", "failsafe", None)
    assert judge.default("node-2", "node-1", "UDP", 53, family=family)[:2] == (
        "ingress",
        "host-endpoint-without-policy",
    )


@both
def test_answers_of_failsafe_ports_pass_ahead_of_tracking_only(lab: Lab, family: int) -> None:
    raw = untracked("raw", ingress=[DENY], egress=[DENY])
    open_ = policy("n", ingress=[ALLOW], egress=[ALLOW])
    judge = lab(hep(), raw, open_, nodes=NODES)
    # From the port 2379 of somebody whom the node may ask there, and from the node's own port 22.
    assert judge.rule("client", "node-1", "TCP", 9000, source_port=2379, family=family)[1] == "n"
    assert judge.rule("node-1", "client", "TCP", 9000, source_port=22, family=family)[1] == "n"
    assert judge.rule("client", "node-1", "TCP", 9000, source_port=22, family=family)[1] == "raw"
    assert judge.rule("client", "node-1", "UDP", 9000, source_port=53, family=family)[1] == "n"
    assert judge.rule("node-1", "client", "UDP", 9000, source_port=53, family=family)[1] == "raw"
    closed = lab(hep(), policy("n", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert closed.rule("client", "node-1", "TCP", 9000, source_port=2379, family=family)[1] == "n"
    early = lab(hep(), pre_dnat("d", ingress=[DENY]), nodes=NODES)
    assert early.rule("client", "node-1", "TCP", 9000, source_port=2379, family=family)[1] == "d"


def test_failsafe_nets_hold_the_other_side(lab: Lab) -> None:
    ports = [{"protocol": "TCP", "port": 1000, "net": "203.0.113.9/32"}, {"protocol": "UDP", "port": 1001}]
    judge = lab(felix(failsafeInboundHostPorts=ports, failsafeOutboundHostPorts=ports), hep(), nodes=NODES)
    assert judge.allows("client", "node-1", "TCP", 1000)
    assert not judge.allows("other", "node-1", "TCP", 1000)
    assert not judge.allows("client", "node-1", "TCP", 1000, family=6)
    assert judge.allows("node-1", "client", "TCP", 1000)
    assert not judge.allows("node-1", "other", "TCP", 1000)
    assert judge.allows("other", "node-1", "UDP", 1001)
    assert judge.allows("client", "node-1", "UDP", 1001, family=6)
    assert not judge.allows("client", "node-1", "TCP", 22)


def test_failsafe_ports_are_configured_field_by_field(lab: Lab) -> None:
    one = [{"protocol": "TCP", "port": 1000}]
    judge = lab(
        felix(failsafeInboundHostPorts=one),
        felix("node.node-2", failsafeOutboundHostPorts=[]),
        hep(),
        hep("h2", "node-2"),
        nodes=NODES,
    )
    for node in ("node-1", "node-2"):
        assert judge.allows("client", node, "TCP", 1000)
        assert not judge.allows("client", node, "TCP", 22)
    assert judge.allows("node-1", "client", "UDP", 53)
    assert not judge.allows("node-2", "client", "UDP", 53)


@both
def test_invalid_packets_are_dropped_ahead_of_failsafes_only_where_said(lab: Lab, family: int) -> None:
    answer = ("ICMP", None) if family == 4 else ("ICMPv6", None)
    more = {"icmp": (0 if family == 4 else 129, 0), "family": family}
    documents = hep(), policy("n", ingress=[ALLOW], egress=[ALLOW])
    assert lab(*documents, nodes=NODES).rule("client", "node-1", *answer, **more)[1] == "n"
    strict = felix("node.node-1", disableConntrackInvalidCheck=False)
    judge = lab(strict, *documents, nodes=NODES)
    assert judge.default("client", "node-1", *answer, **more) == ("ingress", "conntrack-invalid", None)
    assert judge.default("node-1", "client", *answer, **more) == ("egress", "conntrack-invalid", None)
    raw = lab(strict, *documents, untracked("raw", ingress=[ALLOW]), nodes=NODES)
    assert raw.rule("client", "node-1", *answer, **more)[1] == "raw"
    assert raw.default("client", "x/a", *answer, **more) == ("ingress", "profile", "kns.x")


def test_udp_lite_is_invalid_where_it_comes_in_and_not_where_it_is_sent(lab: Lab) -> None:
    strict = felix("node.node-1", disableConntrackInvalidCheck=False)
    judge = lab(strict, hep(), policy("n", ingress=[ALLOW], egress=[ALLOW]), nodes=NODES)
    assert judge.default("client", "node-1", "UDPLite") == ("ingress", "conntrack-invalid", None)
    assert judge.rule("node-1", "client", "UDPLite")[1] == "n"
