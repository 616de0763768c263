# SPDX-License-Identifier: Apache-2.0
"""Misreadings of AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from misread import (
    Change,
    Misreading,
    admin_peers,
    admin_policies,
    admin_rules,
)

from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    LabelSelector,
    PortRange,
)
from lab.protocols import TCP
from lab.topology import Net

__all__ = ["ADMIN_MISREADINGS"]

EVERYBODY = LabelSelector({}, ())
ANYWHERE: tuple[Net, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
HTTP = PortRange(80, 80)


def _pass_accepts(rule: AdminRule) -> AdminRule:
    return replace(rule, action=Action.ALLOW) if rule.action is Action.PASS else rule


def _only_pods(peer: AdminPeer) -> AdminPeer:
    return AdminPeer(namespaces=peer.pods[0]) if peer.pods is not None else peer


def _known(peer: AdminPeer) -> AdminPeer | None:
    return None if peer == AdminPeer() else peer


def _known_ports(rule: AdminRule) -> AdminRule:
    return replace(rule, ports=tuple(port for port in rule.ports if port != AdminPort()))


def _ports(change: object) -> Change:
    assert callable(change)
    return admin_rules(lambda rule: replace(rule, ports=tuple(change(port) for port in rule.ports)))


def _first_of_range(port: AdminPort) -> AdminPort:
    return port if port.ports is None else replace(port, ports=PortRange(port.ports.first, port.ports.first))


def _isolates(policy: AdminPolicy) -> AdminPolicy:
    rest = AdminRule("", Action.DENY, (AdminPeer(networks=ANYWHERE),), (), policy.place)
    return replace(
        policy,
        ingress=(*policy.ingress, rest) if policy.ingress else (),
        egress=(*policy.egress, rest) if policy.egress else (),
    )


def _nodes_are_pods(rule: AdminRule) -> AdminRule:
    nodes = AdminPeer(nodes=EVERYBODY)
    return replace(rule, peers=(*rule.peers, nodes)) if any(peer.namespaces for peer in rule.peers) else rule


ADMIN_MISREADINGS = (
    Misreading(
        "admin-after-all",
        "Admin policies are asked after NetworkPolicies, as the baseline is.",
        ("admin.allow.beats-network-policy", "admin.deny.beats-network-policy", "cluster.tier.admin"),
        admin_policies(lambda policy: replace(policy, baseline=True)),
    ),
    Misreading(
        "baseline-before-all",
        "The baseline is asked before NetworkPolicies, as admin policies are.",
        ("baseline.after.calico-default-tier", "baseline.after.network-policies", "cluster.tier.baseline"),
        admin_policies(lambda policy: replace(policy, baseline=False)),
    ),
    Misreading(
        "forgets-baseline",
        "The baseline is not in force.",
        ("baseline.denies.where-nobody-else-decides",),
        admin_policies(lambda policy: None if policy.baseline else policy),
    ),
    Misreading(
        "admin-ingress-only",
        "Admin policies hold for ingress alone.",
        ("admin.direction.egress", "cluster.peer.nodes-and-networks"),
        admin_policies(lambda policy: replace(policy, egress=())),
    ),
    Misreading(
        "pass-accepts",
        "Pass lets traffic through.",
        ("admin.pass.reaches-baseline", "admin.pass.reaches-network-policies"),
        admin_rules(_pass_accepts),
    ),
    Misreading(
        "first-peer-only",
        "Of several peers the first counts.",
        ("admin.peer.namespaces",),
        admin_rules(lambda rule: replace(rule, peers=rule.peers[:1])),
    ),
    Misreading(
        "no-networks",
        "Networks are no peers.",
        ("admin.peer.networks",),
        admin_peers(lambda peer: None if peer.networks else peer),
    ),
    Misreading(
        "no-nodes",
        "Nodes are no peers.",
        ("admin.peer.nodes",),
        admin_peers(lambda peer: None if peer.nodes else peer),
    ),
    Misreading(
        "pods-are-namespaces", "Of pods the namespace counts alone.", ("admin.peer.pods",), admin_peers(_only_pods)
    ),
    Misreading(
        "unknown-peers-go",
        "A peer of an unknown kind is left out.",
        ("admin.peer.unknown-fails-closed",),
        admin_peers(_known),
    ),
    Misreading(
        "unknown-ports-go",
        "A port of an unknown kind is left out.",
        ("admin.ports.unknown-fails-closed", "cluster.unknown.fails-closed"),
        admin_rules(_known_ports),
    ),
    Misreading(
        "admin-names-are-eighty",
        "A port's name is 80 of TCP.",
        ("admin.ports.named",),
        _ports(lambda port: AdminPort(TCP, HTTP) if port.name else port),
    ),
    Misreading(
        "admin-ranges-are-numbers",
        "Of a range the first port counts.",
        ("admin.ports.number-and-range",),
        _ports(_first_of_range),
    ),
    Misreading(
        "first-port-only",
        "Of several ports or protocols the first counts.",
        ("cluster.protocols.each-kind",),
        admin_rules(lambda rule: replace(rule, ports=rule.ports[:1])),
    ),
    Misreading(
        "higher-priority-first",
        "Admin policies are asked from the highest number down.",
        ("admin.priority.lower-first", "cluster.tier.baseline"),
        admin_policies(lambda policy: replace(policy, priority=1000 - policy.priority)),
    ),
    Misreading(
        "cluster-policies-last",
        "ClusterNetworkPolicies are asked after all AdminNetworkPolicies.",
        ("cluster.priority.shared-with-admin",),
        admin_policies(
            lambda policy: (
                replace(policy, priority=policy.priority + 1001) if policy.kind == "ClusterNetworkPolicy" else policy
            )
        ),
    ),
    Misreading(
        "last-rule-first",
        "Of the rules of an admin policy the last that matches decides.",
        ("admin.rule.first-match-decides",),
        admin_policies(lambda policy: replace(policy, ingress=policy.ingress[::-1], egress=policy.egress[::-1])),
    ),
    Misreading(
        "admin-isolates",
        "What no rule of an admin policy matches is denied.",
        ("admin.rule.no-match-isolates-nobody", "baseline.denies.where-nobody-else-decides"),
        admin_policies(_isolates),
    ),
    Misreading(
        "everybody-is-subject",
        "An admin policy is for all pods.",
        ("admin.subject.namespaces", "admin.subject.pods"),
        admin_policies(lambda policy: replace(policy, subject=AdminPeer(namespaces=EVERYBODY))),
    ),
    Misreading(
        "nodes-are-pods",
        "Nodes are pods of every namespace.",
        ("admin.subject.nodes-are-no-pods",),
        admin_rules(_nodes_are_pods),
    ),
    Misreading(
        "names-are-anywhere",
        "A domain name may be anybody.",
        ("cluster.peer.domain-names-fail-closed",),
        admin_peers(lambda peer: AdminPeer(networks=ANYWHERE) if peer.domain_names else peer),
    ),
)
