# SPDX-License-Identifier: Apache-2.0
"""Calico's resources: what they are read as, and each thing that the API would refuse, at its line and column."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from lab.errors import PolicyError
from lab.policy.resources import (
    Action,
    CalicoPolicy,
    Direction,
    EntityRule,
    HttpMatch,
    HttpPath,
    IcmpMatch,
    PortRange,
    ProtocolMatch,
    Resources,
    Rule,
    ServiceAccountMatch,
    Tier,
)
from lab.policy.selector import parse_selector

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]

HEADER = """\
apiVersion: projectcalico.org/v3
kind: {kind}
metadata: {{name: n{namespace}}}
spec:
"""


def resource(kind: str, spec: str, *, namespace: str | None = None) -> str:
    """A resource whose spec begins on line 5; it is indented by two columns."""
    header = HEADER.format(kind=kind, namespace=f", namespace: {namespace}" if namespace else "")
    return header + "".join(f"  {line}\n" for line in spec.splitlines())


def rule_of(load: Load, text: str, *, direction: str = "ingress") -> Rule:
    (policy,) = load(resource("GlobalNetworkPolicy", f"{direction}:\n- {text}")).policies
    assert isinstance(policy, CalicoPolicy)
    (rule,) = policy.ingress or policy.egress
    return rule


def test_rule_with_every_field_is_read_as_written(load: Load) -> None:
    text = """{action: Allow, ipVersion: 4, protocol: tcp, notProtocol: 17, notICMP: {type: 8, code: 0},
      source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16], selector: a == "b", notSelector: has(c),
               namespaceSelector: global(), serviceAccounts: {names: [s], selector: has(d)},
               ports: [80, "443", "1:9", "http", 80-90], notPorts: [7]},
      destination: {selector: "", notSelector: "", namespaceSelector: "", serviceAccounts: {}, ports: []},
      http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}, metadata: {annotations: {why: so}}}"""
    rule = rule_of(load, text)
    assert rule.source == EntityRule(
        nets=(ip_network("10.0.0.0/8"),),
        not_nets=(ip_network("10.1.0.0/16"),),
        selector=parse_selector('a == "b"'),
        not_selector=parse_selector("has(c)"),
        namespace_selector=parse_selector("global()"),
        service_accounts=ServiceAccountMatch(("s",), parse_selector("has(d)")),
        ports=(PortRange(80, 80), PortRange(443, 443), PortRange(1, 9), "http", "80-90"),
        not_ports=(PortRange(7, 7),),
    )
    assert rule.destination == EntityRule()
    assert (rule.action, rule.ip_version, rule.icmp) == (Action.ALLOW, 4, None)
    assert (rule.protocol, rule.not_protocol) == (ProtocolMatch(6, by_name=True), ProtocolMatch(17, by_name=False))
    assert rule.not_icmp == IcmpMatch(8, 0)
    assert rule.http == HttpMatch(("GET",), (HttpPath("exact", "/a"), HttpPath("prefix", "/b")))
    assert rule.annotations == {"why": "so"}
    assert (rule.place.line, rule.place.column) == (6, 5)


@pytest.mark.parametrize(
    ("name", "number"), [("TCP", 6), ("Udp", 17), ("icmp", 1), ("icmpV6", 58), ("SCTP", 132), ("udplite", 136)]
)
def test_protocol_name_in_any_case_is_read(load: Load, name: str, number: int) -> None:
    assert rule_of(load, f"{{action: Allow, protocol: {name}}}").protocol == ProtocolMatch(number, by_name=True)


@pytest.mark.parametrize("number", [1, 6, 255])
@pytest.mark.parametrize("written", ["{}", '"{}"'])
def test_protocol_of_digits_is_a_number(load: Load, number: int, written: str) -> None:
    rule = rule_of(load, f"{{action: Allow, protocol: {written.format(number)}}}")
    assert rule.protocol == ProtocolMatch(number, by_name=False)


def test_policy_with_every_field_is_read_as_written(load: Load) -> None:
    spec = """tier: ops
