# SPDX-License-Identifier: Apache-2.0
"""Admin policies, staged ones and services as they reach a dataplane."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from compile_draws import topology
from compile_world import (
    EGRESS,
    HERE,
    NAMESPACES,
    TCP,
    PortRange,
    endpoint,
    members_v4,
    nets,
    policy,
    port,
    port_members_v4,
    rule,
    side,
)
from compile_world import workload as make_workload

from lab.policy.compile import compile_snapshots
from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    EndpointSlice,
    KubernetesNetworkPolicy,
    LabelRequirement,
    LabelSelector,
    Resources,
    ServiceMatch,
    StagedAction,
)

A = make_workload("x/a", 1, {"app": "web"}, node="n1", ports=[port("http", 80), port("http", 81, 17)])
B = make_workload("x/b", 2, {"app": "db"}, node="n1")
C = make_workload("y/c", 3, {"app": "web"}, node="n1")
EVERYTHING = LabelSelector({}, ())
ALL = AdminPeer(namespaces=EVERYTHING)


def compiled(*policies, **more):
    resources = Resources(policies=tuple(policies), **more)
    return compile_snapshots(topology(NAMESPACES.values(), (A, B, C)), resources)["n1"]


def admin_rule(*peers, action=Action.DENY, ports=()):
    return AdminRule("", action, peers or (ALL,), tuple(ports), HERE)


def admin(*ingress, name="p", kind="ClusterNetworkPolicy", baseline=False, priority=0, subject=ALL, egress=()):
    return AdminPolicy(kind, name, baseline, priority, subject, tuple(ingress), tuple(egress), HERE)


def selected(snapshot):
    return [found.workload for found in snapshot.endpoints.values() if found.tiers]


def rules_of(*rules, direction="ingress"):
    found = compiled(admin(*rules) if direction == "ingress" else admin(egress=rules))
    (only,) = found.policies.values()
    return found, getattr(only, direction)


def sources(*peers):
    found, rules = rules_of(admin_rule(*peers))
    return [members_v4(found.ip_sets[rule.source.sets[0]]) for rule in rules]


def test_admin_and_baseline_stand_around_the_network_policies():
    kubernetes = KubernetesNetworkPolicy("np", "x", EVERYTHING, EGRESS, (), (), HERE)
    policies = (
        admin(name="base", egress=[admin_rule()], baseline=True),
        kubernetes,
        admin(name="late", egress=[admin_rule()], priority=7),
        admin(name="early", egress=[admin_rule()], priority=3, kind="AdminNetworkPolicy"),
    )
    tiers = endpoint(compiled(*policies), "x/a").tiers
    assert [(tier.name, [p.name for p in tier.egress], tier.pass_by_default) for tier in tiers] == [
        ("kube-admin", ["early", "late"], True),
        ("default", ["np"], False),
        ("kube-baseline", ["base"], True),
    ]


def test_policy_applies_in_the_directions_in_which_it_has_rules():
    (tier,) = endpoint(compiled(admin(admin_rule())), "x/a").tiers
    assert (len(tier.ingress), len(tier.egress)) == (1, 0)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (ALL, ["x/a", "x/b", "y/c"]),
        (AdminPeer(namespaces=LabelSelector({"team": "red"}, ())), ["x/a", "x/b"]),
        (AdminPeer(pods=(EVERYTHING, LabelSelector({"app": "web"}, ()))), ["x/a", "y/c"]),
        (AdminPeer(namespaces=LabelSelector({}, (LabelRequirement("team", "NotIn", ("red",)),))), ["y/c"]),
    ],
)
def test_subject_selects_pods_by_namespace_and_label(subject, expected):
    assert selected(compiled(admin(admin_rule(), subject=subject))) == expected


def test_each_peer_makes_a_rule():
    peers = (
        AdminPeer(namespaces=LabelSelector({"team": "blue"}, ())),
        AdminPeer(pods=(LabelSelector({"team": "red"}, ()), LabelSelector({"app": "web"}, ()))),
    )
    assert sources(*peers) == [{"198.18.0.3"}, {"198.18.0.1"}]


def test_networks_and_nodes_are_nets():
    web_nodes = AdminPeer(nodes=LabelSelector({"k": "1"}, ()))
    _, rules = rules_of(admin_rule(AdminPeer(networks=nets("10.0.0.0/8", "fd00::/8")), web_nodes), direction="egress")
    assert [found.destination.nets for found in rules] == [
        nets("10.0.0.0/8", "fd00::/8"),
        nets("198.19.0.1/32", "fd00:19::1/128"),
    ]


def test_nodes_that_nobody_labels_match_nothing():
    peer = AdminPeer(nodes=LabelSelector({"k": "none"}, ()))
    assert rules_of(admin_rule(peer), direction="egress")[1] == ()


def test_ports_are_grouped_and_a_name_stands_for_any_protocol():
    ports = [
        AdminPort(6, PortRange(80, 80)),
        AdminPort(17, None),
        AdminPort(6, PortRange(81, 85)),
        AdminPort(name="http"),
    ]
    found, (named, tcp, udp) = rules_of(admin_rule(ports=ports))
    assert (tcp.protocol, tcp.destination.ports) == (6, (PortRange(80, 85),))
    assert (udp.protocol, udp.destination.ports) == (17, ())
    assert named.protocol is None
    (set_id,) = named.destination.port_sets
    assert port_members_v4(found.ip_sets[set_id]) == {("198.18.0.1", 6, 80), ("198.18.0.1", 17, 81)}


UNKNOWN = [
    admin_rule(ALL, AdminPeer()),
    admin_rule(ports=[AdminPort(6, PortRange(80, 80)), AdminPort()]),
]


@pytest.mark.parametrize("written", UNKNOWN)
@pytest.mark.parametrize("action", [Action.DENY, Action.PASS])
def test_unknown_kind_in_a_rule_denies_everything(written, action):
    _, (only,) = rules_of(replace(written, action=action))
    assert (only.action, only.protocol, only.source.sets, only.destination.ports) == (Action.DENY, None, (), ())


@pytest.mark.parametrize("written", UNKNOWN)
def test_unknown_kind_in_an_accepting_rule_accepts_nothing(written):
    assert rules_of(replace(written, action=Action.ALLOW))[1] == ()


def test_domain_name_is_nobody_and_other_peers_stay():
    peers = AdminPeer(domain_names=("example.org",)), AdminPeer(networks=nets("10.0.0.0/8"))
    _, (only,) = rules_of(admin_rule(*peers, action=Action.ALLOW), direction="egress")
    assert only.destination.nets == nets("10.0.0.0/8")


def test_rule_keeps_its_number_behind_ones_that_vanish():
    _, rules = rules_of(admin_rule(AdminPeer(), action=Action.ALLOW), admin_rule())
    assert [found.origin.index for found in rules] == [1]


def test_kinds_of_one_name_are_told_apart():
    policies = (
        admin(admin_rule(), kind="AdminNetworkPolicy"),
        admin(admin_rule()),
        policy("p", namespace="x"),
        KubernetesNetworkPolicy("p", "x", EVERYTHING, frozenset(), (), (), HERE),
    )
    found = compiled(*policies[:3], replace(policies[3], types=EGRESS))
    assert len(found.policies) == 4


def test_staged_policies_have_no_effect():
    staged = replace(policy("s"), kind="StagedGlobalNetworkPolicy", staged=StagedAction.SET)
    pods = KubernetesNetworkPolicy("k", "x", EVERYTHING, EGRESS, (), (), HERE, staged=StagedAction.SET)
    found = compiled(staged, pods, replace(staged, name="t", tier="kube-admin"))
    assert (endpoint(found, "x/a").tiers, found.policies) == ((), {})


HTTP = port("http", 80)


def slice_of(name, *addresses, service="web", namespace="x", ports=(HTTP,)):
    return EndpointSlice(name, namespace, service, tuple(map(ip_address, addresses)), tuple(ports), HERE)


SLICES = (
    slice_of("web-1", "198.18.0.1", "fd00:18::1"),
    slice_of("web-2", "198.18.0.2", ports=[port("a", 80), port("b", 53, 17)]),
    slice_of("other", "198.18.0.3", service="other"),
    slice_of("web-1", "198.18.0.3", namespace="y"),
)


def test_service_at_the_destination_is_bound_to_its_ports():
    to = side(services=ServiceMatch("web", "x"))
    found = compiled(policy("p", egress=[rule(destination=to)], types=EGRESS), endpoint_slices=SLICES)
    (only,) = next(iter(found.policies.values())).egress
    (set_id,) = only.destination.port_sets
    assert (only.protocol, only.destination.sets) == (None, ())
    assert port_members_v4(found.ip_sets[set_id]) == {
        ("198.18.0.1", 6, 80),
        ("198.18.0.2", 6, 80),
        ("198.18.0.2", 17, 53),
    }


def test_service_at_the_source_is_its_addresses():
    written = rule(protocol=TCP, source=side(services=ServiceMatch("web", "x")), destination=side(ports=("http",)))
    found = compiled(policy("p", written), endpoint_slices=SLICES)
    (only,) = next(iter(found.policies.values())).ingress
    (set_id,) = only.source.sets
    assert only.source.port_sets == ()
    assert members_v4(found.ip_sets[set_id]) == {"198.18.0.1", "198.18.0.2"}


@pytest.mark.parametrize("service", [ServiceMatch("ghost", "x"), ServiceMatch("web", None)])
def test_service_without_slices_or_namespace_is_an_empty_set(service):
    found = compiled(policy("p", rule(source=side(services=service)), namespace="x"), endpoint_slices=SLICES)
    (ip_set,) = (found for name, found in found.ip_sets.items() if name.startswith("svc"))
    assert (ip_set.kind, ip_set.nets) == ("net", frozenset())
