# SPDX-License-Identifier: Apache-2.0
"""Host endpoints in a real kernel: which ways to, from and through a node are open under which policy."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_network

import pytest
from dataplane_lab import (
    ALLOW,
    DENY,
    EVERY_WAY,
    FORWARDED,
    FROM_OUTSIDE,
    HOST_WAYS,
    RETURN_TO_HOST,
    TO_OUTSIDE,
    both,
    egress,
    ingress,
    open_ways,
    rule,
    snapshot,
    topology,
)

from dataplanes.api import FailsafePort, NodeSettings
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane
from dataplanes.nftables import NftablesDataplane
from lab.fabric.lab import Lab
from lab.topology import Flow, IcmpHeader
from lab.traffic.prober import Prober

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")

TCP, UDP, ICMPV6 = 6, 17, 58
OPEN = {"profile": True}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(topology(tmp_path_factory.mktemp("lab"))) as made:
        yield made


@pytest.fixture(scope="module")
def prober(lab):
    with Prober(lab) as made:
        yield made


@pytest.fixture(params=[IptablesDataplane, IptablesLegacyDataplane, NftablesDataplane], ids=lambda plugin: plugin.name)
def dataplane(request, lab):
    made = request.param(lab.nodes["node-1"])
    made.start()
    yield made
    made.stop()


@pytest.fixture
def enforce(lab, dataplane):
    """Put a snapshot in force that is told by its host endpoints, workloads and settings."""
    return lambda hosts=None, **fields: dataplane.apply(snapshot(lab, hosts, **fields))


def test_no_host_endpoint_leaves_every_way_open(enforce, prober):
    enforce()
    assert open_ways(prober) == EVERY_WAY


def test_host_endpoint_without_policy_and_profile_closes_the_node_but_not_what_passes(enforce, prober):
    enforce({"eth0": {}})
    assert open_ways(prober) == EVERY_WAY - HOST_WAYS


def test_host_endpoint_of_every_interface_closes_loopback_too(enforce, prober):
    enforce({"*": {}})
    assert open_ways(prober) == EVERY_WAY - HOST_WAYS - {"to itself"}


def test_own_host_endpoint_shuts_out_the_one_of_every_interface(enforce, prober):
    enforce({"eth0": OPEN, "*": {}})
    assert open_ways(prober) == EVERY_WAY - {"to itself"}


def test_profile_of_a_host_endpoint_is_asked_after_its_tiers(enforce, prober):
    enforce({"eth0": OPEN})
    assert open_ways(prober) == EVERY_WAY
    enforce({"eth0": {**OPEN, "tiers": ingress(rule(protocol=TCP))}})
    assert open_ways(prober) == EVERY_WAY - FROM_OUTSIDE


def test_normal_policy_judges_by_direction_and_protocol(enforce, prober):
    enforce({"eth0": {"tiers": both(rule(protocol=UDP, port=80))}})
    assert open_ways(prober) == EVERY_WAY
    assert open_ways(prober, port=81) == EVERY_WAY - HOST_WAYS
    enforce({"eth0": {"tiers": egress(rule(protocol=UDP, port=80))}})
    assert open_ways(prober) == EVERY_WAY - FROM_OUTSIDE


@pytest.mark.parametrize(
    ("action", "opened"), [("drop", set()), ("return", {"pod to host"}), ("accept", {"pod to host"})]
)
def test_workload_reaches_its_host_as_the_action_says(enforce, prober, action, opened):
    enforce(settings=NodeSettings(endpoint_to_host_action=action))
    assert open_ways(prober) == EVERY_WAY - {"pod to host"} | opened


def test_return_leaves_workloads_to_the_rules_of_the_host_and_accept_does_not(enforce, dataplane, lab, prober):
    """A table of its own cannot overrule another one, so for nftables the two are the same (Calico's too)."""
    beside = isinstance(dataplane, NftablesDataplane)
    backend = "legacy" if dataplane.name.endswith("legacy") else "nft"
    tools = (f"iptables-{backend}", f"ip6tables-{backend}")
    for change, opened in (("return", set()), ("accept", set() if beside else {"pod to host"})):
        enforce(settings=NodeSettings(endpoint_to_host_action=change))
        for tool in tools:
            assert lab.nodes["node-1"].run([tool, "-A", "INPUT", "-j", "DROP"]).returncode == 0
        try:
            assert open_ways(prober, ways={"pod to host"}) == opened
        finally:
            for tool in tools:
                lab.nodes["node-1"].run([tool, "-D", "INPUT", "-j", "DROP"])


def test_egress_policy_of_a_workload_holds_for_its_host_whatever_the_action(enforce, prober):
    enforce(workloads={"x/a": egress(DENY)}, settings=NodeSettings(endpoint_to_host_action="accept"))
    assert open_ways(prober) == EVERY_WAY - {"pod to host", "pod to pod", "pod to client"}


def test_normal_policy_never_sees_a_workload_on_its_way_to_the_host(enforce, prober):
    enforce({"*": {"tiers": both(DENY)}})
    assert "pod to host" in open_ways(prober)
    enforce({"*": {"tiers": both(ALLOW)}}, settings=NodeSettings())
    assert "pod to host" not in open_ways(prober)


def test_neighbour_discovery_of_a_workload_is_no_matter_of_policy(enforce, prober):
    enforce(workloads={"x/a": egress(DENY)}, settings=NodeSettings())
    kinds = (128, 130, 131, 132, 133, 134, 135, 136)
    seen = prober.observe([Flow("x/a", "node-1", ICMPV6, None, 6, icmp=IcmpHeader(kind, 0)) for kind in kinds])
    passed = {kind for kind, observation in zip(kinds, seen, strict=True) if observation.verdict == "allow"}
    assert passed == {130, 131, 132, 133, 135, 136}


FAILSAFES = replace(
    RETURN_TO_HOST,
    failsafe_inbound=(
        FailsafePort(TCP, 22),
        FailsafePort(TCP, 23, ip_network("203.0.113.0/24")),
        FailsafePort(TCP, 23, ip_network("2001:db8::/64")),
    ),
    failsafe_outbound=(FailsafePort(UDP, 53),),
)


@pytest.mark.parametrize("stage", ["tiers", "pre_dnat_tiers", "untracked_tiers"])
def test_failsafe_ports_beat_policy(enforce, prober, stage):
    denied = ingress(DENY) if stage == "pre_dnat_tiers" else both(DENY)
    enforce({"eth0": {stage: denied}}, settings=FAILSAFES)
    assert open_ways(prober, TCP, 22, HOST_WAYS) == FROM_OUTSIDE
    assert open_ways(prober, TCP, 23, HOST_WAYS) == {"from client"}
    assert open_ways(prober, UDP, 53, HOST_WAYS) == TO_OUTSIDE
    assert open_ways(prober, TCP, 80, HOST_WAYS) == set()


def test_failsafe_ports_are_not_for_what_passes_through(enforce, prober):
    enforce({"eth0": {"forward_tiers": both(DENY)}}, settings=FAILSAFES)
    assert open_ways(prober, TCP, 22, FORWARDED) == {"pod to pod"}


def test_answers_of_failsafe_flows_stay_tracked(enforce, prober):
    """In raw both directions of a failsafe flow are let by; in filter only a tracked flow's answer then passes."""
    answers = rule(protocol=TCP, source_port=22)
    enforce({"eth0": {"untracked_tiers": both(DENY), "tiers": both(answers)}}, settings=FAILSAFES)
    assert open_ways(prober, TCP, 4000, HOST_WAYS, source_port=22) == TO_OUTSIDE
    assert open_ways(prober, TCP, 4000, HOST_WAYS, source_port=24) == set()


def test_policy_for_forwarded_traffic_of_one_interface_meets_what_crosses_it(enforce, prober):
    enforce({"eth0": {**OPEN, "forward_tiers": ingress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - {"client to pod"}
    enforce({"eth0": {**OPEN, "forward_tiers": egress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - {"pod to client"}
    enforce({"eth0": {**OPEN, "forward_tiers": both(rule(protocol=UDP, port=80))}})
    assert open_ways(prober) == EVERY_WAY
    assert open_ways(prober, port=81) == EVERY_WAY - {"client to pod", "pod to client"}


def test_policy_for_forwarded_traffic_of_every_interface_meets_it_on_both_sides(enforce, prober):
    enforce({"*": {**OPEN, "forward_tiers": ingress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - FORWARDED
    enforce({"*": {**OPEN, "forward_tiers": egress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - FORWARDED
    enforce({"*": {**OPEN, "forward_tiers": both(ALLOW)}})
    assert open_ways(prober) == EVERY_WAY


def test_own_host_endpoint_shuts_out_forward_policy_of_every_interface(enforce, prober):
    enforce({"eth0": OPEN, "*": {**OPEN, "forward_tiers": ingress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - {"pod to pod", "pod to client"}


def test_any_drop_on_the_way_through_is_final(enforce, prober):
    enforce({"*": {**OPEN, "forward_tiers": both(ALLOW)}}, workloads={"x/a": both(DENY)})
    assert open_ways(prober) == EVERY_WAY - FORWARDED - {"pod to host"}


def test_policy_ahead_of_dnat_meets_everything_that_comes_in(enforce, prober):
    enforce({"*": {**OPEN, "pre_dnat_tiers": ingress(DENY)}})
    assert open_ways(prober) == TO_OUTSIDE | {"to own pod"}
    enforce({"eth0": {**OPEN, "pre_dnat_tiers": ingress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - FROM_OUTSIDE - {"client to pod"}


def test_what_is_accepted_ahead_of_dnat_skips_normal_and_forward_ingress(enforce, prober):
    denied = {"tiers": ingress(DENY), "forward_tiers": ingress(DENY)}
    enforce({"eth0": {**OPEN, **denied, "pre_dnat_tiers": ingress(rule(protocol=UDP, port=80))}})
    assert open_ways(prober) == EVERY_WAY
    assert open_ways(prober, port=81) == EVERY_WAY - FROM_OUTSIDE - {"client to pod"}


def test_what_is_accepted_ahead_of_dnat_still_meets_workloads_and_the_way_out(enforce, prober):
    accepted = {"pre_dnat_tiers": ingress(ALLOW)}
    enforce({"*": {**OPEN, **accepted}}, workloads={"x/a": both(DENY)}, settings=NodeSettings())
    assert open_ways(prober) == EVERY_WAY - FORWARDED - {"pod to host"}
    enforce({"*": {**OPEN, **accepted, "forward_tiers": egress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - FORWARDED
    enforce({"*": {**OPEN, **accepted}}, settings=NodeSettings())
    assert open_ways(prober) == EVERY_WAY - {"pod to host"}


def test_untracked_policy_accepts_ahead_of_everything_that_is_the_hosts_own(enforce, prober):
    denied = {"tiers": both(DENY), "forward_tiers": ingress(DENY), "pre_dnat_tiers": ingress(DENY)}
    enforce({"eth0": {**denied, "untracked_tiers": both(rule(protocol=UDP, port=80))}})
    assert open_ways(prober) == EVERY_WAY
    assert open_ways(prober, port=81) == EVERY_WAY - HOST_WAYS - {"client to pod"}


def test_untracked_policy_judges_each_direction_by_itself(enforce, prober):
    server = {"ingress": (rule(protocol=UDP, port=80),), "egress": (rule(protocol=UDP, source_port=80),)}
    enforce({"eth0": {"untracked_tiers": replace(both(), **server)}})
    assert open_ways(prober, ways=HOST_WAYS) == FROM_OUTSIDE
    assert open_ways(prober, port=40000, ways=HOST_WAYS, source_port=80) == TO_OUTSIDE
    enforce({"eth0": {"untracked_tiers": replace(both(), ingress=server["ingress"])}})
    assert open_ways(prober, port=40000, ways=HOST_WAYS, source_port=80) == set()


def test_untracked_deny_drops_what_crosses_the_interface(enforce, prober):
    enforce({"eth0": {**OPEN, "untracked_tiers": ingress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - FROM_OUTSIDE - {"client to pod"}
    enforce({"eth0": {**OPEN, "untracked_tiers": egress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - TO_OUTSIDE


def test_what_is_accepted_untracked_still_meets_workloads_and_the_way_out(enforce, prober):
    accepted = {"untracked_tiers": both(ALLOW)}
    enforce({"eth0": {**OPEN, **accepted}}, workloads={"x/a": ingress(DENY)})
    assert open_ways(prober) == EVERY_WAY - {"client to pod"}
    enforce({"eth0": {**OPEN, **accepted, "forward_tiers": egress(DENY)}})
    assert open_ways(prober) == EVERY_WAY - {"pod to client"}


def test_untracked_policy_of_every_interface_is_void(enforce, prober):
    enforce({"*": {**OPEN, "untracked_tiers": both(DENY)}})
    assert open_ways(prober) == EVERY_WAY


@pytest.mark.parametrize(("drop", "opened"), [(False, {"from client", "client to pod"}), (True, set())])
def test_packets_that_conntrack_cannot_place_are_left_to_policy_unless_said_otherwise(enforce, prober, drop, opened):
    """An echo reply without a request; IPv4, because ICMPv6 has another protocol number."""
    enforce({"eth0": OPEN}, settings=replace(RETURN_TO_HOST, drop_invalid=drop))
    ways = {"from client": ("client", "node-1"), "client to pod": ("client", "x/a")}
    seen = prober.observe([Flow(*ends, 1, None, 4, icmp=IcmpHeader(0, 0)) for ends in ways.values()])
    assert {way for way, found in zip(ways, seen, strict=True) if found.verdict == "allow"} == opened


@pytest.mark.parametrize("allowed", [False, True])
def test_tunnels_of_workloads_are_cut_unless_settings_allow_them(enforce, prober, allowed):
    settings = replace(RETURN_TO_HOST, vxlan_port=4790)
    if allowed:
        settings = replace(settings, allow_vxlan_from_workloads=True, allow_ipip_from_workloads=True)
    enforce(settings=settings)
    way = {"pod to client"}
    opened = way if allowed else set()
    assert open_ways(prober, UDP, 4790, way) == opened
    assert open_ways(prober, 4, None, way) == opened
    assert open_ways(prober, UDP, 4789, way) == way
