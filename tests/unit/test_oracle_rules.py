# SPDX-License-Identifier: Apache-2.0
"""Rules: what each field of one asks of a packet, in tables written by hand."""

from __future__ import annotations

import pytest
from oracle_lab import EVERYBODY, Lab, calico, gnp, lab, np, onto

__all__ = ["lab"]

PODS = {"x/a", "x/b", "y/c", "y/d"}
TCP_80 = {"protocol": "TCP", "destination": {"ports": [80]}}


def allow(**fields: object) -> dict[str, object]:
    return {"action": "Allow", **fields}


def deny(**fields: object) -> dict[str, object]:
    return {"action": "Deny", **fields}


@pytest.mark.parametrize(
    ("selector", "senders"),
    [
        ("app != 'shop'", {"x/b", "y/c", "y/d"}),
        ("app not in {'shop'}", {"x/b", "y/c", "y/d"}),
        ("! app == 'shop'", {"x/b", "y/c", "y/d"}),
        ("empty == ''", {"y/c"}),
        ("empty contains ''", {"y/c"}),
        ("pod in {}", set()),
        ("pod not in {}", PODS),
        ("pod == 'b' || pod == 'c' && empty == 'no'", {"x/b"}),
        ("pod notin {'a','b'}", {"y/c", "y/d"}),
        ("all()", PODS),
        ("projectcalico.org/namespace == 'y'", {"y/c", "y/d"}),
        ("projectcalico.org/serviceaccount == 'web'", {"x/a", "y/c"}),
        ("has(projectcalico.org/serviceaccount)", {"x/a", "x/b", "y/c"}),
        ("projectcalico.org/orchestrator == 'k8s'", PODS),
        ("pcns.env == 'prod'", {"x/a", "x/b"}),
        ("pcsa.role == 'other'", {"y/c"}),
    ],
)
def test_selector_of_global_rule_names_senders(lab: Lab, selector: str, senders: set[str]) -> None:
    judge = lab(onto("d", allow(source={"selector": selector})))
    assert judge.senders("y/d") == senders - {"y/d"}


@pytest.mark.parametrize(
    ("source", "senders"),
    [
        ({}, EVERYBODY),
        ({"selector": "all()"}, {"x/a", "x/b"}),
        ({"notSelector": "pod == 'a'"}, {"x/b"}),
        ({"selector": "has(pod)", "notSelector": "pod == 'a'"}, {"x/b"}),
        ({"serviceAccounts": {"names": ["web"]}}, {"x/a"}),
        ({"serviceAccounts": {"selector": "role == 'db'"}}, {"x/b"}),
        ({"serviceAccounts": {"names": ["web"], "selector": "role == 'db'"}}, set()),
        ({"namespaceSelector": "ns == 'y'"}, {"y/c", "y/d"}),
        ({"namespaceSelector": "all()"}, PODS),
        ({"namespaceSelector": "global()"}, set()),
        ({"namespaceSelector": "ns == 'y'", "selector": "pod == 'c'"}, {"y/c"}),
        ({"namespaceSelector": "env != 'prod'"}, {"y/c", "y/d"}),
        ({"namespaceSelector": "ns == 'y'", "serviceAccounts": {"names": ["web"]}}, {"y/c"}),
        ({"namespaceSelector": "projectcalico.org/name == 'y'"}, {"y/c", "y/d"}),
        ({"nets": ["198.18.2.0/24"]}, {"y/c", "y/d"}),
    ],
)
def test_source_of_namespaced_rule_names_senders(lab: Lab, source: dict[str, object], senders: set[str]) -> None:
    policy = np({"selector": "pod == 'b'", "types": ["Ingress"], "ingress": [allow(source=source)]})
    assert lab(policy).senders("x/b") == senders - {"x/b"}


@pytest.mark.parametrize(
    ("source", "senders"),
    [
        ({"notSelector": "pod == 'a'"}, EVERYBODY - {"x/a"}),
        ({"notSelector": "all()"}, {"client", "other"}),
        ({"serviceAccounts": {"names": ["web"]}}, {"x/a", "y/c"}),
        ({"namespaceSelector": "!has(env)"}, {"y/c", "y/d"}),
        ({"namespaceSelector": "global()"}, set()),
    ],
)
def test_source_of_global_rule_names_senders(lab: Lab, source: dict[str, object], senders: set[str]) -> None:
    assert lab(onto("b", allow(source=source))).senders("x/b") == senders - {"x/b"}


