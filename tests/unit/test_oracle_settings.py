# SPDX-License-Identifier: Apache-2.0
"""FelixConfiguration where it changes what workloads may send, and what connection tracking calls invalid."""

from __future__ import annotations

import pytest
from oracle_lab import Document, Lab, calico, gnp, lab

from lab.errors import Place
from lab.oracle.settings import FelixSettings, felix_settings
from lab.policy.resources import Failsafe, FelixConfiguration

__all__ = ["lab"]

OPEN: Document = gnp(
    {"types": ["Ingress", "Egress"], "ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}
)
IPIP_IS_OPEN: Document = {"allowIPIPPacketsFromWorkloads": True}
VXLAN, IP_IN_IP = ("UDP", 4789), (4,)


def felix(name: str = "default", **spec: object) -> Document:
    return calico("FelixConfiguration", name, spec)


TUNNELS: list[tuple[list[Document], set[tuple[object, ...]]]] = [
    ([], {VXLAN, IP_IN_IP}),
    ([felix(allowVXLANPacketsFromWorkloads=True)], {IP_IN_IP}),
    ([felix(**IPIP_IS_OPEN)], {VXLAN}),
    ([felix(vxlanPort=4790)], {("UDP", 4790), IP_IN_IP}),
    ([felix(vxlanPort=4790, allowVXLANPacketsFromWorkloads=True)], {IP_IN_IP}),
    ([felix("node.node-1", allowVXLANPacketsFromWorkloads=True)], {IP_IN_IP}),
    ([felix("node.node-2", allowVXLANPacketsFromWorkloads=True)], {VXLAN, IP_IN_IP}),
    ([felix(**IPIP_IS_OPEN), felix("node.node-1", allowIPIPPacketsFromWorkloads=False)], {VXLAN, IP_IN_IP}),
    ([felix("node.node-1", vxlanPort=4790), felix(**IPIP_IS_OPEN)], {("UDP", 4790)}),
]


@pytest.mark.parametrize(("settings", "denied"), TUNNELS)
def test_workload_may_send_the_tunnels_that_its_node_allows(
    lab: Lab, settings: list[Document], denied: set[tuple[object, ...]]
) -> None:
    judge = lab(OPEN, *settings)
    asked = [VXLAN, ("UDP", 4790), IP_IN_IP, ("TCP", 4789)]
    assert {packet for packet in asked if not judge.allows("x/a", "x/b", *packet)} == denied  # x/a is on node-1
    assert judge.allows("client", "x/a", *VXLAN)


V4_REQUESTS, V6_REQUESTS = {8, 13, 15, 17}, {128, 139}
V6_UNTRACKED = {130, 131, 132, 133, 134, 135, 136, 143, 151, 152}


@pytest.mark.parametrize(
    ("protocol", "family", "valid"),
    [(1, 4, V4_REQUESTS), (58, 6, V6_REQUESTS | V6_UNTRACKED), (1, 6, set()), (58, 4, set())],
)
def test_icmp_that_nobody_asked_for_is_invalid_where_felix_drops_that(
    lab: Lab, protocol: int, family: int, valid: set[int]
) -> None:
    judge = lab(OPEN, felix(disableConntrackInvalidCheck=False))
    types = {kind for kind in range(256) if judge.allows("x/a", "x/b", protocol, family=family, icmp=(kind, 0))}
    assert types == valid
    assert judge.default("x/a", "x/b", protocol, family=family, icmp=(3, 1)) == ("egress", "conntrack-invalid", None)


@pytest.mark.parametrize(
    ("protocol", "family", "allowed"),
    [
        ("TCP", 4, True),
        ("UDP", 6, True),
        ("SCTP", 4, True),
        ("UDPLite", 4, False),
        ("UDPLite", 6, False),
        (59, 4, True),
        (59, 6, False),
        (253, 4, True),
        (47, 6, True),
    ],
)
def test_other_protocols_are_valid_but_for_udp_lite_and_no_next_header(
    lab: Lab, protocol: str | int, family: int, allowed: bool
) -> None:
    judge = lab(OPEN, felix(disableConntrackInvalidCheck=False))
    assert judge.allows("x/a", "x/b", protocol, family=family) is allowed


def test_policy_alone_decides_on_invalid_packets_unless_a_file_says_otherwise(lab: Lab) -> None:
    for settings in ([], [felix(disableConntrackInvalidCheck=True)], [felix(vxlanPort=4790)]):
        assert lab(OPEN, *settings).allows("x/a", "x/b", 1, icmp=(0, 0))


def test_invalid_packet_is_dropped_at_the_node_that_says_so(lab: Lab) -> None:
    judge = lab(OPEN, felix("node.node-2", disableConntrackInvalidCheck=False))  # x/b is on node-2
    assert judge.default("x/a", "x/b", 1, icmp=(0, 0)) == ("ingress", "conntrack-invalid", None)
    assert judge.default("x/b", "x/a", 1, icmp=(0, 0)) == ("egress", "conntrack-invalid", None)
    assert judge.allows("x/a", "y/c", 1, icmp=(0, 0))
    assert judge.allows("client", "x/a", 1, icmp=(0, 0))


def test_invalid_packet_is_dropped_ahead_of_policy(lab: Lab) -> None:
    closed = gnp({"types": ["Ingress", "Egress"]})
    judge = lab(closed, felix(disableConntrackInvalidCheck=False))
    assert judge.default("x/a", "x/b", 1, icmp=(0, 0))[1] == "conntrack-invalid"
    asked = judge.oracle.explain(judge.flow("x/a", "x/b", 1, icmp=(0, 0))).directions[0]
    assert (asked.tiers, asked.profiles, asked.verdict.allowed) == ((), (), False)


def said(node: str | None, **fields: object) -> FelixConfiguration:
    nothing = dict.fromkeys(FelixConfiguration.__dataclass_fields__)
    return FelixConfiguration(**{**nothing, "node": node, "place": Place("felix"), **fields})


def test_settings_of_a_node_are_its_own_then_global_then_default() -> None:
    ports = (Failsafe(6, 1),)
    found = felix_settings(
        [said("n", vxlan_port=1), said(None, vxlan_port=2, failsafe_inbound=ports), said("m", drop_invalid=True)], "n"
    )
    assert found == FelixSettings(vxlan_port=1, failsafe_inbound=ports)
    assert felix_settings([said("n", failsafe_inbound=())], "n").failsafe_inbound == ()


def test_default_failsafes_are_those_of_felix() -> None:
    settings = FelixSettings()
    both = {(6, port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667)}
    assert {(f.protocol, f.port) for f in settings.failsafe_inbound} == both | {(6, 22), (17, 68)}
    assert {(f.protocol, f.port) for f in settings.failsafe_outbound} == both | {(17, 53), (17, 67)}