order: 12.5
selector: app == "web"
namespaceSelector: has(n)
serviceAccountSelector: has(s)
types: [Egress]
egress: [{action: Pass}]
ingress: [{action: Deny}]
doNotTrack: false
preDNAT: false
applyOnForward: false
performanceHints: [AssumeNeededOnEveryNode]"""
    (policy,) = load(resource("GlobalNetworkPolicy", spec)).policies
    assert isinstance(policy, CalicoPolicy)
    assert (policy.kind, policy.name, policy.namespace) == ("GlobalNetworkPolicy", "n", None)
    assert (policy.tier, policy.order, policy.types) == ("ops", 12.5, {Direction.EGRESS})
    assert policy.selector == parse_selector('app == "web"')
    assert policy.namespace_selector == parse_selector("has(n)")
    assert policy.service_account_selector == parse_selector("has(s)")
    assert [rule.action for rule in (*policy.ingress, *policy.egress)] == [Action.DENY, Action.PASS]
    assert (policy.place.line, policy.place.column) == (1, 1)


def test_policy_that_says_nothing_gets_the_defaults_of_the_api(load: Load) -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: tier.n}\n"
    (policy,) = load(text).policies
    assert isinstance(policy, CalicoPolicy)
    assert (policy.name, policy.namespace, policy.tier, policy.order) == ("tier.n", "default", "default", None)
    assert policy.selector == parse_selector("")
    assert (policy.namespace_selector, policy.service_account_selector) == (None, None)
    assert (policy.types, policy.ingress, policy.egress) == ({Direction.INGRESS}, (), ())


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ("ingress: [{action: Allow}]", {Direction.INGRESS}),
        ("egress: [{action: Allow}]", {Direction.EGRESS}),
        ("ingress: [{action: Allow}]\negress: [{action: Allow}]", {Direction.INGRESS, Direction.EGRESS}),
        ("types: []\negress: [{action: Allow}]", {Direction.EGRESS}),
        ("types:\ningress:\negress:", {Direction.INGRESS}),
        ("types: [Ingress]\negress: [{action: Allow}]", {Direction.INGRESS}),
        ("types: [Egress, Ingress]", {Direction.INGRESS, Direction.EGRESS}),
    ],
)
def test_absent_types_follow_from_the_rules(load: Load, spec: str, types: set[Direction]) -> None:
    (policy,) = load(resource("NetworkPolicy", spec, namespace="x")).policies
    assert policy.types == types


WRONG_RULES = [
    ("{action: §allow}", "spec.ingress[0].action is not allowed | Allow, Deny, Pass, Log | did you mean 'Allow'?"),
    ("§{protocol: TCP}", "spec.ingress[0] has no 'action', which it needs"),
    ("{action: Allow, §sorce: {}}", "unknown key 'sorce' in spec.ingress[0] | "),
    ("{action: Allow, source: {§net: []}}", "unknown key 'net' in spec.ingress[0].source | "),
    ("{action: Allow, ipVersion: §5}", "spec.ingress[0].ipVersion is not allowed | 4, 6"),
    ("{action: Allow, protocol: §TPC}", "spec.ingress[0].protocol is not a protocol | TCP, UDP, ICMP, ICMPv6, "),
    ("{action: Allow, protocol: §0}", "spec.ingress[0].protocol is not a protocol"),
    ("{action: Allow, protocol: §256}", "spec.ingress[0].protocol is not a protocol"),
    ('{action: Allow, protocol: §"0"}', "spec.ingress[0].protocol is not a protocol"),
    ('{action: Allow, protocol: §"256"}', "spec.ingress[0].protocol is not a protocol"),
    ("{action: Allow, notProtocol: §true}", "spec.ingress[0].notProtocol is not a protocol"),
    ("{action: Allow, protocol: §ICMP, ipVersion: 6}", "spec.ingress[0].protocol is of IPv4 and contradicts"),
    ("{action: Allow, protocol: §icmpv6, ipVersion: 4}", "spec.ingress[0].protocol is of IPv6 and contradicts"),
    ("{action: Allow, §icmp: {type: 8}}", "spec.ingress[0].icmp needs the protocol ICMP or ICMPv6"),
    ("{action: Allow, §icmp: {}, protocol: TCP}", "spec.ingress[0].icmp needs the protocol ICMP or ICMPv6"),
    ("{action: Allow, protocol: 1, ipVersion: 6, §icmp: {type: 8}}", "spec.ingress[0].icmp is of IPv4 and contradicts"),
    ("{action: Allow, protocol: ICMP, icmp: {§code: 1}}", "spec.ingress[0].icmp.code needs a type beside it"),
    ("{action: Allow, notICMP: {§code: 1}}", "spec.ingress[0].notICMP.code needs a type beside it"),
    ("{action: Allow, protocol: 1, icmp: {type: §255}}", "spec.ingress[0].icmp.type is out of range | 0 to 254"),
    ("{action: Allow, notICMP: {type: §-1}}", "spec.ingress[0].notICMP.type is out of range | 0 to 254"),
    ("{action: Allow, notICMP: {type: 1, code: §256}}", "spec.ingress[0].notICMP.code is out of range | 0 to 255"),
    ("{action: Deny, §http: {methods: [GET]}}", "spec.ingress[0].http cannot stand in a rule with action Deny"),
    ("{action: Allow, protocol: UDP, §http: {}}", "spec.ingress[0].http needs the protocol TCP or none"),
    ("{action: Allow, http: {paths: [{exact: §a}]}}", "spec.ingress[0].http.paths[0].exact is not a path"),
    ('{action: Allow, http: {paths: [{prefix: §"/a?"}]}}', "spec.ingress[0].http.paths[0].prefix is not a path"),
    ("{action: Allow, http: {paths: [§{}]}}", "spec.ingress[0].http.paths[0] must hold one of the two"),
    (
        "{action: Allow, http: {paths: [§{exact: /a, prefix: /a}]}}",
        "spec.ingress[0].http.paths[0] must hold one of the two",
    ),
]


@pytest.mark.parametrize(("rule", "fault"), WRONG_RULES)
def test_wrong_rule_is_refused_at_its_place(faults: Faults, rule: str, fault: str) -> None:
    (told,) = faults(resource("GlobalNetworkPolicy", f"ingress:\n- {rule}"))
    assert told.startswith(fault)


WRONG_SIDES = [
    ("{§ports: [80]}", "spec.ingress[0].source.ports needs a protocol that has ports"),
    ("{§ports: [http, 80]}, protocol: 1", "spec.ingress[0].source.ports needs a protocol that has ports"),
    ("{§notPorts: [80]}, protocol: udplite", "spec.ingress[0].source.notPorts needs a protocol that has ports"),
    ("{ports: [§90:80]}, protocol: TCP", "spec.ingress[0].source.ports[0] is a range that ends before it"),
    ('{ports: [§"90:80"]}, protocol: TCP', "spec.ingress[0].source.ports[0] is a range that ends before it"),
    ("{ports: [§0]}, protocol: TCP", "spec.ingress[0].source.ports[0] is not a port"),
    ("{ports: [http, §65536]}, protocol: TCP", "spec.ingress[0].source.ports[1] is not a port"),
    ('{ports: [§"0"]}, protocol: TCP', "spec.ingress[0].source.ports[0] is not a port"),
    ('{ports: [§"0:9"]}, protocol: TCP', "spec.ingress[0].source.ports[0] is not a port"),
    ('{ports: [§"1:65536"]}, protocol: TCP', "spec.ingress[0].source.ports[0] is not a port"),
    (f'{{ports: [§"{"9" * 5000}"]}}, protocol: TCP', "spec.ingress[0].source.ports[0] is not a port"),
    ('{ports: [§"a b"]}, protocol: TCP', "spec.ingress[0].source.ports[0] is not a port"),
    ("{ports: [§true]}, protocol: TCP", "spec.ingress[0].source.ports[0] is not a port"),
    ("{ports: [§80.5]}, protocol: TCP", "spec.ingress[0].source.ports[0] is not a port"),
    (f"{{§ports: [{', '.join(['a'] * 51)}]}}", "spec.ingress[0].source.ports has 51 entries | at most 50"),
    ("{nets: [§10.0.0.0/33]}", "spec.ingress[0].source.nets[0] is not a network"),
    ("{nets: [§fd00::/129]}", "spec.ingress[0].source.nets[0] is not a network"),
    ("{nets: [§10.0.0.0/255.0.0.0]}", "spec.ingress[0].source.nets[0] is not a network"),
    ("{nets: [§10.0.0.1]}", "spec.ingress[0].source.nets[0] is not a network"),
    ("{nets: [§10.0.0.1/8]}", "spec.ingress[0].source.nets[0] has bits set behind its prefix"),
    ("{nets: [§10]}", "spec.ingress[0].source.nets[0] must be text, not the number 10"),
    ('{notNets: [§"::/0"]}', "spec.ingress[0].source.notNets[0] leaves nothing"),
    ("{notNets: [§0.0.0.0/0]}", "spec.ingress[0].source.notNets[0] leaves nothing"),
    ('{nets: ["fd00::/8", §10.0.0.0/8]}', "spec.ingress[0].source.nets[1] is not IPv6 like the networks"),
    ("{nets: [§10.0.0.0/8]}, ipVersion: 6", "spec.ingress[0].source.nets[0] contradicts ipVersion 6"),
    ('{notNets: [§"fd00::/8"]}, ipVersion: 4', "spec.ingress[0].source.notNets[0] contradicts ipVersion 4"),
    (
        '{nets: [10.0.0.0/8]}, destination: {notNets: [§"fd00::/8"]}',
        "spec.ingress[0].destination.notNets[0] is not IPv4 like the networks",
    ),
    (f"{{§nets: [{', '.join(['10.0.0.0/8'] * 257)}]}}", "spec.ingress[0].source.nets has 257 entries"),
    ("{selector: a §= 'b'}", "spec.ingress[0].source.selector is not a selector: unexpected '='"),
    ("{selector: §global()}", "spec.ingress[0].source.selector cannot hold global() here"),
    ("{notSelector: §global()}", "spec.ingress[0].source.notSelector cannot hold global() here"),
    ('{namespaceSelector: §"!global()"}', "spec.ingress[0].source.namespaceSelector cannot hold global()"),
    ("{serviceAccounts: {selector: has(§}}", "spec.ingress[0].source.serviceAccounts.selector is not a sel"),
    ("{serviceAccounts: {names: [§A]}}", "spec.ingress[0].source.serviceAccounts.names[0] is not a name"),
]


@pytest.mark.parametrize(("side", "fault"), WRONG_SIDES)
def test_wrong_side_of_a_rule_is_refused_at_its_place(faults: Faults, side: str, fault: str) -> None:
    (told,) = faults(resource("GlobalNetworkPolicy", f"ingress:\n- {{action: Allow, source: {side}}}"))
    assert told.startswith(fault)


def test_network_of_the_other_family_is_told_behind_what_is_none(faults: Faults) -> None:
    nets = '[§ten, 10.0.0.0/8, §"fd00::/8"]'
    told = faults(resource("GlobalNetworkPolicy", f"ingress:\n- {{action: Allow, source: {{nets: {nets}}}}}"))
    assert [each.split(" | ")[0] for each in told] == [
        "spec.ingress[0].source.nets[0] is not a network",
        "spec.ingress[0].source.nets[2] is not IPv4 like the networks before it in this rule",
    ]


@pytest.mark.parametrize("order", [".inf", "-.inf", ".nan", "1e999", f"1{'0' * 400}"])
@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "Tier"])
def test_order_without_end_is_no_number(faults: Faults, kind: str, order: str) -> None:
    (told,) = faults(resource(kind, f"order: §{order}"))
    assert told.startswith("spec.order must be a number, not the text")


@pytest.mark.parametrize(("before", "after"), [(1, 90), (39, 90), (41, 90), (90, 0)])
def test_long_selector_is_shown_around_its_error(load: Load, before: int, after: int) -> None:
    text = f"{'x' * before} = '{'y' * after}'"
    with pytest.raises(PolicyError) as caught:
        load(resource("GlobalNetworkPolicy", f'selector: "{text}"'))
    shown = str(caught.value.value)
    assert f"{'x' * min(before, 39)} =" in shown
    assert len(shown) <= len("...") + 80


@pytest.mark.parametrize(
    "rule",
    [
        "{action: Allow, source: {ports: [http], notPorts: [dns]}}",
        "{action: Allow, protocol: 1, ipVersion: 6}",
        "{action: Allow, protocol: 1, icmp: {type: 0, code: 0}}",
        "{action: Allow, protocol: ICMP, icmp: {}}",
        "{action: Allow, notICMP: {type: 254, code: 255}}",
        "{action: Allow, protocol: 132, destination: {ports: [65535, '1:1']}}",
        "{action: Allow, source: {nets: [0.0.0.0/0]}, destination: {notNets: [10.0.0.0/8]}}",
        "{action: Allow, http: {}}",
        "{action: Log, metadata: {}}",
    ],
)
def test_rule_at_the_border_of_the_legal_is_read(faults: Faults, rule: str) -> None:
    assert faults(resource("GlobalNetworkPolicy", f"ingress:\n- {rule}")) == []


def test_http_in_an_egress_rule_is_refused(faults: Faults) -> None:
    (told,) = faults(resource("GlobalNetworkPolicy", "egress:\n- {action: Allow, §http: {}}"))
    assert told.startswith("spec.egress[0].http cannot stand in an egress rule")


def test_more_rules_than_the_api_takes_are_refused(faults: Faults) -> None:
    rules = "§egress:\n" + "- {action: Allow}\n" * 1025
    (told,) = faults(resource("GlobalNetworkPolicy", rules))
    assert told == "spec.egress has 1025 entries | at most 1024"


WRONG_POLICIES = [
    ("selector: app == 'a' §& b", "spec.selector is not a selector: unexpected '&', at character 12"),
    ('selector: "app == §b"', "spec.selector is not a selector: unexpected 'b', at character 8"),
    ("selector: §|\n  has(a)", "spec.selector is not a selector: a line break cannot stand in a selector"),
    ("selector: a ==§", "spec.selector is not a selector: the selector ends too early"),
    ("selector: §global()", "spec.selector cannot hold global() here"),
    ("namespaceSelector: §global()", "spec.namespaceSelector cannot hold global() here"),
    ("serviceAccountSelector: '!§'", "spec.serviceAccountSelector is not a selector"),
    (f"selector: §has({'a' * 1020})", "spec.selector has 1025 characters | at most 1024"),
    ("types: [Ingress, Egress, §Ingress]", "spec.types[2] is given twice"),
    ("types: [§ingress]", "spec.types[0] is not allowed | Ingress, Egress | did you mean 'Ingress'?"),
    ("order: §.nan", "spec.order must be a number, not the text '.nan'"),
    ('order: §"5"', "spec.order must be a number, not the text '5'"),
    ("order: §true", "spec.order must be a number"),
    ("tier: §a.b", "spec.tier is not a name"),
    ("§stagedAction: Set", "unknown key 'stagedAction' in spec"),
    ("§ingres: []", "unknown key 'ingres' in spec | "),
    ("ingress: §{}", "spec.ingress must be a list, not a mapping"),
]


@pytest.mark.parametrize(("spec", "fault"), WRONG_POLICIES)
def test_wrong_policy_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    (told,) = faults(resource("GlobalNetworkPolicy", spec))
    assert told.startswith(fault)


@pytest.mark.parametrize("key", ["namespaceSelector: has(a)", "doNotTrack: false", "applyOnForward: false"])
def test_namespaced_policy_has_no_field_of_the_global_one(faults: Faults, key: str) -> None:
    (told,) = faults(resource("NetworkPolicy", f"§{key}", namespace="x"))
    assert told.startswith(f"unknown key '{key.partition(':')[0]}' in spec")


def test_network_sets_take_networks_with_host_bits_and_bare_addresses(load: Load) -> None:
    spec = 'nets: [10.0.0.1/8, 10.0.0.1, "fd00::1/64", "fd00::1", 0.0.0.0/0]'
    first, second = load(
        resource("NetworkSet", spec, namespace="x") + "---\n" + resource("GlobalNetworkSet", spec)
    ).network_sets
    expected = ["10.0.0.0/8", "10.0.0.1/32", "fd00::/64", "fd00::1/128", "0.0.0.0/0"]
    assert [str(net) for net in first.nets] == [str(net) for net in second.nets] == expected
    assert (first.namespace, second.namespace) == ("x", None)


@pytest.mark.parametrize(
    ("metadata", "spec", "fault"),
    [
        ("", "nets: [§10.0.0.0/33]", "spec.nets[0] is not a network"),
        ("", "nets: [§ten]", "spec.nets[0] is not a network"),
        (", labels: {§projectcalico.org/namespace: x}", "nets: []", "metadata.labels.projectcalico.org/namespace"),
        (", labels: {a: §-}", "nets: []", "metadata.labels.a is not the value of a label"),
        (", labels: {§-a: b}", "nets: []", "metadata.labels.-a is not the key of a label"),
        (", labels: {a: §1}", "nets: []", "metadata.labels.a must be text, not the number 1"),
    ],
)
def test_wrong_network_set_is_refused_at_its_place(faults: Faults, metadata: str, spec: str, fault: str) -> None:
    text = resource("GlobalNetworkSet", spec).replace("name: n", f"name: n{metadata}")
    (told,) = faults(text)
    assert told.startswith(fault)


def test_tier_is_read_and_a_built_in_one_may_repeat_itself(load: Load) -> None:
    texts = [
        resource("Tier", "order: 10\ndefaultAction: Pass"),
        resource("Tier", "order: 1e+06").replace("name: n", "name: default"),
        resource("Tier", "order: 1000\ndefaultAction: Pass").replace("name: n", "name: kube-admin"),
        resource("Tier", "{}").replace("name: n", "name: last"),
    ]
    tiers = load("---\n".join(texts)).tiers
    assert [(tier.name, tier.order, tier.pass_by_default) for tier in tiers] == [
        ("n", 10, True),
        ("default", 1_000_000, False),
        ("kube-admin", 1000, True),
        ("last", None, False),
    ]
    assert all(isinstance(tier, Tier) for tier in tiers)


@pytest.mark.parametrize(
    ("name", "spec", "fault"),
    [
        ("default", "order: §5", "spec.order of a built-in tier is fixed | 1000000"),
        (
            "default",
            "order: 1000000\ndefaultAction: §Pass",
            "spec.defaultAction of a built-in tier is fixed | Deny",
        ),
        ("kube-baseline", "§order: 10000000", "spec.defaultAction of a built-in tier is fixed | Pass"),
        ("§a.b", "order: 5", "metadata.name is not a name"),
        ("§" + "a" * 64, "order: 5", "metadata.name is not a name"),
        ("t", "order: §.nan", "spec.order "),
        ("t", "defaultAction: §deny", "spec.defaultAction is not allowed | Deny, Pass | did you mean 'Deny'?"),
    ],
)
def test_wrong_tier_is_refused_at_its_place(faults: Faults, name: str, spec: str, fault: str) -> None:
    (told,) = faults(resource("Tier", spec).replace("name: n", f"name: {name}"))
    assert told.startswith(fault)


def test_profile_is_read_with_its_labels_and_rules(load: Load) -> None:
    spec = "ingress: [{action: Allow}]\negress: [{action: Deny}, {action: Log}]\nlabelsToApply: {pcns.a/b: c, d: ''}"
    (profile,) = load(resource("Profile", spec)).profiles
    assert (profile.name, dict(profile.labels_to_apply)) == ("n", {"pcns.a/b": "c", "d": ""})
    assert [rule.action for rule in (*profile.ingress, *profile.egress)] == [Action.ALLOW, Action.DENY, Action.LOG]


def test_wrong_label_of_a_profile_is_refused(faults: Faults) -> None:
    (told,) = faults(resource("Profile", "labelsToApply: {a: §b c}"))
    assert told.startswith("spec.labelsToApply.a is not the value of a label")
