# SPDX-License-Identifier: Apache-2.0
"""Admin policies: subjects, peers, ports, priorities, Pass, baselines and failing closed, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from oracle_lab import EVERYBODY, Document, Lab, calico, gnp, knp, lab

from lab.oracle import explanation_text

__all__ = ["lab"]

POD_NAMES = EVERYBODY - {"client", "other"}
ANY: Document = {"namespaces": {}}
IN_X: Document = {"namespaces": {"matchLabels": {"ns": "x"}}}
IN_Y: Document = {"namespaces": {"matchLabels": {"ns": "y"}}}


def pod(name: str, namespaces: Document | None = None) -> Document:
    return {"pods": {"namespaceSelector": namespaces or {}, "podSelector": {"matchLabels": {"pod": name}}}}


def admin(kind: str, version: str, name: str, spec: Document) -> Document:
    api = f"policy.networking.k8s.io/{version}"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {"subject": ANY, **spec}}


def anp(name: str = "a", priority: int = 10, **spec: Any) -> Document:
    return admin("AdminNetworkPolicy", "v1alpha1", name, {"priority": priority, **spec})


def banp(**spec: Any) -> Document:
    return admin("BaselineAdminNetworkPolicy", "v1alpha1", "default", spec)


def cnp(name: str = "c", priority: int = 10, tier: str = "Admin", **spec: Any) -> Document:
    return admin("ClusterNetworkPolicy", "v1alpha2", name, {"priority": priority, "tier": tier, **spec})


def rule(action: str, *peers: Document, way: str = "from", **more: object) -> Document:
    return {"action": action, way: list(peers or [ANY]), **more}


def out(action: str, *peers: Document, **more: object) -> Document:
    return rule(action, *peers, way="to", **more)


SUBJECTS: list[tuple[Document, set[str]]] = [
    (ANY, set(POD_NAMES)),
    (IN_X, {"x/a", "x/b"}),
    ({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}, {"y/c", "y/d"}),
    ({"namespaces": {"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}}, {"y/c", "y/d"}),
    ({"namespaces": {"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}}, {"y/c", "y/d"}),
    ({"namespaces": {"matchLabels": {"ns": "z"}}}, set()),
    (pod("a"), {"x/a"}),
    (pod("c", {"matchLabels": {"ns": "x"}}), set()),
    ({"pods": {"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {}}}, {"y/c", "y/d"}),
]


@pytest.mark.parametrize(("subject", "closed"), SUBJECTS)
@pytest.mark.parametrize("make", [anp, cnp])
def test_subject_is_namespaces_or_pods_and_nobody_else_is_touched(
    lab: Lab, make: Any, subject: Document, closed: set[str]
) -> None:
    judge = lab(make(subject=subject, egress=[out("Deny", {"networks": ["0.0.0.0/0"]})]))
    assert {name for name in POD_NAMES if not judge.allows(name, "client")} == closed
    assert all(judge.allows("client", name) for name in POD_NAMES)  # a direction without rules is untouched


PEERS: list[tuple[list[Document], set[str]]] = [
    ([ANY], {"x/b", "y/c", "y/d"}),
    ([IN_X], {"x/b"}),
    ([IN_Y], {"y/c", "y/d"}),
    ([pod("c")], {"y/c"}),
    ([pod("c", {"matchLabels": {"ns": "x"}})], set()),
    ([pod("b"), pod("d")], {"x/b", "y/d"}),
    ([{"pods": {"namespaceSelector": {}, "podSelector": {}}}], {"x/b", "y/c", "y/d"}),
    (
        [
            {
                "pods": {
                    "namespaceSelector": {},
                    "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
                }
            }
        ],
        set(),
    ),
    (
        [{"namespaces": {"matchExpressions": [{"key": "ns", "operator": "In", "values": ["x", "y"]}]}}],
        {"x/b", "y/c", "y/d"},
    ),
]


@pytest.mark.parametrize(("peers", "denied"), PEERS)
@pytest.mark.parametrize("family", [4, 6])
def test_ingress_peers_are_pods_alone(lab: Lab, peers: list[Document], denied: set[str], family: int) -> None:
    judge = lab(anp(subject=pod("a"), ingress=[rule("Deny", *peers)]))
    strangers = {"client"} if family == 6 else {"client", "other"}
    assert judge.senders("x/a", family=family) == (POD_NAMES - {"x/a"} - denied) | strangers


EGRESS_PEERS: list[tuple[Document, set[str]]] = [
    ({"networks": ["203.0.113.0/28"]}, {"client"}),
    ({"networks": ["203.0.113.77/32", "198.18.2.4/32"]}, {"other", "y/d"}),
    ({"networks": ["0.0.0.0/0"]}, {"x/b", "y/c", "y/d", "client", "other"}),
    ({"networks": ["::/0"]}, set()),
    ({"networks": ["198.18.2.0/24"]}, {"y/c", "y/d"}),
    ({"namespaces": {}}, {"x/b", "y/c", "y/d"}),
    ({"nodes": {}}, set()),
]


@pytest.mark.parametrize(("peer", "denied"), EGRESS_PEERS)
@pytest.mark.parametrize("make", [anp, cnp])
def test_egress_networks_hold_pods_too(lab: Lab, make: Any, peer: Document, denied: set[str]) -> None:
    judge = lab(make(subject=pod("a"), egress=[out("Deny", peer)]))
    others = EVERYBODY - {"x/a"}
    assert {name for name in others if not judge.allows("x/a", name)} == denied


NODES: Document = {"node-1": {"labels": {"zone": "a"}}, "node-2": {"labels": {"zone": "b", "disk": "ssd"}}}


@pytest.mark.parametrize(
    ("selector", "denied"),
    [
        ({}, {"node-2"}),
        ({"matchLabels": {"zone": "b"}}, {"node-2"}),
        ({"matchLabels": {"zone": "a"}}, set()),
        ({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}, {"node-2"}),
        ({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}, set()),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_nodes_are_peers_by_their_own_labels_and_addresses(
    lab: Lab, selector: Document, denied: set[str], family: int
) -> None:
    judge = lab(cnp(subject=pod("a"), egress=[out("Deny", {"nodes": selector})]), nodes=NODES)
    asked = {"node-2", "x/b", "y/c", "client"}  # x/b runs on node-2, which does not make it that node
    assert {name for name in asked if not judge.allows("x/a", name, family=family)} == denied


def test_networks_are_of_their_own_family(lab: Lab) -> None:
    judge = lab(anp(egress=[out("Deny", {"networks": ["::/0"]})]))
    assert judge.allows("x/a", "client")
    assert not judge.allows("x/a", "client", family=6)


V1_PORTS: list[tuple[list[Document], set[tuple[str, int]]]] = [
    ([{"portNumber": {"port": 80}}], {("TCP", 80)}),
    ([{"portNumber": {"protocol": "UDP", "port": 53}}], {("UDP", 53)}),
    ([{"portRange": {"start": 80, "end": 81}}], {("TCP", 80), ("TCP", 81)}),
    ([{"portRange": {"protocol": "UDP", "start": 1, "end": 65535}}], {("UDP", 53), ("UDP", 80), ("UDP", 91)}),
    ([{"portNumber": {"port": 81}}, {"portNumber": {"protocol": "UDP", "port": 80}}], {("TCP", 81), ("UDP", 80)}),
    ([{"namedPort": "http"}], {("TCP", 80)}),
    ([{"namedPort": "dns"}], {("UDP", 53)}),
    ([{"namedPort": "nobody"}], set()),
    ([{"namedPort": "http"}, {"portNumber": {"port": 90}}], {("TCP", 80), ("TCP", 90)}),
]
ASKED = [("TCP", 80), ("TCP", 81), ("TCP", 90), ("UDP", 53), ("UDP", 80), ("UDP", 91)]


@pytest.mark.parametrize(("ports", "denied"), V1_PORTS)
def test_ports_default_to_tcp_and_names_to_what_the_pod_declares(
    lab: Lab, ports: list[Document], denied: set[tuple[str, int]]
) -> None:
    judge = lab(anp(subject=pod("a"), ingress=[rule("Deny", ports=ports)]))
    assert {packet for packet in ASKED if not judge.allows("x/b", "x/a", *packet)} == denied
    assert judge.allows("x/b", "x/a", "ICMP")


def destination(protocol: str, **port: object) -> Document:
    return {protocol: {"destinationPort": port}}


V2_PROTOCOLS: list[tuple[list[Document], set[tuple[str, int]]]] = [
    ([destination("tcp", number=80)], {("TCP", 80)}),
    ([destination("udp", number=80)], {("UDP", 80)}),
    ([destination("tcp", range={"start": 80, "end": 81})], {("TCP", 80), ("TCP", 81)}),
    ([destination("sctp", number=80)], set()),
    ([{"destinationNamedPort": "dns"}], {("UDP", 53)}),
    ([{"destinationNamedPort": "http"}, destination("udp", number=91)], {("TCP", 80), ("UDP", 91)}),
]


@pytest.mark.parametrize(("protocols", "denied"), V2_PROTOCOLS)
def test_protocols_of_cluster_network_policy(lab: Lab, protocols: list[Document], denied: set[tuple[str, int]]) -> None:
    judge = lab(cnp(subject=pod("a"), ingress=[rule("Deny", protocols=protocols)]))
    assert {packet for packet in ASKED if not judge.allows("x/b", "x/a", *packet)} == denied


def test_named_port_of_egress_is_that_of_each_receiver_under_any_protocol(lab: Lab) -> None:
    judge = lab(anp(egress=[out("Deny", ports=[{"namedPort": "http"}, {"namedPort": "both"}])]))
    assert not judge.allows("x/a", "x/b", "TCP", 8080)
    assert judge.allows("x/a", "x/b", "TCP", 80)
    assert not judge.allows("x/b", "x/a", "TCP", 80)
    assert not judge.allows("x/a", "x/b", "TCP", 90)
    assert not judge.allows("x/a", "x/b", "UDP", 91)
    assert judge.allows("x/a", "x/b", "UDP", 90)


ALLOW, DENY, PASS = rule("Allow"), rule("Deny"), rule("Pass")
TO_A: Document = {"podSelector": {"matchLabels": {"pod": "a"}}}
CLOSED = knp({**TO_A, "ingress": []}, "n")
OPEN = knp({**TO_A, "ingress": [{}]}, "n")
ORDER: list[tuple[list[Document], tuple[object, ...]]] = [
    ([anp(ingress=[ALLOW]), CLOSED], ("kube-admin", "a", 0)),
    ([anp(ingress=[DENY]), OPEN], ("kube-admin", "a", 0)),
    ([anp(ingress=[PASS]), OPEN], ("default", "n", 0)),
    ([anp(ingress=[PASS]), CLOSED], ("ingress", "tier-end-deny", "default")),
    ([anp(ingress=[rule("Deny", IN_Y)]), OPEN], ("default", "n", 0)),
    ([anp(ingress=[rule("Deny", IN_Y)])], ("ingress", "profile", "kns.x")),
    ([anp("a", 20, ingress=[DENY]), anp("z", 10, ingress=[ALLOW])], ("kube-admin", "z", 0)),
    ([anp("a", 20, ingress=[DENY]), cnp("z", 10, ingress=[rule("Accept")])], ("kube-admin", "z", 0)),
    ([anp("a", 5, ingress=[DENY]), cnp("z", 10, ingress=[rule("Accept")])], ("kube-admin", "a", 0)),
    ([anp("a", 5, ingress=[PASS]), anp("z", 10, ingress=[DENY])], ("ingress", "profile", "kns.x")),
    ([anp("a", 5, ingress=[rule("Pass", IN_X), DENY])], ("ingress", "profile", "kns.x")),
    ([anp("a", 5, ingress=[rule("Pass", IN_Y), DENY])], ("kube-admin", "a", 1)),
    ([anp("a", 5, ingress=[rule("Deny", IN_Y), ALLOW, DENY])], ("kube-admin", "a", 1)),
    ([banp(ingress=[DENY])], ("kube-baseline", "default", 0)),
    ([banp(ingress=[DENY]), OPEN], ("default", "n", 0)),
    ([banp(ingress=[ALLOW]), CLOSED], ("ingress", "tier-end-deny", "default")),
    ([banp(ingress=[DENY]), anp(ingress=[ALLOW])], ("kube-admin", "a", 0)),
    ([banp(ingress=[DENY]), anp(ingress=[PASS])], ("kube-baseline", "default", 0)),
    ([banp(ingress=[DENY]), anp(ingress=[PASS]), OPEN], ("default", "n", 0)),
    ([banp(ingress=[rule("Deny", IN_Y)])], ("ingress", "profile", "kns.x")),
    ([banp(ingress=[rule("Allow", IN_Y)])], ("ingress", "profile", "kns.x")),
    (
        [banp(ingress=[DENY]), knp({**TO_A, "policyTypes": ["Egress"], "egress": [{}]}, "n")],
        ("kube-baseline", "default", 0),
    ),
    ([banp(ingress=[DENY]), knp({"podSelector": {"matchLabels": {"pod": "b"}}}, "n")], ("kube-baseline", "default", 0)),
    ([cnp(tier="Baseline", ingress=[DENY])], ("kube-baseline", "c", 0)),
    ([cnp(tier="Baseline", ingress=[DENY]), OPEN], ("default", "n", 0)),
    (
        [cnp("b", 2, "Baseline", ingress=[DENY]), cnp("c", 1, "Baseline", ingress=[rule("Accept")])],
        ("kube-baseline", "c", 0),
    ),
    (
        [cnp("b", 2, "Baseline", ingress=[DENY]), cnp("c", 1, "Baseline", ingress=[PASS])],
        ("ingress", "profile", "kns.x"),
    ),
    ([cnp("b", 1, "Baseline", ingress=[PASS]), cnp("c", 9, ingress=[DENY])], ("kube-admin", "c", 0)),
]


@pytest.mark.parametrize(("documents", "decides"), ORDER)
def test_admin_policies_stand_before_and_baselines_behind_network_policies(
    lab: Lab, documents: list[Document], decides: tuple[object, ...]
) -> None:
    judge = lab(*documents)
    found = judge.rule if decides[0] in {"kube-admin", "default", "kube-baseline"} else judge.default
    assert found("x/b", "x/a") == decides


def test_decision_names_the_kind_and_no_namespace(lab: Lab) -> None:
    decision = lab(banp(ingress=[DENY])).verdict("x/b", "x/a").decided_by
    assert (decision.kind, decision.namespace, decision.direction.value) == (
        "BaselineAdminNetworkPolicy",
        None,
        "ingress",
    )


def in_tier(order: float, action: str) -> list[Document]:
    """A Calico tier at this order with one policy, whose one ingress rule does this to everything."""
    spec = {"tier": "t", "types": ["Ingress"], "ingress": [{"action": action}]}
    return [calico("Tier", "t", {"order": order, "defaultAction": "Pass"}), gnp(spec, "t.p")]


def in_default(action: str) -> Document:
    return gnp({"types": ["Ingress"], "ingress": [{"action": action}]})


CALICO_TIERS: list[tuple[list[Document], tuple[object, ...]]] = [
    ([*in_tier(999, "Deny"), anp(ingress=[ALLOW])], ("t", "t.p", 0)),
    ([*in_tier(1001, "Deny"), anp(ingress=[PASS])], ("t", "t.p", 0)),
    ([*in_tier(1001, "Deny"), anp(ingress=[ALLOW])], ("kube-admin", "a", 0)),
    ([in_default("Pass"), banp(ingress=[DENY])], ("kube-baseline", "default", 0)),
    ([in_default("Allow"), banp(ingress=[DENY])], ("default", "p", 0)),
    ([*in_tier(1e8, "Deny"), banp(ingress=[ALLOW])], ("kube-baseline", "default", 0)),
]


@pytest.mark.parametrize(("documents", "decides"), CALICO_TIERS)
def test_admin_policies_stand_among_calico_tiers(
    lab: Lab, documents: list[Document], decides: tuple[object, ...]
) -> None:
    assert lab(*documents).rule("x/b", "x/a") == decides


def test_admin_policy_never_isolates(lab: Lab) -> None:
    only = [{"portNumber": {"port": 80}}]
    judge = lab(anp(ingress=[rule("Allow", IN_X, ports=only)], egress=[out("Allow", IN_X, ports=only)]))
    assert judge.senders("x/a", "TCP", 81) == EVERYBODY - {"x/a"}
    assert judge.allows("x/a", "client", "UDP", 9)


def test_what_a_pod_sends_to_itself_is_never_policed(lab: Lab) -> None:
    judge = lab(anp(ingress=[DENY], egress=[out("Deny")]))
    assert judge.default("x/a", "x/a") == (None, "self", None)


UNKNOWN: Document = {"satellites": {}}


@pytest.mark.parametrize("make", [anp, cnp])
@pytest.mark.parametrize(
    ("action", "peers", "denied"),
    [
        ("Deny", [UNKNOWN], set(EVERYBODY - {"x/a"})),
        ("Pass", [UNKNOWN], set(EVERYBODY - {"x/a"})),
        ("Deny", [IN_Y, UNKNOWN], set(EVERYBODY - {"x/a"})),
        ("Allow", [UNKNOWN], {"x/b", "y/c", "y/d"}),
        ("Allow", [IN_Y, UNKNOWN], {"x/b", "y/c", "y/d"}),
        ("Allow", [IN_Y], {"x/b"}),
    ],
)
def test_unknown_peer_fails_closed(lab: Lab, make: Any, action: str, peers: list[Document], denied: set[str]) -> None:
    spelled = "Accept" if make is cnp and action == "Allow" else action
    judge = lab(make(subject=pod("a"), ingress=[rule(spelled, *peers), DENY]))
    assert judge.senders("x/a") == EVERYBODY - {"x/a"} - denied


@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
def test_unknown_protocol_fails_closed(lab: Lab, action: str) -> None:
    unknown = [{"quic": {"destinationPort": {"number": 80}}}, destination("tcp", number=80)]
    everyone = out("Deny", {"networks": ["0.0.0.0/0"]})
    judge = lab(cnp(subject=pod("a"), egress=[out(action, IN_Y, protocols=unknown), everyone]))
    assert {name for name in EVERYBODY - {"x/a"} if judge.allows("x/a", name)} == set()
    decides = 1 if action == "Accept" else 0
    assert judge.rule("x/a", "y/c") == ("kube-admin", "c", decides)


def test_domain_names_match_nobody_and_leave_other_peers_alone(lab: Lab) -> None:
    everyone = out("Deny", {"networks": ["0.0.0.0/0"]})
    names: Document = {"domainNames": ["example.com", "*.example.org"]}
    judge = lab(cnp(subject=pod("a"), egress=[out("Accept", names, IN_Y), everyone]))
    assert {name for name in EVERYBODY - {"x/a"} if judge.allows("x/a", name)} == {"y/c", "y/d"}


def test_explanation_tells_peers_and_ports_that_were_wanted(lab: Lab) -> None:
    ports = [{"portNumber": {"port": 81}}, {"namedPort": "dns"}]
    judge = lab(anp(subject=pod("a"), ingress=[rule("Deny", pod("c"), ports=ports), rule("Pass", UNKNOWN)]))
    text = explanation_text(judge.oracle.explain(judge.flow("x/b", "x/a")))
    assert "AdminNetworkPolicy a (" in text
    assert "from wants pods with pod=c in namespaces with any labels; here it is x/b with " in text
    assert "ports wants 81/TCP or port dns of the pod; here it is 80/TCP (http)" in text
    assert "rule 1 Deny" in text


def test_host_endpoint_is_never_a_subject(lab: Lab) -> None:
    host = calico("HostEndpoint", "h", {"node": "node-2", "interfaceName": "*", "profiles": ["open"]})
    opened = calico("Profile", "open", {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]})
    judge = lab(host, opened, anp(ingress=[DENY], egress=[out("Deny", {"networks": ["0.0.0.0/0"]})]))
    assert judge.allows("client", "node-2", "TCP", 9)
    assert judge.allows("node-2", "client", "TCP", 9)


def test_policy_without_rules_in_a_direction_is_not_asked_there(lab: Lab) -> None:
    judge = lab(anp(ingress=[ALLOW]))
    egress, ingress = judge.oracle.explain(judge.flow("x/b", "x/a")).directions
    assert egress.tiers[0].outcome == "no policy applies"
    assert ingress.tiers[0].outcome == "a rule decided"
