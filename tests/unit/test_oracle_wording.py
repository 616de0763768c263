# SPDX-License-Identifier: Apache-2.0
"""Why a rule does not match, in words: the field as the file names it, what it wants, and what is there instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from compile_world import topology, workload
from oracle_lab import Document, Judge, Lab, gnp, knp, lab, np, onto

from lab.errors import Place
from lab.oracle import Oracle, explanation_text
from lab.policy.resources import Resources
from lab.topology import Flow, Namespace

__all__ = ["lab"]

NODES: Document = {
    "node-1": {"addresses": ["198.19.0.11"], "labels": {"zone": "a"}},
    "node-2": {"addresses": ["198.19.0.12"], "labels": {"zone": "b", "rack": "1"}},
}
STRANGER, OTHER_NAMESPACE = ("client", "x/a"), ("y/c", "x/a")
NOBODY, WEB = "203.0.113.9, which is of no pod", "80/TCP (http)"
SEEN_OF_C = "y/c with pcsa.role=other, pcns.ns=y, pcns.kubernetes.io/metadata.name=y, pod=c, empty="
SEEN_OF_D = "y/d with pcns.ns=y, pcns.kubernetes.io/metadata.name=y, pod=d"
UNKNOWN = ("kinds that this model knows", "an unknown one: the rule allows nothing")
Told = tuple[str, str, str]


def missed(judge: Judge, *what: Any, **more: Any) -> list[Told]:
    """All mismatches of all rules that are asked."""
    explanation = judge.oracle.explain(judge.flow(*what, **more))
    return [
        (each.field, each.wanted, each.found)
        for stage in explanation.directions
        for tier in stage.tiers
        for asked in tier.policies
        for rule in asked.rules
        for each in rule.mismatches
    ]


def kubernetes(direction: str = "ingress", **rule: object) -> Document:
    return knp({"podSelector": {}, "policyTypes": [direction.capitalize()], direction: [rule]})


def admin(direction: str = "ingress", action: str = "Deny", **rule: object) -> Document:
    kind, version, more = "AdminNetworkPolicy", "v1alpha1", {}
    if action == "Accept" or "protocols" in rule:
        kind, version, more = "ClusterNetworkPolicy", "v1alpha2", {"tier": "Admin"}
    spec = {"priority": 1, "subject": {"namespaces": {}}, direction: [{"action": action, **rule}], **more}
    api = f"policy.networking.k8s.io/{version}"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "p"}, "spec": spec}


PODS = {"matchExpressions": [{"key": "k", "operator": "In", "values": ["1", "2"]}, {"key": "e", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [
        ([{"port": 81}], "81/TCP"),
        ([{"port": 81, "endPort": 90}], "81-90/TCP"),
        ([{"protocol": "UDP"}], "any UDP"),
        ([{"port": "dns"}], "dns/TCP"),
        ([{"protocol": "SCTP", "port": 7}], "7/SCTP"),
        ([{"port": 81}, {"protocol": "UDP", "port": 53}], "81/TCP or 53/UDP"),
    ],
)
def test_ports_of_kubernetes_are_told(lab: Lab, ports: object, wanted: str) -> None:
    judge = lab(kubernetes(ports=ports))
    assert missed(judge, *STRANGER) == [("ports", wanted, WEB)]
    assert missed(judge, *STRANGER, "ICMP") == [("ports", wanted, "ICMP without ports")]


@pytest.mark.parametrize(
    ("peers", "wanted"),
    [
        ([{"ipBlock": {"cidr": "10.0.0.0/8"}}], "10.0.0.0/8"),
        (
            [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29", "203.0.113.0/30"]}}],
            "203.0.113.0/24 except 203.0.113.8/29, 203.0.113.0/30",
        ),
        ([{"podSelector": {"matchLabels": {"pod": "b", "app": "q"}}}], "pods with pod=b, app=q in namespace x"),
        ([{"namespaceSelector": {"matchLabels": {"ns": "q"}}}], "any pod in namespaces with ns=q"),
        (
            [{"namespaceSelector": {}, "podSelector": PODS}, {"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "pods with k In {1, 2}, e Exists in namespaces with any labels or 10.0.0.0/8",
        ),
    ],
)
def test_peers_of_kubernetes_are_told(lab: Lab, peers: object, wanted: str) -> None:
    judge = lab(kubernetes(**{"from": peers}))
    assert missed(judge, *STRANGER) == [("from", wanted, NOBODY)]
    assert missed(judge, *OTHER_NAMESPACE) == [("from", wanted, SEEN_OF_C)]
    judge = lab(kubernetes("egress", to=peers), nodes=NODES)
    assert missed(judge, "x/a", "y/d") == [("to", wanted, SEEN_OF_D)]
    assert missed(judge, "x/a", "node-2") == [("to", wanted, "node node-2 with zone=b, rack=1")]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"ports": [{"portNumber": {"port": 81}}]}, "81/TCP"),
        ({"ports": [{"portNumber": {"protocol": "UDP", "port": 53}}]}, "53/UDP"),
        ({"ports": [{"portRange": {"start": 1, "end": 9}}, {"namedPort": "dns"}]}, "1-9/TCP or port dns of the pod"),
        ({"protocols": [{"udp": {}}, {"destinationNamedPort": "dns"}]}, "any UDP or port dns of the pod"),
    ],
)
def test_ports_of_admin_policies_are_told(lab: Lab, rule: dict[str, object], wanted: str) -> None:
    judge = lab(admin(**{"from": [{"namespaces": {}}]}, **rule))
    assert missed(judge, *OTHER_NAMESPACE) == [("ports", wanted, WEB)]


@pytest.mark.parametrize(
    ("document", "flow", "told"),
    [
        (
            admin(**{"from": [{"namespaces": {"matchLabels": {"ns": "y"}}}]}),
            STRANGER,
            ("from", "any pod in namespaces with ns=y", NOBODY),
        ),
        (
            admin(**{"from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "q"}}}}]}),
            OTHER_NAMESPACE,
            ("from", "pods with pod=q in namespaces with any labels", SEEN_OF_C),
        ),
        (
            admin("egress", to=[{"networks": ["10.0.0.0/8", "fd00::/8"]}, {"namespaces": {"matchLabels": {"n": "1"}}}]),
            ("x/a", "client"),
            ("to", "in 10.0.0.0/8, fd00::/8 or any pod in namespaces with n=1", NOBODY),
        ),
        (
            admin("egress", to=[{"nodes": {"matchLabels": {"zone": "b"}}}]),
            ("x/a", "node-1"),
            ("to", "nodes with zone=b", "node node-1 with zone=a"),
        ),
        (
            admin("egress", "Accept", to=[{"domainNames": ["a.example", "b.example"]}]),
            ("x/a", "client"),
            ("to", "a.example, b.example, which no address in a lab has", NOBODY),
        ),
        (admin("egress", "Allow", to=[{"galaxies": {}}]), ("x/a", "client"), ("to", *UNKNOWN)),
        (admin("ingress", "Allow", **{"from": [{"galaxies": {}}]}), STRANGER, ("from", *UNKNOWN)),
        (
            admin("ingress", "Allow", ports=[{"pigeon": {}}], **{"from": [{"namespaces": {}}]}),
            OTHER_NAMESPACE,
            ("ports", *UNKNOWN),
        ),
    ],
)
def test_peers_of_admin_policies_are_told(lab: Lab, document: Document, flow: tuple[str, str], told: Told) -> None:
    assert missed(lab(document, nodes=NODES), *flow) == [told]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"ipVersion": 6}, [("ipVersion", "6", "4")]),
        ({"protocol": "UDP"}, [("protocol", "UDP", "TCP")]),
        ({"protocol": 253}, [("protocol", "253", "TCP")]),
        ({"notProtocol": "TCP"}, [("notProtocol", "any but TCP", "TCP")]),
        (
            {"protocol": "ICMPv6"},
            [("ipVersion", "6 (implied by protocol ICMPv6)", "4"), ("protocol", "ICMPv6", "TCP")],
        ),
        (
            {"protocol": "ICMP", "icmp": {"type": 8}},
            [("protocol", "ICMP", "TCP"), ("icmp", "type 8", "no ICMP")],
        ),
        (
            {"source": {"nets": ["10.0.0.0/8", "10.1.0.0/16"]}},
            [("source.nets", "in 10.0.0.0/8, 10.1.0.0/16", "203.0.113.9")],
        ),
        ({"destination": {"nets": ["10.0.0.0/8"]}}, [("destination.nets", "in 10.0.0.0/8", "198.18.1.1")]),
        (
            {"source": {"notNets": ["203.0.113.0/24", "10.0.0.0/8"]}},
            [("source.notNets", "not in 203.0.113.0/24", "203.0.113.9")],
        ),
        (
            {"source": {"notNets": ["2001:db8::/64"]}},
            [
                (
                    "source.notNets",
                    "an address of the family of 2001:db8::/64: in the other one the rule is absent",
                    "203.0.113.9",
                )
            ],
        ),
        (
            {"source": {"selector": "pod == 'b'"}},
            [("source.selector", "pod == 'b'", "203.0.113.9 is of no workload and no network set")],
        ),
        (
            {"protocol": "TCP", "destination": {"ports": [81, "90:99"]}},
            [("destination.ports", "one of 81, 90:99", WEB)],
        ),
        ({"protocol": "TCP", "destination": {"notPorts": [80]}}, [("destination.notPorts", "none of 80", WEB)]),
        ({"destination": {"ports": ["dns"]}}, [("destination.ports", "one of dns", WEB)]),
        ({"destination": {"notPorts": ["http", "dns"]}}, [("destination.notPorts", "none of http, dns", WEB)]),
        ({"protocol": "TCP", "source": {"ports": [9]}}, [("source.ports", "one of 9", "40000/TCP")]),
        ({"protocol": "ICMPv6", "ipVersion": 6}, [("ipVersion", "6", "4"), ("protocol", "ICMPv6", "TCP")]),
    ],
)
def test_rule_of_calico_tells_why_it_does_not_match_a_stranger(lab: Lab, rule: Document, told: list[Told]) -> None:
    assert missed(lab(onto("a", {"action": "Allow", **rule})), *STRANGER) == told


@pytest.mark.parametrize(
    ("source", "field", "wanted", "found"),
    [
        ({"selector": "pod == 'b' || k == '1'"}, "selector", "pod == 'b' || k == '1'", "y/c has no k, pod='c'"),
        ({"notSelector": "pod == 'c'"}, "notSelector", "not pod == 'c'", "y/c has pod='c'"),
        ({"selector": "has(pod)", "notSelector": "empty == ''"}, "notSelector", "not empty == ''", "y/c has empty=''"),
        ({"namespaceSelector": "ns == 'x'"}, "namespaceSelector", "ns == 'x'", "y/c has namespace y, ns='y'"),
        (
            {"serviceAccounts": {"names": ["db", "ops"]}},
            "serviceAccounts.names",
            "one of db, ops",
            "y/c has service account web",
        ),
        (
            {"serviceAccounts": {"selector": "role == 'q'"}},
            "serviceAccounts.selector",
            "role == 'q'",
            "y/c has role='other'",
        ),
    ],
)
def test_selectors_tell_what_they_look_at(lab: Lab, source: Document, field: str, wanted: str, found: str) -> None:
    judge = lab(onto("a", {"action": "Allow", "source": source}))
    assert missed(judge, *OTHER_NAMESPACE) == [(f"source.{field}", wanted, found)]


def test_own_namespace_and_missing_account_are_told(lab: Lab) -> None:
    spec = {"selector": "pod == 'a'", "types": ["Ingress"]}
    judge = lab(np({**spec, "ingress": [{"action": "Allow", "source": {"selector": "has(pod)"}}]}))
    assert missed(judge, *OTHER_NAMESPACE) == [
        ("source.selector", "in the policy's own namespace x", "y/c has namespace y")
    ]
    judge = lab(gnp({**spec, "ingress": [{"action": "Allow", "source": {"serviceAccounts": {"names": ["db"]}}}]}))
    assert missed(judge, "y/d", "x/a") == [("source.serviceAccounts.names", "one of db", "y/d has no service account")]


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ({"icmp": {"type": 8, "code": 1}}, "type 8 code 1"),
        ({"icmp": {"type": 0}}, "type 0"),
        ({"notICMP": {"type": 8}}, "any but type 8"),
        ({"notICMP": {"type": 8, "code": 0}}, "any but type 8 code 0"),
    ],
)
def test_icmp_headers_are_told(lab: Lab, match: Document, wanted: str) -> None:
    judge = lab(onto("a", {"action": "Allow", "protocol": "ICMP", **match}))
    assert missed(judge, *STRANGER, "ICMP") == [(next(iter(match)), wanted, "type 8 code 0")]


def test_family_that_a_protocol_implies_is_told(lab: Lab) -> None:
    judge = lab(onto("a", {"action": "Allow", "protocol": "ICMP"}))
    implied = ("ipVersion", "4 (implied by protocol ICMP)", "6")
    assert missed(judge, *STRANGER, 1, family=6) == [implied]
    assert missed(judge, *STRANGER, family=6) == [implied, ("protocol", "ICMP", "TCP")]


def test_services_are_told(lab: Lab) -> None:
    part: Document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["198.18.1.1"]}],
        "ports": [{"name": "http", "port": 80}],
    }
    rule = {"action": "Allow", "destination": {"services": {"name": "web", "namespace": "x"}}}
    judge = lab(gnp({"selector": "pod == 'd'", "types": ["Egress"], "egress": [rule]}), part)
    behind = "198.18.1.1, a backend of x/web"
    assert missed(judge, "y/d", "x/a", "TCP", 81) == [
        ("destination.services", "a port of a backend of x/web", f"81/TCP of {behind}")
    ]
    assert missed(judge, "y/d", "x/a", "ICMP") == [
        ("destination.services", "a port of a backend of x/web", f"no port/ICMP of {behind}")
    ]
    assert missed(judge, "y/d", "x/b") == [
        ("destination.services", "a port of a backend of x/web", "80/TCP of 198.18.1.2, which is behind no service")
    ]
    rule = {"action": "Allow", "source": {"services": {"name": "web", "namespace": "y"}}}
    judge = lab(onto("d", rule), part)
    assert missed(judge, "x/a", "y/d") == [("source.services", "a backend of y/web", behind)]


def text_of(file: str, line: int | None) -> str:
    """What is told of a flow within a namespace that stands there."""
    place = Place(file, line)
    world = replace(topology(workload("x/a", 1), workload("x/b", 2)), namespaces={"x": Namespace("x", {}, {}, place)})
    return explanation_text(Oracle(world, Resources(())).explain(Flow("x/a", "x/b", 6, 80, 4)))


def test_profile_that_decides_is_told_with_its_place_and_rule() -> None:
    asked = [
        "  profile kns.x (world.yaml:7)",
        "    rule 0 Allow: matches",
        "  => allow, decided by rule 0 of profile kns.x at egress",
    ]
    assert "\n".join(asked) in text_of("world.yaml", 7)
    assert "\n  profile kns.x (world.yaml)\n" in text_of("world.yaml", None)
