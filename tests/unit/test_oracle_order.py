# SPDX-License-Identifier: Apache-2.0
"""Order, tiers, profiles, paths: tables written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle_lab import EVERYBODY, Document, Lab, calico, gnp, knp, lab, np

from lab.errors import TopologyError
from lab.oracle import explanation_text
from lab.topology import Flow

__all__ = ["lab"]

ALLOW, DENY, PASS, LOG = ({"action": action} for action in ("Allow", "Deny", "Pass", "Log"))


def ingress(name: str, *rules: Document, **spec: object) -> Document:
    return gnp({"selector": "pod == 'a'", "types": ["Ingress"], "ingress": list(rules), **spec}, name)


def tier(name: str, order: float | None, action: str = "Deny") -> Document:
    spec = {"defaultAction": action} | ({} if order is None else {"order": order})
    return calico("Tier", name, spec)


@pytest.mark.parametrize(
    ("policies", "decides"),
    [
        ([("b", 1), ("a", 2)], "b"),
        ([("b", 5), ("a", 5)], "a"),
        ([("z", 1e9), ("a", None)], "z"),
        ([("b", None), ("a", None)], "a"),
        ([("a.b", 1), ("a-b", 1)], "a-b"),
        ([("a", 1), ("a-1", 1)], "a-1"),  # "a//..." against "a-1/...": "-" comes before "/"
        ([("b", -1), ("a", 0)], "b"),
    ],
)
def test_policies_go_by_order_and_then_by_name(
    lab: Lab, policies: list[tuple[str, float | None]], decides: str
) -> None:
    documents = [ingress(name, ALLOW, **({} if order is None else {"order": order})) for name, order in policies]
    assert lab(*documents).rule("x/b", "x/a") == ("default", decides, 0)


def test_kind_and_namespace_break_ties_of_names(lab: Lab) -> None:
    near = np({"order": 1000, "selector": "pod == 'a'", "types": ["Ingress"], "ingress": [DENY]})
    plain = knp({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{}]})
    judge = lab(near, plain)  # "p/x/KubernetesNetworkPolicy" comes before "p/x/NetworkPolicy"
    assert judge.verdict("x/b", "x/a").allowed
    everywhere = ingress("p", DENY, order=1000)
    assert not lab(everywhere, plain).verdict("x/b", "x/a").allowed  # "p//Global..." comes first


@pytest.mark.parametrize(
    ("spec", "closed"),
    [
        ({"ingress": [DENY]}, {"in"}),
        ({"egress": [DENY]}, {"out"}),
        ({"ingress": [DENY], "egress": [DENY]}, {"in", "out"}),
        ({}, {"in"}),
        ({"types": ["Ingress"], "egress": [DENY]}, {"in"}),
        ({"types": ["Egress"]}, {"out"}),
        ({"types": ["Ingress", "Egress"]}, {"in", "out"}),
    ],
)
def test_types_tell_which_directions_are_isolated(lab: Lab, spec: Document, closed: set[str]) -> None:
    judge = lab(gnp({"selector": "pod == 'a'", **spec}))
    found = {"in"} if not judge.allows("x/b", "x/a") else set()
    found |= {"out"} if not judge.allows("x/a", "x/b") else set()
    assert found == closed


TIERS: list[tuple[list[Document], tuple[object, ...]]] = [
    ([tier("t", 1), ingress("t.p", PASS, tier="t")], ("ingress", "profile", "kns.x")),
    ([tier("t", 1), ingress("t.p", LOG, tier="t")], ("ingress", "tier-end-deny", "t")),
    ([tier("t", 1, "Pass"), ingress("t.p", LOG, tier="t")], ("ingress", "profile", "kns.x")),
    ([tier("t", 1), ingress("t.p", PASS, DENY, tier="t"), ingress("q")], ("ingress", "tier-end-deny", "default")),
    ([tier("t", 1), ingress("t.p", PASS, tier="t"), ingress("t.q", DENY, tier="t")], ("ingress", "profile", "kns.x")),
    ([ingress("u.p", LOG, tier="unknown")], ("ingress", "tier-end-deny", "unknown")),
    ([ingress("q", PASS), ingress("u.p", LOG, tier="unknown")], ("ingress", "tier-end-deny", "unknown")),
    ([tier("t", None), ingress("t.p", LOG, tier="t"), ingress("q")], ("ingress", "tier-end-deny", "default")),
    ([tier("t", 1, "Deny"), gnp({"selector": "pod == 'b'", "tier": "t"})], ("ingress", "profile", "kns.x")),
    ([ingress("b", tier="kube-baseline"), ingress("q", PASS)], ("ingress", "profile", "kns.x")),
    (
        [tier("a", 7), tier("b", 7), ingress("b.p", tier="b"), ingress("a.p", tier="a")],
        ("ingress", "tier-end-deny", "a"),
    ),
    (  # neither has an order, but one exists
        [tier("t", None), ingress("a.p", tier="a"), ingress("t.p", tier="t")],
        ("ingress", "tier-end-deny", "t"),
    ),
]


@pytest.mark.parametrize(("documents", "decides"), TIERS)
def test_tiers_end_pass_or_are_skipped(lab: Lab, documents: list[Document], decides: tuple[object, ...]) -> None:
    assert lab(*documents).default("x/b", "x/a") == decides


def test_tier_with_egress_policy_only_is_transparent_for_ingress(lab: Lab) -> None:
    judge = lab(
        tier("t", 1), gnp({"selector": "pod == 'a'", "tier": "t", "types": ["Egress"], "egress": [DENY]}, "t.p")
    )
    assert judge.default("x/b", "x/a") == ("ingress", "profile", "kns.x")
    assert judge.rule("x/a", "x/b") == ("t", "t.p", 0)


def profile(name: str, *rules: Document, **labels: str) -> Document:
    return calico("Profile", name, {"ingress": list(rules), "egress": list(rules), "labelsToApply": labels})


def with_profiles(*names: str) -> Document:
    return {"x/a": {"node": "node-1", "labels": {"pod": "a"}, "profiles": list(names)}}


@pytest.mark.parametrize(
    ("profiles", "decides"),
    [
        ([], (False, "no-profile", None)),
        (["none"], (False, "no-profile", None)),
        (["gone"], (False, "missing-profile", "gone")),
        (["open"], (True, "profile", "open")),
        (["open", "gone"], (True, "profile", "open")),
        (["gone", "open"], (False, "missing-profile", "gone")),
        (["none", "gone", "open"], (False, "missing-profile", "gone")),
        (["shut", "open"], (False, "profile", "shut")),
        (["passing", "open"], (True, "profile", "open")),
        (["passing"], (False, "no-profile", None)),
        (["kns.y"], (True, "profile", "kns.y")),
        (["ksa.x.web"], (False, "no-profile", None)),
        (["projectcalico-default-allow"], (True, "profile", "projectcalico-default-allow")),
    ],
)
def test_profiles_are_asked_in_turn(lab: Lab, profiles: list[str], decides: tuple[object, ...]) -> None:
    known = [profile("none"), profile("open", LOG, ALLOW), profile("shut", DENY), profile("passing", PASS, DENY)]
    judge = lab(*known, workloads=with_profiles(*profiles))
    for flow in (("x/b", "x/a"), ("x/a", "client")):
        assert (judge.allows(*flow), *judge.default(*flow)[1:]) == decides


def test_own_label_beats_profile_and_first_profile_beats_second(lab: Lab) -> None:
    labelled = [profile("one", pod="z", color="red"), profile("two", color="blue", size="big")]
    workloads = with_profiles("one", "two")
    for selector, selected in [
        ("pod == 'a'", True),
        ("color == 'red'", True),
        ("size == 'big'", True),
        ("color == 'blue'", False),
    ]:
        policy = gnp({"selector": selector, "types": ["Ingress"]}, "q")
        assert (lab(*labelled, policy, workloads=workloads).default("x/b", "x/a")[1] == "tier-end-deny") is selected


def test_workload_with_own_profiles_has_no_namespace_labels(lab: Lab) -> None:
    def judged(selector: str) -> set[str]:
        rule = {**ALLOW, "source": {"namespaceSelector": selector}}
        policy = gnp({"selector": "pod == 'd'", "types": ["Ingress"], "ingress": [rule]})
        return lab(policy, profile("open", ALLOW), workloads=with_profiles("open")).senders("y/d")

    assert judged("ns == 'x'") == {"x/b"}
    assert judged("ns != 'x'") == {"x/a", "y/c"}
    assert judged("all()") == {"x/a", "x/b", "y/c"}


@pytest.mark.parametrize(
    ("subject", "closed"),
    [
        ({"selector": "all()"}, {"x/a", "x/b", "y/c", "y/d"}),
        ({}, {"x/a", "x/b", "y/c", "y/d"}),
        ({"namespaceSelector": "ns == 'y'"}, {"y/c", "y/d"}),
        ({"namespaceSelector": "!has(env)", "selector": "pod != 'c'"}, {"y/d"}),
        ({"serviceAccountSelector": "role == 'web'"}, {"x/a"}),
        ({"serviceAccountSelector": "all()"}, {"x/a", "x/b", "y/c"}),
        ({"serviceAccountSelector": "role != 'web'", "selector": "all()"}, {"x/b", "y/c"}),
        ({"serviceAccountSelector": "role != 'web'"}, {"x/b", "y/c", "y/d"}),
        (
            {"serviceAccountSelector": "role != 'web'", "namespaceSelector": "all()", "selector": "all()"},
            {"x/b", "y/c", "y/d"},
        ),
    ],
)
def test_global_policy_selects_by_labels_of_pod_namespace_and_account(
    lab: Lab, subject: Document, closed: set[str]
) -> None:
    judge = lab(gnp({**subject, "types": ["Ingress"]}))
    assert {name for name in EVERYBODY - {"client", "other"} if not judge.allows("client", name)} == closed


def test_namespaced_policy_selects_in_its_namespace_only(lab: Lab) -> None:
    judge = lab(np({"selector": "all()", "serviceAccountSelector": "all()", "types": ["Ingress"]}, namespace="y"))
    assert {name for name in EVERYBODY - {"client", "other"} if not judge.allows("client", name)} == {"y/c", "y/d"}


def test_path_asks_egress_first_and_names_the_last_word(lab: Lab) -> None:
    both = gnp({"selector": "all()", "types": ["Ingress", "Egress"], "ingress": [ALLOW], "egress": [ALLOW]})
    judge = lab(both)
    assert judge.verdict("x/a", "x/b").decided_by.direction.value == "ingress"
    assert judge.verdict("x/a", "client").decided_by.direction.value == "egress"
    closed = lab(gnp({"selector": "all()", "types": ["Ingress", "Egress"]}))
    assert closed.default("x/a", "x/b") == ("egress", "tier-end-deny", "default")
    assert closed.default("client", "x/b") == ("ingress", "tier-end-deny", "default")
    assert closed.default("client", "other") == (None, "no-policy", None)
    assert closed.default("x/a", "x/a") == (None, "self", None)


@pytest.mark.parametrize(("protocol", "port"), [("UDP", 4789), (4, None)])
def test_workload_may_not_encapsulate(lab: Lab, protocol: str | int, port: int | None) -> None:
    judge = lab(gnp({"selector": "all()", "ingress": [ALLOW], "egress": [ALLOW]}))
    assert judge.default("x/a", "x/b", protocol, port) == ("egress", "encapsulation", None)
    assert judge.allows("client", "x/b", protocol, port)
    assert judge.allows("x/a", "x/b", "TCP", 4789)


def labelled(**labels: str) -> Document:
    return {"matchLabels": labels}


def requiring(key: str, operator: str, *values: str) -> Document:
    return {"matchExpressions": [{"key": key, "operator": operator} | ({"values": list(values)} if values else {})]}


NAMED_Y = {"matchLabels": {"kubernetes.io/metadata.name": "y"}}
ANYWHERE: Document = {"namespaceSelector": {}}
# The peers of one ingress rule for x/a; None means that there is no rule at all.
KUBERNETES: list[tuple[list[Document] | None, set[str]]] = [
    (None, set()),
    ([], EVERYBODY - {"x/a"}),
    ([{"podSelector": {}}], {"x/b"}),
    ([{"podSelector": labelled(pod="c")}], set()),
    ([ANYWHERE], {"x/b", "y/c", "y/d"}),
    ([{"namespaceSelector": labelled(ns="y")}], {"y/c", "y/d"}),
    ([{"namespaceSelector": NAMED_Y}], {"y/c", "y/d"}),
    ([{**ANYWHERE, "podSelector": labelled(pod="c")}], {"y/c"}),
    ([ANYWHERE, {"ipBlock": {"cidr": "203.0.113.0/24"}}], EVERYBODY - {"x/a"}),
    ([{"ipBlock": {"cidr": "198.18.0.0/16", "except": ["198.18.2.0/24"]}}], {"x/b"}),
    ([{**ANYWHERE, "podSelector": requiring("empty", "DoesNotExist")}], {"x/b", "y/d"}),
    ([{"namespaceSelector": requiring("env", "NotIn", "prod")}], {"y/c", "y/d"}),
]


@pytest.mark.parametrize(("peers", "senders"), KUBERNETES)
def test_kubernetes_peers_are_pods_or_blocks(lab: Lab, peers: list[Document] | None, senders: set[str]) -> None:
    rules = [] if peers is None else [{"from": peers} if peers else {}]
    assert lab(knp({"podSelector": labelled(pod="a"), "ingress": rules})).senders("x/a") == senders


@pytest.mark.parametrize(
    ("ports", "open_"),
    [
        ([{"port": 80}], {("TCP", 80)}),
        ([{"protocol": "UDP", "port": 53}, {"port": 81}], {("UDP", 53), ("TCP", 81)}),
        ([{"protocol": "UDP"}], {("UDP", 53), ("UDP", 80)}),
        ([{"port": 80, "endPort": 81}], {("TCP", 80), ("TCP", 81)}),
        ([{"port": "http"}], {("TCP", 80)}),
        ([{"port": "dns"}], set()),
        ([{"protocol": "UDP", "port": "dns"}], {("UDP", 53)}),
    ],
)
def test_kubernetes_ports_default_to_tcp(lab: Lab, ports: list[Document], open_: set[tuple[str, int]]) -> None:
    judge = lab(knp({"podSelector": {}, "ingress": [{"ports": ports}]}))
    asked = {("TCP", 80), ("TCP", 81), ("UDP", 53), ("UDP", 80)}
    assert {packet for packet in asked if judge.allows("y/c", "x/a", *packet)} == open_
    assert not judge.allows("y/c", "x/a", "ICMP")


def test_kubernetes_egress_names_ports_of_the_receiver(lab: Lab) -> None:
    judge = lab(knp({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]}))
    assert judge.allows("x/a", "x/b", "TCP", 8080)
    assert not judge.allows("x/a", "x/b", "TCP", 80)
    assert not judge.allows("x/a", "client", "TCP", 80)


def test_kubernetes_policy_stands_at_order_thousand_of_the_default_tier(lab: Lab) -> None:
    plain = knp({"podSelector": {}, "ingress": [{}]}, "n")
    assert lab(plain, ingress("z", DENY, order=999.5)).rule("x/b", "x/a") == ("default", "z", 0)
    assert lab(plain, ingress("z", DENY, order=1000.5)).rule("x/b", "x/a") == ("default", "n", 0)
    assert lab(plain, ingress("z", DENY)).verdict("x/b", "x/a").decided_by.kind == "KubernetesNetworkPolicy"


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (Flow("x/a", "nobody", 6, 80, 4), "nobody"),
        (Flow("x/a", "other", 6, 80, 6), "IPv6"),
    ],
)
def test_flow_that_cannot_be_judged_is_refused_by_name(lab: Lab, flow: Flow, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        lab().oracle.verdict(flow)


def test_explanation_names_files_lines_and_what_did_not_match(lab: Lab, tmp_path: Path) -> None:
    rules = [
        {**DENY, "protocol": "UDP"},
        {**ALLOW, "source": {"selector": "pod == 'z'"}},
        {**ALLOW, "source": {"nets": ["203.0.113.0/24"]}},
    ]
    judge = lab(ingress("p", *rules))
    explanation = judge.oracle.explain(Flow("x/b", "x/a", 6, 80, 4))
    text = explanation_text(explanation)
    assert f"GlobalNetworkPolicy p ({tmp_path}/policy.json:1)" in text
    assert "protocol wants UDP; here it is TCP" in text
    assert "source.selector wants pod == 'z'; here it is x/b has pod='b'" in text
    assert "source.nets wants in 203.0.113.0/24; here it is 198.18.1.2" in text
    assert "no rule decided: end of tier denies" in text
    asked = explanation.directions[1]
    fields = [[m.field for m in rule.mismatches] for rule in asked.tiers[1].policies[0].rules]
    assert fields == [["protocol"], ["source.selector"], ["source.nets"]]


def test_explanation_tells_direction_that_was_not_reached(lab: Lab) -> None:
    judge = lab(gnp({"selector": "pod == 'a'", "types": ["Egress"]}))
    egress, after = judge.oracle.explain(Flow("x/a", "x/b", 6, 80, 4)).directions
    assert (egress.reached, egress.verdict.allowed) == (True, False)
    assert (after.reached, after.verdict.allowed) == (False, True)
