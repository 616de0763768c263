# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes NetworkPolicy: what it is read as, and what its API server would refuse, at its place (the §)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from lab.policy.resources import (
    Direction,
    IpBlock,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    LabelRequirement,
    LabelSelector,
    Resources,
)

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]


def policy(spec: str) -> str:
    return (
        f"{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: n, namespace: x}}, spec: {spec}}}"
    )


def read(load: Load, spec: str) -> KubernetesNetworkPolicy:
    (found,) = load(policy(spec)).policies
    assert isinstance(found, KubernetesNetworkPolicy)
    return found


def test_policy_with_every_field_is_read_as_written(load: Load) -> None:
    found = read(
        load,
        """{
  podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c/d, operator: NotIn, values: [e, ""]}]},
  policyTypes: [Egress, Ingress],
  ingress: [{from: [{podSelector: {}, namespaceSelector: {matchExpressions: [{key: f, operator: Exists}]}}],
             ports: [{port: 80}, {protocol: UDP, port: 90, endPort: 99}, {protocol: SCTP}, {port: serve-80-tcp}]}],
  egress: [{to: [{ipBlock: {cidr: 10.0.0.7/8, except: [10.1.0.0/16]}}]}]}""",
    )
    assert (found.name, found.namespace, found.kind) == ("n", "x", "KubernetesNetworkPolicy")
    assert found.pod_selector == LabelSelector({"a": "b"}, (LabelRequirement("c/d", "NotIn", ("e", "")),))
    assert found.types == {Direction.INGRESS, Direction.EGRESS}
    (ingress,), (egress,) = found.ingress, found.egress
    exists = LabelSelector({}, (LabelRequirement("f", "Exists", ()),))
    assert ingress.peers == (KubernetesPeer(LabelSelector({}, ()), exists, None),)
    assert ingress.ports == (
        KubernetesPort(6, 80, None),
        KubernetesPort(17, 90, 99),
        KubernetesPort(132, None, None),
        KubernetesPort(6, "serve-80-tcp", None),
    )
    assert egress.peers == (
        KubernetesPeer(None, None, IpBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))),
    )
    assert egress.ports == ()
    assert (ingress.place.line, ingress.place.column) == (4, 13)


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ("{}", {Direction.INGRESS}),
        ("{podSelector: {}}", {Direction.INGRESS}),
        ("{policyTypes: [], egress: []}", {Direction.INGRESS}),
        ("{egress: [{}]}", {Direction.INGRESS, Direction.EGRESS}),
        ("{ingress: [{}]}", {Direction.INGRESS}),
        ("{policyTypes: [Egress], ingress: [{}]}", {Direction.EGRESS}),
        ("{policyTypes: [Ingress, Ingress]}", {Direction.INGRESS}),
    ],
)
def test_absent_types_are_those_that_the_api_server_stores(load: Load, spec: str, types: set[Direction]) -> None:
    assert read(load, spec).types == types


@pytest.mark.parametrize("ingress", ["[{}]", "[{from: []}]", "[{from: , ports: }]", "[{from: [], ports: []}]"])
def test_rule_without_peers_and_ports_is_one_for_everyone(load: Load, ingress: str) -> None:
    (rule,) = read(load, f"{{ingress: {ingress}}}").ingress
    assert (rule.peers, rule.ports) == ((), ())


@pytest.mark.parametrize("spec", ["{ingress: []}", "{ingress: }", "{}"])
def test_absent_and_empty_rules_are_none(load: Load, spec: str) -> None:
    assert read(load, spec).ingress == ()


def test_absent_selector_of_a_peer_is_kept_apart_from_the_empty_one(load: Load) -> None:
    (rule,) = read(load, "{ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}, podSelector: }]}]}").ingress
    empty = LabelSelector({}, ())
    assert rule.peers == (KubernetesPeer(empty, None, None), KubernetesPeer(None, empty, None))


def test_policy_without_a_namespace_is_in_default(load: Load) -> None:
    (found,) = load("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}}").policies
    assert isinstance(found, KubernetesNetworkPolicy)
    assert (found.namespace, found.pod_selector) == ("default", LabelSelector({}, ()))