def test_network_set_over_pod_makes_it_match(lab: Lab) -> None:
    blocked = calico("GlobalNetworkSet", "s", {"nets": ["198.18.1.1", "203.0.113.0/28"]}, labels={"threat": "yes"})
    judge = lab(blocked, onto("d", deny(source={"selector": "threat == 'yes'"}), allow()))
    assert judge.senders("y/d") == EVERYBODY - {"y/d", "x/a", "client"}
    assert judge.senders("y/d", family=6) == {"x/a", "x/b", "y/c", "client"}


@pytest.mark.parametrize(
    ("source", "senders"),
    [
        ({"namespaceSelector": "global()"}, {"client"}),
        ({"namespaceSelector": "!has(ns)"}, {"client"}),
        ({"namespaceSelector": "ns != 'x'"}, {"y/c", "client", "other"}),
        ({"namespaceSelector": "all()"}, {"x/a", "x/b", "y/c", "other"}),
        ({"namespaceSelector": "ns == 'y'"}, {"y/c", "other"}),
        ({"selector": "set == 'g'"}, {"client"}),
    ],
)
def test_namespace_selector_sees_sets_by_their_namespace(
    lab: Lab, source: dict[str, object], senders: set[str]
) -> None:
    outside = calico("GlobalNetworkSet", "g", {"nets": ["203.0.113.9/32"]}, labels={"set": "g"})
    inside = calico("NetworkSet", "s", {"nets": ["203.0.113.77/32"]}, namespace="y", labels={"set": "s"})
    judge = lab(outside, inside, onto("d", allow(source=source)))
    assert judge.senders("y/d") == senders


def test_network_set_of_other_namespace_is_no_peer_of_namespaced_rule(lab: Lab) -> None:
    sets = [calico("NetworkSet", "s", {"nets": ["203.0.113.9/32"]}, namespace=ns, labels={"at": ns}) for ns in "xy"]
    rules = [allow(source={"selector": "has(at)"})]
    near = np({"types": ["Ingress"], "selector": "pod == 'a'", "ingress": rules}, namespace="x")
    assert lab(sets[0], near).senders("x/a") == {"client"}
    assert lab(sets[1], near).senders("x/a") == set()


def test_zero_prefix_in_set_matches_everyone_of_its_family(lab: Lab) -> None:
    everyone = calico("GlobalNetworkSet", "s", {"nets": ["0.0.0.0/0"]}, labels={"any": ""})
    judge = lab(everyone, onto("d", allow(source={"selector": "has(any)"})))
    assert judge.senders("y/d") == EVERYBODY - {"y/d"}
    assert judge.senders("y/d", family=6) == set()


@pytest.mark.parametrize(("key", "prefix"), [("nets", "fd00:18::/32"), ("notNets", "2001:db8::/64")])
def test_nets_of_other_family_make_rule_absent(lab: Lab, key: str, prefix: str) -> None:
    judge = lab(onto("d", allow(source={key: [prefix]})))
    assert not judge.allows("x/a", "y/d")
    assert judge.allows("x/a", "y/d", family=6)


def test_not_nets_cut_holes_into_nets(lab: Lab) -> None:
    judge = lab(onto("d", allow(source={"nets": ["198.18.0.0/16"], "notNets": ["198.18.1.2/31"]})))
    assert judge.senders("y/d") == {"x/a", "y/c"}


PORTS = [
    (["80", "http"], 80, True),
    (["http"], 8080, False),
    (["79:81"], 79, True),
    (["79:81"], 81, True),
    (["79:81"], 78, False),
    (["79:81"], 82, False),
    ([*range(100, 116), 80], 80, True),
    ([65535], 65535, True),
]


@pytest.mark.parametrize(("ports", "port", "allowed"), PORTS)
def test_ports_are_alternatives(lab: Lab, ports: list[object], port: int, allowed: bool) -> None:
    judge = lab(onto("a", allow(protocol="TCP", destination={"ports": ports})))
    assert judge.allows("x/b", "x/a", "TCP", port) is allowed


def test_named_port_has_each_pods_own_number(lab: Lab) -> None:
    rule = allow(protocol="TCP", destination={"ports": ["http"]})
    judge = lab(gnp({"selector": "all()", "types": ["Ingress"], "ingress": [rule]}))
    assert judge.allows("y/d", "x/a", "TCP", 80)
    assert judge.allows("y/d", "x/b", "TCP", 8080)
    assert not judge.allows("y/d", "x/b", "TCP", 80)
    assert not judge.allows("y/d", "x/a", "UDP", 80)


