# SPDX-License-Identifier: Apache-2.0
"""Host endpoints: which interface they cover, which policies they get at which stage, and what holds for a node."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import ip_address

import pytest
from compile_draws import topology
from compile_world import (
    EGRESS,
    HERE,
    INGRESS,
    NAMESPACES,
    TCP,
    Profile,
    Tier,
    endpoint,
    members_v4,
    nets,
    only_rule,
    policy,
    port,
    port_members_v4,
    rule,
    side,
    source_set,
)
from compile_world import workload as make_workload

from lab.policy.compile import compile_snapshots
from lab.policy.resources import Direction, Failsafe, FelixConfiguration, HostEndpoint, IpPool, Resources
from lab.policy.snapshot import FailsafePort, NodeSettings, PolicyId

A = make_workload("x/a", 1, {"app": "web"}, node="n1")
N1, N2 = ("198.19.0.1", "198.19.0.2")
ALL_NODES = tuple(address for node in topology(NAMESPACES.values(), (A,)).nodes.values() for address in node.addresses)


def host(name, interface="eth0", *expected, node="n1", labels=None, profiles=(), ports=()):
    addresses = tuple(map(ip_address, expected))
    return HostEndpoint(name, node, interface, addresses, labels or {}, tuple(profiles), tuple(ports), HERE)


def compiled(*policies, hosts=(), node="n1", workloads=(A,), **more):
    resources = Resources(policies=tuple(policies), host_endpoints=tuple(hosts), **more)
    return compile_snapshots(topology(NAMESPACES.values(), workloads), resources)[node]


def covering(*hosts, node="n1"):
    return {interface: found.name for interface, found in compiled(hosts=hosts, node=node).host_endpoints.items()}


def names(tiers):
    return [(tier.name, [p.name for p in tier.ingress], [p.name for p in tier.egress]) for tier in tiers]


def test_named_interface_is_covered_by_the_first_name():
    assert covering(host("b"), host("a"), host("c")) == {"eth0": "a"}


def test_expected_address_claims_the_interface_that_has_it():
    assert covering(host("b"), host("a", None, N1)) == {"eth0": "a"}


def test_expected_address_of_another_node_claims_nothing():
    assert covering(host("a", None, N2)) == {}


def test_all_interfaces_are_covered_by_the_first_such_name_beside_named_ones():
    assert covering(host("z"), host("c", "*"), host("b", "*")) == {"eth0": "z", "*": "b"}


def test_link_is_an_interface_and_an_unknown_name_is_none():
    assert covering(host("a", "eth1"), host("b", "eth9")) == {"eth1": "a"}


def test_loopback_is_an_interface_like_any_other():
    assert covering(host("a", "lo"), host("b", None, "127.0.0.1")) == {"lo": "a"}


def test_interface_name_beats_expected_addresses():
    assert covering(host("a", "eth9", N1)) == {}


def test_endpoint_covers_only_its_own_node():
    hosts = host("a"), host("b", node="n2")
    assert covering(*hosts, node="n2") == {"eth0": "b"}


def test_each_stage_has_its_own_list():
    forward = {"apply_on_forward": True}
    policies = (
        policy("normal", types=frozenset(Direction)),
        replace(policy("forward"), **forward),
        replace(policy("nat"), **forward, pre_dnat=True),
        replace(policy("raw", types=frozenset(Direction)), **forward, do_not_track=True),
    )
    found = compiled(*policies, hosts=[host("h")])
    (on_eth0,) = found.host_endpoints.values()
    assert names(on_eth0.tiers) == [("default", ["forward", "normal"], ["normal"])]
    assert names(on_eth0.forward_tiers) == [("default", ["forward"], [])]
    assert names(on_eth0.pre_dnat_tiers) == [("default", ["nat"], [])]
    assert names(on_eth0.untracked_tiers) == [("default", ["raw"], ["raw"])]
    assert [tier.pass_by_default for tier in on_eth0.tiers + on_eth0.forward_tiers] == [False, False]
    assert [tier.pass_by_default for tier in on_eth0.pre_dnat_tiers + on_eth0.untracked_tiers] == [True, True]
    assert {p.name for p in found.policies} == {"normal", "forward", "nat", "raw"}


def test_workload_has_no_policies_from_before_dnat_or_conntrack():
    policies = [replace(policy(name), apply_on_forward=True, **{name: True}) for name in ("pre_dnat", "do_not_track")]
    found = compiled(*policies, replace(policy("forward"), apply_on_forward=True))
    assert names(endpoint(found, "x/a").tiers) == [("default", ["forward"], [])]
    assert list(found.policies) == [PolicyId("GlobalNetworkPolicy", "", "forward")]


def test_all_interfaces_have_no_untracked_policies():
    raw = replace(policy("raw"), apply_on_forward=True, do_not_track=True)
    found = compiled(raw, hosts=[host("h", "*")])
    assert found.host_endpoints["*"].untracked_tiers == ()
    assert found.policies == {}


def test_endpoint_without_policy_has_empty_lists():
    (on_eth0,) = compiled(hosts=[host("h", profiles=["open"])]).host_endpoints.values()
    assert (on_eth0.tiers, on_eth0.forward_tiers, on_eth0.pre_dnat_tiers, on_eth0.untracked_tiers) == ((), (), (), ())
    assert on_eth0.profiles == ("open",)


def test_profile_of_a_host_endpoint_is_held_and_lends_its_labels():
    lending = Profile("open", (rule(),), (), {"role": "edge"})
    found = compiled(policy("p", selector="role == 'edge'"), hosts=[host("h", profiles=["open"])], profiles=(lending,))
    assert "open" in found.profiles
    assert names(found.host_endpoints["eth0"].tiers) == [("default", ["p"], [])]


def test_rule_selector_reaches_expected_addresses_only():
    hosts = host("h", "eth0", "203.0.113.1", labels={"role": "host"}), host("i", "eth1", labels={"role": "host"})
    assert members_v4(source_set(compiled(policy("p", rule(source=side("role == 'host'"))), hosts=hosts))) == {
        "203.0.113.1"
    }


def test_named_port_of_a_host_endpoint_counts():
    hosts = [host("h", "eth9", N1, ports=[port("http", 8080)])]
    found = compiled(policy("p", rule(protocol=TCP, destination=side(ports=("http",)))), hosts=hosts)
    (set_id,) = only_rule(found).destination.port_sets
    assert port_members_v4(found.ip_sets[set_id]) == {(N1, 6, 8080)}


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [("!has(foo)", {"198.18.0.1", N1}), ("all()", {"198.18.0.1"}), ("global()", {N1})],
)
def test_namespace_selector_of_a_rule_reaches_hosts_by_what_they_lack(namespaces, expected):
    found = compiled(policy("p", rule(source=side(namespaces=namespaces))), hosts=[host("h", "eth0", N1)])
    assert members_v4(source_set(found)) == expected


@pytest.mark.parametrize(("namespaces", "reached"), [(None, True), ("has(team)", False), ("!has(team)", False)])
def test_all_in_a_subject_stops_reaching_hosts_with_a_namespace_selector(namespaces, reached):
    found = compiled(policy("p", namespace_selector=namespaces), hosts=[host("h")])
    assert bool(found.host_endpoints["eth0"].tiers) is reached


def test_namespaced_policy_never_reaches_a_host():
    assert compiled(policy("p", namespace="x"), hosts=[host("h")]).host_endpoints["eth0"].tiers == ()


def test_forward_list_ends_as_its_tier_does():
    passing = Tier("soft", 1.0, True)
    found = compiled(
        replace(policy("p", tier="soft", types=EGRESS), apply_on_forward=True), hosts=[host("h")], tiers=(passing,)
    )
    (tier,) = found.host_endpoints["eth0"].forward_tiers
    assert (tier.ingress, [p.name for p in tier.egress], tier.pass_by_default) == ((), ["p"], True)


UNSAID = {field.name: None for field in fields(FelixConfiguration)}


def configuration(node=None, **said):
    return FelixConfiguration(**{**UNSAID, "node": node, "place": HERE, **said})


def settings(*configurations, pools=(), node="n1"):
    return compiled(felix_configurations=tuple(configurations), ip_pools=tuple(pools), node=node).settings


def test_settings_that_nobody_makes_are_felix_defaults():
    found = settings()
    assert (found.endpoint_to_host_action, found.vxlan_port, found.drop_invalid) == ("drop", 4789, False)
    inbound = {(failsafe.protocol, failsafe.port) for failsafe in found.failsafe_inbound}
    outbound = {(failsafe.protocol, failsafe.port) for failsafe in found.failsafe_outbound}
    both = {(6, number) for number in (179, 2379, 2380, 5473, 6443, 6666, 6667)}
    assert inbound == both | {(6, 22), (17, 68)}
    assert outbound == both | {(17, 53), (17, 67)}
    assert {failsafe.net for failsafe in found.failsafe_inbound} == {None}


def test_settings_that_are_not_told_are_those_that_a_snapshot_has_by_itself():
    assert replace(settings(), failsafe_inbound=(), failsafe_outbound=()) == NodeSettings()


def test_settings_of_a_node_win_field_by_field():
    everywhere = configuration(endpoint_to_host_action="Accept", vxlan_port=4790, failsafe_inbound=())
    here = configuration("n1", endpoint_to_host_action="Return", failsafe_inbound=(Failsafe(6, 22),))
    found = settings(here, everywhere, configuration("n2", drop_invalid=True))
    assert (found.endpoint_to_host_action, found.vxlan_port, found.drop_invalid) == ("return", 4790, False)
    assert found.failsafe_inbound == (FailsafePort(6, 22),)


def test_tunnels_are_interfaces_and_nodes_are_known_where_there_are_any():
    world = topology(NAMESPACES.values(), (A,))
    hosts = (host("a", "vxlan.calico"), host("b", "vxlan-v6.calico"), host("c", "vxlan9"))
    for encapsulation, covered, peers in (
        ("none", set(), ()),
        ("vxlan", {"vxlan.calico", "vxlan-v6.calico"}, ALL_NODES),
    ):
        made = replace(world, encapsulation=encapsulation)
        found = compile_snapshots(made, Resources(host_endpoints=hosts))["n1"]
        assert found.host_endpoints.keys() == covered
        assert found.settings.tunnel_peers == peers


def test_ipv6_is_left_alone_where_felix_is_told_so():
    assert settings().ipv6
    assert not settings(configuration(ipv6_support=False)).ipv6
    assert settings(configuration(ipv6_support=False), configuration("n1", ipv6_support=True)).ipv6


def test_setting_of_false_on_a_node_beats_true_everywhere():
    found = settings(
        configuration(allow_vxlan_from_workloads=True), configuration("n1", allow_vxlan_from_workloads=False)
    )
    assert found.allow_vxlan_from_workloads is False
    assert settings(configuration(allow_ipip_from_workloads=True)).allow_ipip_from_workloads is True


def test_failsafes_may_be_none_at_all():
    assert settings(configuration(failsafe_inbound=(), failsafe_outbound=())).failsafe_outbound == ()


def test_failsafe_keeps_its_network():
    (net,) = nets("10.0.0.0/8")
    assert settings(configuration(failsafe_outbound=(Failsafe(17, 53, net),))).failsafe_outbound == (
        FailsafePort(17, 53, net),
    )


def test_every_pool_exempts_and_those_with_nat_masquerade():
    one, two, three = nets("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
    pools = (
        IpPool("c", three, nat_outgoing=True, disabled=True, place=HERE),
        IpPool("b", two, nat_outgoing=False, disabled=False, place=HERE),
        IpPool("a", one, nat_outgoing=True, disabled=False, place=HERE),
    )
    found = settings(pools=pools)
    assert (found.masquerade, found.pools) == ((one, three), (one, two, three))


def test_ingress_only_policy_leaves_egress_lists_empty():
    (tier,) = compiled(policy("p", types=INGRESS), hosts=[host("h")]).host_endpoints["eth0"].tiers
    assert tier.egress == ()