WRONG = [
    ("{§podSelectors: {}}", "unknown key 'podSelectors' in spec"),
    ("{podSelector: §[]}", "spec.podSelector must be a mapping, not a list"),
    ("{podSelector: {§app: web}}", "unknown key 'app' in spec.podSelector"),
    ("{podSelector: {matchLabels: {a: §1}}}", "spec.podSelector.matchLabels.a must be text, not the number 1"),
    ("{podSelector: {matchLabels: {a: §b c}}}", "spec.podSelector.matchLabels.a is not the value of a label"),
    ("{podSelector: {matchLabels: {§a/b/c: d}}}", "spec.podSelector.matchLabels.a/b/c is not the key of a label"),
    ("{podSelector: {matchLabels: {§/a: d}}}", "spec.podSelector.matchLabels./a is not the key of a label"),
    (f"{{podSelector: {{matchLabels: {{a: §{'v' * 64}}}}}}}", "spec.podSelector.matchLabels.a is not the value"),
    (
        "{podSelector: {matchExpressions: [§{key: a, operator: In}]}}",
        "spec.podSelector.matchExpressions[0] needs values",
    ),
    (
        "{podSelector: {matchExpressions: [{key: a, operator: Exists, §values: [b]}]}}",
        "spec.podSelector.matchExpressions[0].values cannot stand beside the operator Exists",
    ),
    (
        "{podSelector: {matchExpressions: [{key: a, operator: §in, values: [b]}]}}",
        "spec.podSelector.matchExpressions[0].operator is not allowed | In, NotIn, Exists, DoesNotExist",
    ),
    ("{podSelector: {matchExpressions: [{key: §-, operator: Exists}]}}", "spec.podSelector.matchExpressions[0].key is"),
    (
        "{podSelector: {matchExpressions: [{key: a, operator: In, values: [b, §-c]}]}}",
        "spec.podSelector.matchExpressions[0].values[1] is not the value of a label",
    ),
    ("{policyTypes: [§ingress]}", "spec.policyTypes[0] is not allowed | Ingress, Egress | did you mean 'Ingress'?"),
    ("{§policyTypes: [Ingress, Egress, Ingress]}", "spec.policyTypes has 3 entries | at most 2"),
    ("{ingress: [{§to: []}]}", "unknown key 'to' in spec.ingress[0] | from, ports"),
    ("{egress: [{§from: []}]}", "unknown key 'from' in spec.egress[0] | to, ports"),
    ("{ingress: [{from: [§{}]}]}", "spec.ingress[0].from[0] says nothing"),
    ("{ingress: [{from: [§{podSelector: }]}]}", "spec.ingress[0].from[0] says nothing"),
    (
        "{ingress: [{from: [{podSelector: {}, §ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        "spec.ingress[0].from[0].ipBlock cannot stand beside podSelector or namespaceSelector",
    ),
    ("{ingress: [{from: [{§ipBlock: {}}]}]}", "spec.ingress[0].from[0].ipBlock has no 'cidr', which it needs"),
    ("{egress: [{to: [{ipBlock: {cidr: §10.0.0.1}}]}]}", "spec.egress[0].to[0].ipBlock.cidr is not a network"),
    ("{egress: [{to: [{ipBlock: {cidr: §10.0.0.0/33}}]}]}", "spec.egress[0].to[0].ipBlock.cidr is not a network"),
    (
        "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [§11.0.0.0/16]}}]}]}",
        "spec.egress[0].to[0].ipBlock.except[0] is not a part of the cidr",
    ),
    (
        "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [§10.0.0.0/8]}}]}]}",
        "spec.egress[0].to[0].ipBlock.except[0] is not a part of the cidr",
    ),
    (
        '{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, §"fd00::/16"]}}]}]}',
        "spec.egress[0].to[0].ipBlock.except[1] is not a part of the cidr",
    ),
    ("{ingress: [{ports: [{port: §0}]}]}", "spec.ingress[0].ports[0].port is not a port number"),
    ("{ingress: [{ports: [{port: §65536}]}]}", "spec.ingress[0].ports[0].port is not a port number"),
    ('{ingress: [{ports: [{port: §"80"}]}]}', "spec.ingress[0].ports[0].port is not the name of a port"),
    ("{ingress: [{ports: [{port: §90:80}]}]}", "spec.ingress[0].ports[0].port is not the name of a port"),
    ("{ingress: [{ports: [{port: §a--b}]}]}", "spec.ingress[0].ports[0].port is not the name of a port"),
    ("{ingress: [{ports: [{port: §Http}]}]}", "spec.ingress[0].ports[0].port is not the name of a port"),
    ("{ingress: [{ports: [{port: §sixteen-letters-}]}]}", "spec.ingress[0].ports[0].port is not the name of a port"),
    ("{ingress: [{ports: [{port: §[80]}]}]}", "spec.ingress[0].ports[0].port must be a whole number or text"),
    ("{ingress: [{ports: [{§endPort: 80}]}]}", "spec.ingress[0].ports[0].endPort needs a port number beside it"),
    ("{ingress: [{ports: [{port: a, §endPort: 80}]}]}", "spec.ingress[0].ports[0].endPort needs a port number"),
    ("{ingress: [{ports: [{port: 80, endPort: §79}]}]}", "spec.ingress[0].ports[0].endPort is less than port | 80 or"),
    ("{ingress: [{ports: [{port: 80, endPort: §65536}]}]}", "spec.ingress[0].ports[0].endPort is not a port number"),
    ("{ingress: [{ports: [{protocol: §tcp}]}]}", "spec.ingress[0].ports[0].protocol is not allowed | TCP, UDP, SCTP"),
    ("{ingress: [{ports: [{protocol: §ICMP}]}]}", "spec.ingress[0].ports[0].protocol is not allowed | TCP, UDP, SCTP"),
    ("{ingress: §{}}", "spec.ingress must be a list, not a mapping"),
]


@pytest.mark.parametrize(("spec", "fault"), WRONG)
def test_wrong_policy_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    (told,) = faults(policy(spec))
    assert told.startswith(fault)


@pytest.mark.parametrize(("port", "advised"), [('"80"', True), ("80-", False)])
def test_number_in_quotes_is_told_apart_from_a_wrong_name(faults: Faults, port: str, advised: bool) -> None:
    (told,) = faults(policy(f"{{ingress: [{{ports: [{{port: §{port}}}]}}]}}"))
    assert told.endswith("write a number without quotes") is advised


@pytest.mark.parametrize("port", ["a", "a-b-1", "fifteen-letters", "1a", "80-http"])
def test_port_name_of_the_iana_form_is_read(load: Load, port: str) -> None:
    (rule,) = read(load, f"{{ingress: [{{ports: [{{port: {port}}}]}}]}}").ingress
    assert rule.ports == (KubernetesPort(6, port, None),)