def test_named_port_without_protocol_is_open_under_every_declared_one(lab: Lab) -> None:
    judge = lab(onto("b", allow(destination={"ports": ["both"]})))
    assert judge.allows("y/d", "x/b", "TCP", 90)
    assert judge.allows("y/d", "x/b", "UDP", 91)
    assert not judge.allows("y/d", "x/b", "UDP", 90)
    assert not judge.allows("y/d", "x/b", "SCTP", 90)


def test_port_name_declared_for_udp_does_not_open_tcp(lab: Lab) -> None:
    judge = lab(onto("a", allow(protocol="TCP", destination={"ports": ["dns"]})))
    assert not judge.allows("x/b", "x/a", "TCP", 53)
    assert not judge.allows("x/b", "x/a", "UDP", 53)


def test_named_port_beside_selector_needs_both(lab: Lab) -> None:
    peer = {"selector": "app == 'shop'", "ports": ["http"]}
    judge = lab(
        gnp({"selector": "pod == 'd'", "types": ["Egress"], "egress": [allow(protocol="TCP", destination=peer)]})
    )
    assert judge.allows("y/d", "x/a", "TCP", 80)
    assert not judge.allows("y/d", "y/c", "TCP", 80)
    assert not judge.allows("y/d", "x/a", "TCP", 81)


def test_named_port_counts_only_on_parties_that_selector_allows(lab: Lab) -> None:
    cover = calico("GlobalNetworkSet", "s", {"nets": ["198.18.1.1"]}, labels={"covered": "yes"})
    peer = {"selector": "covered == 'yes'", "ports": ["http"]}
    rules = [allow(protocol="TCP", destination=peer)]
    judge = lab(cover, gnp({"selector": "pod == 'd'", "types": ["Egress"], "egress": rules}))
    assert not judge.allows("y/d", "x/a", "TCP", 80)


def test_not_ports_win_over_ports_by_number_and_name(lab: Lab) -> None:
    judge = lab(onto("a", allow(protocol="TCP", destination={"ports": ["1:100", "http"], "notPorts": ["http", 22]})))
    assert not judge.allows("x/b", "x/a", "TCP", 80)
    assert not judge.allows("x/b", "x/a", "TCP", 22)
    assert judge.allows("x/b", "x/a", "TCP", 23)


def test_named_port_never_matches_stranger_and_its_negation_always_does(lab: Lab) -> None:
    def egress(side: dict[str, object]) -> dict[str, object]:
        return gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [allow(protocol="TCP", destination=side)]})

    served = {"client": {"addresses": ["203.0.113.9"], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}}
    assert not lab(egress({"ports": ["http"]}), externals=served).allows("x/a", "client")
    assert lab(egress({"notPorts": ["http"]}), externals=served).allows("x/a", "client")


def test_not_ports_by_name_without_protocol_lets_portless_packets_through(lab: Lab) -> None:
    judge = lab(onto("a", allow(destination={"notPorts": ["http"]})))
    assert judge.allows("x/b", "x/a", "ICMP")
    assert judge.allows("x/b", "x/a", "UDP", 80)
    assert not judge.allows("x/b", "x/a", "TCP", 80)


def test_source_ports_are_those_of_the_flow(lab: Lab) -> None:
    judge = lab(onto("a", allow(protocol="UDP", source={"ports": [40000, "dns"]})))
    assert judge.allows("x/b", "x/a", "UDP", 9)
    assert not judge.allows("x/b", "x/a", "UDP", 9, source_port=39999)
    mirrored = lab(onto("b", allow(protocol="UDP", source={"ports": ["dns"]})))
    assert mirrored.allows("x/a", "x/b", "UDP", 9, source_port=53)
    assert not mirrored.allows("y/c", "x/b", "UDP", 9, source_port=53)


ECHO_REPLY, ECHO, UNREACHABLE = (0, 0), (8, 0), (3, 1)


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        ({"protocol": "ICMP", "icmp": {"type": 0}}, {ECHO_REPLY}),
        ({"protocol": "ICMP", "icmp": {"type": 3, "code": 0}}, set()),
        ({"protocol": "ICMP", "icmp": {"type": 3}}, {UNREACHABLE}),
        ({"protocol": "ICMP", "notICMP": {"type": 3}}, {ECHO_REPLY, ECHO}),
        ({"protocol": "ICMP", "notICMP": {"type": 3, "code": 0}}, {ECHO_REPLY, ECHO, UNREACHABLE}),
        ({"protocol": "ICMP", "notICMP": {"type": 3, "code": 1}}, {ECHO_REPLY, ECHO}),
        ({"protocol": 1, "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 8}}, set()),
    ],
)
def test_icmp_type_and_code_are_constraints(lab: Lab, rule: dict[str, object], passed: set[tuple[int, int]]) -> None:
    judge = lab(onto("a", allow(**rule)))
    assert {
        header for header in (ECHO_REPLY, ECHO, UNREACHABLE) if judge.allows("x/b", "x/a", 1, icmp=header)
    } == passed


