# SPDX-License-Identifier: Apache-2.0
"""Admin policies: what they are read as, what their CRDs would refuse (at the §), and what must be read regardless."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    LabelRequirement,
    LabelSelector,
    PortRange,
    Resources,
)

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]

KINDS = {
    "AdminNetworkPolicy": ("v1alpha1", "priority: 5, ", "n"),
    "BaselineAdminNetworkPolicy": ("v1alpha1", "", "default"),
    "ClusterNetworkPolicy": ("v1alpha2", "tier: Admin, priority: 5, ", "n"),
}
ALL = tuple(KINDS)
EMPTY = LabelSelector({}, ())


def policy(kind: str, rest: str, *, head: str | None = None, name: str | None = None) -> str:
    version, default_head, default_name = KINDS[kind]
    metadata = f"{{name: {default_name if name is None else name}}}"
    spec = f"{{{default_head if head is None else head}{rest}}}"
    return f"{{apiVersion: policy.networking.k8s.io/{version}, kind: {kind}, metadata: {metadata}, spec: {spec}}}"


def read(load: Load, text: str) -> AdminPolicy:
    (found,) = load(text).policies
    assert isinstance(found, AdminPolicy)
    return found


def with_rule(kind: str, rule: str, direction: str = "egress") -> str:
    return policy(kind, f"subject: {{namespaces: {{}}}}, {direction}: [{rule}]")


def test_admin_policy_with_every_field_is_read_as_written(load: Load) -> None:
    rest = """subject: {pods: {namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}},
      ingress: [{name: first, action: Allow, from: [{namespaces: {}}, {pods: {podSelector: {matchLabels: {c: d}}}}]}],
      egress: [{action: Pass, to: [{networks: [10.0.0.7/8, "fd00::/8"]}, {nodes: {}}], ports: [
                  {portNumber: {port: 80}}, {portRange: {protocol: UDP, start: 1, end: 65535}}, {namedPort: web}]},
               {action: Deny, to: [{nodes: {matchExpressions: [{key: e, operator: Exists}]}}], ports: []},
               {action: Allow, to: [{domainNames: ["*.example.org", example.org.]}]}]"""
    found = read(load, policy("AdminNetworkPolicy", rest))
    assert (found.kind, found.name, found.namespace) == ("AdminNetworkPolicy", "n", None)
    assert (found.baseline, found.priority) == (False, 5)
    assert found.subject == AdminPeer(pods=(LabelSelector({"a": "b"}, ()), EMPTY))
    (first,), (egress, deny, domains) = found.ingress, found.egress
    assert (first.name, first.action, first.ports) == ("first", Action.ALLOW, ())
    assert first.peers == (AdminPeer(namespaces=EMPTY), AdminPeer(pods=(EMPTY, LabelSelector({"c": "d"}, ()))))
    assert egress.peers == (
        AdminPeer(networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        AdminPeer(nodes=EMPTY),
    )
    assert egress.ports == (
        AdminPort(6, PortRange(80, 80)),
        AdminPort(17, PortRange(1, 65535)),
        AdminPort(name="web"),
    )
    assert (deny.action, deny.ports) == (Action.DENY, ())
    assert deny.peers == (AdminPeer(nodes=LabelSelector({}, (LabelRequirement("e", "Exists", ()),))),)
    assert domains.peers == (AdminPeer(domain_names=("*.example.org", "example.org.")),)
    assert (first.place.line, first.place.column) == (2, 17)


def test_cluster_policy_with_every_field_is_read_as_written(load: Load) -> None:
    rest = """subject: {namespaces: {matchLabels: {a: b}}},
      ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {}}}], protocols: [
                  {tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 9}}}},
                  {sctp: {}}, {destinationNamedPort: web}]}],
      egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}, {action: Pass, to: [{namespaces: {}}]}]"""
    found = read(load, policy("ClusterNetworkPolicy", rest))
    assert (found.kind, found.baseline, found.priority) == ("ClusterNetworkPolicy", False, 5)
    assert found.subject == AdminPeer(namespaces=LabelSelector({"a": "b"}, ()))
    (ingress,) = found.ingress
    assert (ingress.action, ingress.peers) == (Action.ALLOW, (AdminPeer(pods=(EMPTY, EMPTY)),))
    assert ingress.ports == (
        AdminPort(6, PortRange(80, 80)),
        AdminPort(17, PortRange(1, 9)),
        AdminPort(132),
        AdminPort(name="web"),
    )
    assert [rule.action for rule in found.egress] == [Action.DENY, Action.PASS]


@pytest.mark.parametrize(("tier", "baseline"), [("Admin", False), ("Baseline", True)])
def test_tier_of_a_cluster_policy_places_it(load: Load, tier: str, baseline: bool) -> None:
    text = policy("ClusterNetworkPolicy", "subject: {namespaces: {}}", head=f"tier: {tier}, priority: 1000, ")
    assert (read(load, text).baseline, read(load, text).priority) == (baseline, 1000)


def test_baseline_policy_is_read(load: Load) -> None:
    found = read(load, with_rule("BaselineAdminNetworkPolicy", "{action: Deny, to: [{namespaces: {}}]}"))
    assert (found.kind, found.name, found.baseline, found.priority) == (
        "BaselineAdminNetworkPolicy",
        "default",
        True,
        0,
    )


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("peer", ["{}", "{somethingNew: {a: b}}", "{somethingNew: [1]}", "{namespaces: }"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_peer_of_an_unknown_kind_is_kept_empty(load: Load, kind: str, peer: str, direction: str) -> None:
    key = "from" if direction == "ingress" else "to"
    found = read(load, with_rule(kind, f"{{action: Deny, {key}: [{{namespaces: {{}}}}, {peer}]}}", direction))
    (rule,) = (*found.ingress, *found.egress)
    assert rule.peers == (AdminPeer(namespaces=EMPTY), AdminPeer())


@pytest.mark.parametrize("kind", ALL)
def test_key_of_a_peer_without_a_value_is_as_if_not_there(load: Load, kind: str) -> None:
    found = read(load, with_rule(kind, "{action: Deny, from: [{namespaces: {}, pods: }]}", "ingress"))
    assert found.ingress[0].peers == (AdminPeer(namespaces=EMPTY),)


def test_domain_names_are_no_peer_that_a_baseline_policy_knows(load: Load) -> None:
    found = read(load, with_rule("BaselineAdminNetworkPolicy", "{action: Deny, to: [{domainNames: [example.org]}]}"))
    assert found.egress[0].peers == (AdminPeer(),)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("port", ["{}", "{somethingNew: 5}", "{quic: {destinationPort: {number: 443}}}"])
def test_port_of_an_unknown_kind_is_kept_empty(load: Load, kind: str, port: str) -> None:
    key = "protocols" if kind == "ClusterNetworkPolicy" else "ports"
    found = read(load, with_rule(kind, f"{{action: Deny, to: [{{namespaces: {{}}}}], {key}: [{port}]}}"))
    assert found.egress[0].ports == (AdminPort(),)


@pytest.mark.parametrize("kind", ["AdminNetworkPolicy", "ClusterNetworkPolicy"])
@pytest.mark.parametrize(
    ("priority", "fault"),
    [
        ("priority: §-1, ", "spec.priority is out of range | 0 to 1000"),
        ("priority: §1001, ", "spec.priority is out of range | 0 to 1000"),
        ("priority: §1.5, ", "spec.priority must be a whole number"),
    ],
)
def test_wrong_priority_is_refused(faults: Faults, kind: str, priority: str, fault: str) -> None:
    tier = "tier: Admin, " if kind == "ClusterNetworkPolicy" else ""
    (told,) = faults(policy(kind, "subject: {namespaces: {}}", head=tier + priority))
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("kind", "head", "fault"),
    [
        ("AdminNetworkPolicy", "", "spec has no 'priority', which it needs"),
        ("ClusterNetworkPolicy", "tier: Admin, ", "spec has no 'priority', which it needs"),
        ("ClusterNetworkPolicy", "priority: 5, ", "spec has no 'tier', which it needs"),
    ],
)
def test_policy_without_its_place_is_refused(faults: Faults, kind: str, head: str, fault: str) -> None:
    text = policy(kind, "subject: {namespaces: {}}", head=head).replace("spec: {", "§spec: {", 1)
    (told,) = faults(text)
    assert told == fault


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        ("tier: §admin, priority: 5, ", "spec.tier is not allowed | Admin, Baseline | did you mean 'Admin'?"),
        ("tier: Admin, priority: 5, §order: 1, ", "unknown key 'order' in spec"),
    ],
)
def test_wrong_tier_of_a_cluster_policy_is_refused(faults: Faults, head: str, fault: str) -> None:
    (told,) = faults(policy("ClusterNetworkPolicy", "subject: {namespaces: {}}", head=head))
    assert told.startswith(fault)


def test_baseline_policy_of_another_name_is_refused(faults: Faults) -> None:
    (told,) = faults(policy("BaselineAdminNetworkPolicy", "subject: {namespaces: {}}", name="§n"))
    assert told == "metadata.name is not the name of the one there can be | default"


def test_baseline_policy_has_no_priority(faults: Faults) -> None:
    (told,) = faults(policy("BaselineAdminNetworkPolicy", "subject: {namespaces: {}}", head="§priority: 5, "))
    assert told.startswith("unknown key 'priority' in spec")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("§subject: {}", "spec.subject must hold one of the two | either namespaces or pods"),
        ("§subject: {namespaces: {}, pods: {podSelector: {}}}", "spec.subject must hold one of the two"),
        ("subject: {§nodes: {}}", "unknown key 'nodes' in spec.subject | namespaces, pods"),
        ("subject: {§pods: {namespaceSelector: {}}}", "spec.subject.pods has no 'podSelector', which it needs"),
        ("subject: {namespaces: {matchLabels: {a: §b c}}}", "spec.subject.namespaces.matchLabels.a is not the value"),
        (
            "subject: {pods: {podSelector: {matchExpressions: [§{key: a, operator: In}]}}}",
            "spec.subject.pods.podSelector.matchExpressions[0] needs values for the operator In",
        ),
    ],
)
def test_wrong_subject_is_refused(faults: Faults, kind: str, subject: str, fault: str) -> None:
    (told,) = faults(policy(kind, subject))
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("kind", "action", "allowed"),
    [
        ("AdminNetworkPolicy", "Accept", "Allow, Deny, Pass"),
        ("BaselineAdminNetworkPolicy", "Pass", "Allow, Deny"),
        ("ClusterNetworkPolicy", "Allow", "Accept, Deny, Pass"),
        ("ClusterNetworkPolicy", "deny", "Accept, Deny, Pass"),
    ],
)
def test_action_of_another_kind_is_refused(faults: Faults, kind: str, action: str, allowed: str) -> None:
    (told,) = faults(with_rule(kind, f"{{action: §{action}, to: [{{namespaces: {{}}}}]}}"))
    assert told.startswith(f"spec.egress[0].action is not allowed | {allowed}")


WRONG_PEERS = [
    ("egress", "§to: []", "spec.egress[0].to has no entry, and needs one"),
    ("ingress", "§from: []", "spec.ingress[0].from has no entry, and needs one"),
    ("ingress", "from: [{§networks: [10.0.0.0/8]}]", "spec.ingress[0].from[0].networks can stand in egress rules only"),
    ("ingress", "from: [{§nodes: {}}]", "spec.ingress[0].from[0].nodes can stand in egress rules only | namespaces or"),
    ("egress", "to: [§{namespaces: {}, nodes: {}}]", "spec.egress[0].to[0] holds several kinds of peer"),
    ("egress", "to: [§{namespaces: {}, new: {}}]", "spec.egress[0].to[0] holds several kinds of peer"),
    ("egress", "to: [{networks: [§10.0.0.1]}]", "spec.egress[0].to[0].networks[0] is not a network"),
    ("egress", "to: [{networks: [10.0.0.0/8, §10.0.0.0/33]}]", "spec.egress[0].to[0].networks[1] is not a network"),
    ("egress", "to: [{§networks: []}]", "spec.egress[0].to[0].networks has no entry, and needs one"),
    ("egress", "to: [{networks: §10.0.0.0/8}]", "spec.egress[0].to[0].networks must be a list"),
    ("egress", "to: [{nodes: {§zone: a}}]", "unknown key 'zone' in spec.egress[0].to[0].nodes"),
    ("egress", "to: [{§pods: {namespaceSelector: {}}}]", "spec.egress[0].to[0].pods has no 'podSelector'"),
    (
        "egress",
        "to: [{pods: {podSelector: {}, §namespaces: {}}}]",
        "unknown key 'namespaces' in spec.egress[0].to[0].pods",
    ),
    ("egress", "to: §{}", "spec.egress[0].to must be a list"),
    ("egress", "to: [§a]", "spec.egress[0].to[0] must be a mapping"),
    ("egress", f"§to: [{', '.join(['{nodes: {}}'] * 101)}]", "spec.egress[0].to has 101 entries | at most 100"),
    ("egress", f"to: [{{§networks: [{', '.join(['10.0.0.0/8'] * 26)}]}}]", "spec.egress[0].to[0].networks has 26"),
    ("egress", f"to: [{{nodes: {{}}}}], name: §{'n' * 101}", "spec.egress[0].name has 101 characters | at most 100"),
]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("direction", "rule", "fault"), WRONG_PEERS)
def test_wrong_peer_is_refused_at_its_place(faults: Faults, kind: str, direction: str, rule: str, fault: str) -> None:
    (told,) = faults(with_rule(kind, f"{{action: Deny, {rule}}}", direction))
    assert told.startswith(fault)


@pytest.mark.parametrize("kind", ALL)
def test_rule_without_peers_is_refused(faults: Faults, kind: str) -> None:
    (told,) = faults(with_rule(kind, "§{action: Deny}"))
    assert told == "spec.egress[0] has no 'to', which it needs"


@pytest.mark.parametrize("kind", ["AdminNetworkPolicy", "ClusterNetworkPolicy"])
@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (
            "action: Deny, to: [{§domainNames: [a.b]}]",
            "spec.egress[0].to[0].domainNames can stand only in rules that let",
        ),
        (
            "action: Pass, to: [{§domainNames: [a.b]}]",
            "spec.egress[0].to[0].domainNames can stand only in rules that let",
        ),
        ("action: ALLOW, to: [{domainNames: [a.b, §a_]}]", "spec.egress[0].to[0].domainNames[1] is not a domain name"),
        ("action: ALLOW, to: [{domainNames: [§'a.*.b']}]", "spec.egress[0].to[0].domainNames[0] is not a domain name"),
        ("action: ALLOW, to: [{§domainNames: []}]", "spec.egress[0].to[0].domainNames has no entry, and needs one"),
    ],
)
def test_wrong_domain_names_are_refused(faults: Faults, kind: str, rule: str, fault: str) -> None:
    allow = "Accept" if kind == "ClusterNetworkPolicy" else "Allow"
    (told,) = faults(with_rule(kind, f"{{{rule.replace('ALLOW', allow)}}}"))
    assert told.startswith(fault)


def test_domain_names_of_an_ingress_rule_are_refused(faults: Faults) -> None:
    text = with_rule("ClusterNetworkPolicy", "{action: Accept, from: [{§domainNames: [a.b]}]}", "ingress")
    (told,) = faults(text)
    assert told.startswith("spec.ingress[0].from[0].domainNames can stand in egress rules only")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_more_rules_than_the_api_takes_are_refused(faults: Faults, kind: str, direction: str) -> None:
    rule = f"{{action: Deny, {'from' if direction == 'ingress' else 'to'}: [{{namespaces: {{}}}}]}}"
    assert faults(policy(kind, f"subject: {{namespaces: {{}}}}, {direction}: [{', '.join([rule] * 100)}]")) == []
    (told,) = faults(policy(kind, f"subject: {{namespaces: {{}}}}, §{direction}: [{', '.join([rule] * 101)}]"))
    assert told == f"spec.{direction} has 101 entries | at most 100"


WRONG_PORTS = [
    ("[{portNumber: {port: §0}}]", "ports[0].portNumber.port is not a port number"),
    ("[{portNumber: {port: 1, protocol: §tcp}}]", "ports[0].portNumber.protocol is not allowed | TCP, UDP, SCTP"),
    ("[{§portNumber: {}}]", "ports[0].portNumber has no 'port', which it needs"),
    ("[{portRange: {start: 9, end: §8}}]", "ports[0].portRange.end is less than start | 9 or more"),
    ("[{portRange: {start: §0, end: 8}}]", "ports[0].portRange.start is not a port number"),
    ("[{portRange: {start: 1, end: §65536}}]", "ports[0].portRange.end is not a port number"),
    ("[{§portRange: {start: 1}}]", "ports[0].portRange has no 'end', which it needs"),
    ("[{namedPort: §a b}]", "ports[0].namedPort is not the name of a port"),
    ("[{namedPort: §80}]", "ports[0].namedPort must be text, not the number 80"),
    ("[§{namedPort: a, portNumber: {port: 1}}]", "ports[0] holds several kinds of port"),
    ("§{}", "ports must be a list"),
]


@pytest.mark.parametrize("kind", ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"])
@pytest.mark.parametrize(("ports", "fault"), WRONG_PORTS)
def test_wrong_port_is_refused_at_its_place(faults: Faults, kind: str, ports: str, fault: str) -> None:
    (told,) = faults(with_rule(kind, f"{{action: Deny, to: [{{namespaces: {{}}}}], ports: {ports}}}"))
    assert told.startswith(f"spec.egress[0].{fault}")


WRONG_PROTOCOLS = [
    ("protocols: [{tcp: {destinationPort: {number: §0}}}]", "protocols[0].tcp.destinationPort.number is not a port"),
    ("protocols: [{udp: {§destinationPort: {}}}]", "protocols[0].udp.destinationPort must hold one of the two"),
    (
        "protocols: [{udp: {§destinationPort: {number: 1, range: {start: 1, end: 2}}}}]",
        "protocols[0].udp.destinationPort must hold one of the two | either number or range",
    ),
    (
        "protocols: [{sctp: {destinationPort: {range: {start: 2, end: §1}}}}]",
        "protocols[0].sctp.destinationPort.range.end",
    ),
    ("protocols: [§{tcp: {}, udp: {}}]", "protocols[0] holds several kinds of port"),
    ("protocols: [{destinationNamedPort: §''}]", "protocols[0].destinationNamedPort is not the name of a port"),
    ("§protocols: []", "protocols has no entry, and needs one | leave it out to mean every packet"),
]


@pytest.mark.parametrize(("protocols", "fault"), WRONG_PROTOCOLS)
def test_wrong_protocol_is_refused_at_its_place(faults: Faults, protocols: str, fault: str) -> None:
    text = with_rule("ClusterNetworkPolicy", f"{{action: Deny, to: [{{namespaces: {{}}}}], {protocols}}}")
    (told,) = faults(text)
    assert told.startswith(f"spec.egress[0].{fault}")


def test_unknown_key_inside_a_known_protocol_is_refused(faults: Faults) -> None:
    rule = "{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {§destinationPorts: {number: 1}}}]}"
    (told,) = faults(with_rule("ClusterNetworkPolicy", rule))
    assert told.startswith("unknown key 'destinationPorts' in spec.egress[0].protocols[0].tcp | destinationPort")


@pytest.mark.parametrize(("kind", "key"), [("ClusterNetworkPolicy", "ports"), ("AdminNetworkPolicy", "protocols")])
def test_ports_are_not_named_as_in_the_other_version(faults: Faults, kind: str, key: str) -> None:
    (told,) = faults(with_rule(kind, f"{{action: Deny, to: [{{namespaces: {{}}}}], §{key}: []}}"))
    assert told.startswith(f"unknown key '{key}' in spec.egress[0]")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("AdminNetworkPolicy", "v1alpha2"),
        ("AdminNetworkPolicy", "v1beta1"),
        ("BaselineAdminNetworkPolicy", "v1alpha2"),
        ("BaselineAdminNetworkPolicy", "v1beta1"),
        ("ClusterNetworkPolicy", "v1alpha1"),
    ],
)
def test_version_of_the_other_kind_is_refused(faults: Faults, kind: str, wrong: str) -> None:
    group, right = "policy.networking.k8s.io", KINDS[kind][0]
    text = policy(kind, "subject: {namespaces: {}}").replace(f"{group}/{right}", f"§{group}/{wrong}")
    (told,) = faults(text)
    known = f"{group}/v1alpha2 or {group}/v1beta1" if kind == "ClusterNetworkPolicy" else f"{group}/v1alpha1"
    assert told == f"apiVersion is not one that has a {kind} | {known}"


def test_cluster_policy_of_the_beta_version_is_read_as_that_of_the_alpha_version(load: Load) -> None:
    text = with_rule("ClusterNetworkPolicy", "{action: Pass, to: [{nodes: {}}], protocols: [{tcp: {}}]}")
    beta = text.replace("/v1alpha2,", "/v1beta1, ")  # rules keep their columns
    assert beta != text
    assert read(load, beta) == read(load, text)


def test_cluster_policy_is_the_same_one_in_both_versions(faults: Faults) -> None:
    text = policy("ClusterNetworkPolicy", "subject: {namespaces: {}}")
    (told,) = faults(f"{text}\n---\n{text.replace('/v1alpha2', '/v1beta1').replace('name: n', 'name: §n')}")
    assert told.startswith("metadata.name is that of a ClusterNetworkPolicy that is there already")
