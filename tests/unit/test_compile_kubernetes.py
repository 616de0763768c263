# SPDX-License-Identifier: Apache-2.0
"""Kubernetes NetworkPolicies as Calico converts them."""

from __future__ import annotations

from compile_world import EGRESS, HERE, INGRESS, PortRange, compiled, endpoint, members_v4, nets, policy, workload

from lab.policy.resources import (
    IpBlock,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelRequirement,
    LabelSelector,
)

EVERYTHING = LabelSelector({}, ())
A = workload("x/a", 1, {"app": "web"})
B = workload("x/b", 2, {"app": "db", "tier": "back"})
C = workload("y/c", 3, {"app": "web"})


def labels(*requirements, **match):
    return LabelSelector(match, requirements)


def peer(pods=None, namespaces=None, block=None):
    return KubernetesPeer(pods, namespaces, block)


def kubernetes(*ingress, pods=EVERYTHING, types=INGRESS, egress=()):
    return KubernetesNetworkPolicy("p", "x", pods, types, tuple(ingress), tuple(egress), HERE)


def rules_of(*peers, ports=()):
    found = compiled([A, B, C], kubernetes(KubernetesRule(peers, ports, HERE)))
    (only,) = found.policies.values()
    return found, only.ingress


def sources(*peers):
    found, rules = rules_of(*peers)
    return [members_v4(found.ip_sets[rule.source.sets[0]]) for rule in rules]


def test_policy_lands_in_tier_default_with_order_1000():
    found = compiled([A], kubernetes(), policy("before", order=999.0), policy("after", order=1001.0))
    (tier,) = endpoint(found, "x/a").tiers
    assert tier.name == "default"
    assert [p.name for p in tier.ingress] == ["before", "p", "after"]
    assert tier.ingress[1].kind == "KubernetesNetworkPolicy"


def test_policy_selects_pods_of_its_own_namespace():
    found = compiled([A, B, C], kubernetes(pods=labels(app="web")))
    assert [e.workload for e in found.endpoints.values() if e.tiers] == ["x/a"]


def test_pod_selector_alone_means_own_namespace():
    assert sources(peer(labels(app="web"))) == [{"198.18.0.1"}]


def test_namespace_selector_alone_means_every_pod_there():
    assert sources(peer(namespaces=labels(team="blue"))) == [{"198.18.0.3"}]


def test_empty_namespace_selector_means_every_namespace():
    assert sources(peer(labels(app="web"), EVERYTHING)) == [{"198.18.0.1", "198.18.0.3"}]


def test_expressions_are_joined_by_and():
    wanted = labels(LabelRequirement("tier", "DoesNotExist", ()), LabelRequirement("app", "In", ("web", "db")))
    assert sources(peer(wanted)) == [{"198.18.0.1"}]


def test_not_in_holds_where_the_label_is_missing():
    assert sources(peer(labels(LabelRequirement("tier", "NotIn", ("front",))))) == [{"198.18.0.1", "198.18.0.2"}]


def test_exists_holds_whatever_the_value():
    assert sources(peer(labels(LabelRequirement("tier", "Exists", ())))) == [{"198.18.0.2"}]


def test_block_becomes_nets_and_not_nets():
    block = IpBlock(nets("10.0.0.0/8")[0], nets("10.1.0.0/16", "10.2.0.0/16"))
    _, (rule,) = rules_of(peer(block=block))
    assert (rule.source.nets, rule.source.not_nets, rule.ip_version) == (
        nets("10.0.0.0/8"),
        nets("10.1.0.0/16", "10.2.0.0/16"),
        4,
    )


def test_ports_are_grouped_by_protocol_and_merged():
    ports = (KubernetesPort(6, 81, None), KubernetesPort(17, 53, None), KubernetesPort(6, 80, None))
    ports += (KubernetesPort(6, 90, 95), KubernetesPort(6, "http", None))
    _, (tcp, udp) = rules_of(ports=ports)
    assert (tcp.protocol, tcp.destination.ports) == (6, (PortRange(80, 81), PortRange(90, 95)))
    assert len(tcp.destination.port_sets) == 1
    assert (udp.protocol, udp.destination.ports) == (17, (PortRange(53, 53),))


def test_entry_without_port_opens_the_whole_protocol():
    _, (rule,) = rules_of(ports=(KubernetesPort(6, 80, None), KubernetesPort(6, None, None)))
    assert (rule.protocol, rule.destination.ports) == (6, ())


def test_rule_without_peers_and_ports_matches_everything():
    _, (rule,) = rules_of()
    assert (rule.protocol, rule.source.sets, rule.destination.ports) == (None, (), ())


def test_egress_rule_puts_peer_and_port_at_the_destination():
    written = KubernetesRule((peer(labels(app="db")),), (KubernetesPort(6, 80, None),), HERE)
    found = compiled([A, B, C], kubernetes(types=EGRESS, egress=[written]))
    (only,) = found.policies.values()
    (rule,) = only.egress
    assert members_v4(found.ip_sets[rule.destination.sets[0]]) == {"198.18.0.2"}
    assert rule.destination.ports == (PortRange(80, 80),)
    assert rule.source.sets == ()


def test_several_rules_keep_the_number_of_the_written_one():
    first = KubernetesRule((peer(labels(app="web")), peer(labels(app="db"))), (), HERE)
    found = compiled([A], kubernetes(first, KubernetesRule((), (), HERE)))
    (only,) = found.policies.values()
    assert [rule.origin.index for rule in only.ingress] == [0, 0, 1]