def test_icmp_flow_that_names_no_type_is_an_echo_request(lab: Lab) -> None:
    four = lab(onto("a", allow(protocol="ICMP", icmp={"type": 8, "code": 0})))
    assert four.allows("x/b", "x/a", "ICMP")
    six = lab(onto("a", allow(protocol="ICMPv6", icmp={"type": 128})))
    assert six.allows("x/b", "x/a", "ICMPv6", family=6)


@pytest.mark.parametrize(
    ("rule", "protocol", "allowed"),
    [
        ({"protocol": "ICMP"}, 1, {4}),
        ({"protocol": 1}, 1, {4, 6}),
        ({"protocol": "ICMPv6"}, 58, {6}),
        ({"protocol": 58}, 58, {4, 6}),
        ({"notProtocol": "ICMP"}, "TCP", {4, 6}),
        ({"notProtocol": "ICMP"}, 1, set()),
        ({"notProtocol": "TCP"}, "TCP", set()),
        ({"ipVersion": 6}, "TCP", {6}),
        ({"ipVersion": 4, "protocol": 1}, 1, {4}),
        ({"protocol": 253}, 253, {4, 6}),
        ({"protocol": 253}, 254, set()),
    ],
)
def test_protocol_names_imply_a_family_and_numbers_do_not(
    lab: Lab, rule: dict[str, object], protocol: str | int, allowed: set[int]
) -> None:
    judge = lab(onto("a", allow(**rule)))
    assert {family for family in (4, 6) if judge.allows("x/b", "x/a", protocol, family=family)} == allowed


def test_not_protocol_beside_protocol_must_hold_too(lab: Lab) -> None:
    judge = lab(onto("a", allow(protocol="TCP", notProtocol="TCP")))
    assert not judge.allows("x/b", "x/a")


def test_log_goes_on_to_the_next_rule_and_to_the_end_of_the_tier(lab: Lab) -> None:
    assert lab(onto("a", {"action": "Log"}, allow())).rule("x/b", "x/a") == ("default", "p", 1)
    assert lab(onto("a", {"action": "Log"})).default("x/b", "x/a") == ("ingress", "tier-end-deny", "default")


def test_http_match_is_as_if_not_there(lab: Lab) -> None:
    judge = lab(onto("a", allow(protocol="TCP", http={"methods": ["GET"], "paths": [{"exact": "/"}]})))
    assert judge.allows("x/b", "x/a")
    assert not judge.allows("x/b", "x/a", "UDP", 53)


def test_user_label_under_reserved_prefix_is_stripped(lab: Lab) -> None:
    forged = {"x/b": {"node": "node-1", "labels": {"pcns.ns": "y", "pcsa.role": "admin", "pod": "b"}}}
    judge = lab(onto("d", allow(source={"selector": "pcns.ns == 'y' || pcsa.role == 'admin'"})), workloads=forged)
    assert judge.senders("y/d") == {"y/c"}


def test_number_beside_a_name_counts_at_an_address_whose_set_passes_and_whose_pod_does_not(lab: Lab) -> None:
    """The set is whom the selector finds; the name belongs to the pod, which it does not find, the number to nobody."""
    covering = calico("GlobalNetworkSet", "s", {"nets": ["198.18.1.1/32"]}, labels={"list": "1"})
    side = {"selector": "list == '1'", "ports": ["http", 53]}
    spec = {"selector": "pod == 'c'", "types": ["Egress"], "egress": [allow(protocol="TCP", destination=side)]}
    assert not lab(gnp(spec), covering).allows("y/c", "x/a", "TCP", 80)
    assert lab(gnp(spec), covering).allows("y/c", "x/a", "TCP", 53)
    both = {**spec, "egress": [allow(protocol="TCP", destination={**side, "ports": ["http", 80]})]}
    assert lab(gnp(both), covering).allows("y/c", "x/a", "TCP", 80)
