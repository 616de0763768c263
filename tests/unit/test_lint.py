# SPDX-License-Identifier: Apache-2.0
"""``lint``: each finding where it is due, and silence where all is well."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.lint.finding import CATALOGUE, Finding
from lab.lint.linter import lint
from lab.policy.load import load_resources
from lab.schemas import load_schema
from lab.topology import Topology
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_topology

TOPOLOGY = """
nodes: {n1: {labels: {zone: a}}, n2: {labels: {zone: b}}}
namespaces:
  x: {labels: {ns: x}, serviceAccounts: {web: {labels: {role: web}}}}
  y: {labels: {ns: y}}
  z:
workloads:
  x/a:
    node: n1
    labels: {app: web}
    serviceAccount: web
    ports: [{name: http, protocol: TCP, port: 80}]
    addresses: [198.18.0.10, "fd00:18::a"]
  x/b: {node: n2, labels: {app: db}, ports: [{name: sql, protocol: TCP, port: 5432}]}
  y/a: {node: n1, labels: {app: web}, ports: [{name: dns, protocol: UDP, port: 53}]}
externals: {client: {addresses: [203.0.113.9], ports: [{name: callback, protocol: TCP, port: 8080}]}}
"""


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    (tmp_path / "lab.yaml").write_text(TOPOLOGY)
    return load_topology(tmp_path / "lab.yaml")


def found(topology: Topology, tmp_path: Path, *documents: object) -> list[Finding]:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return list(lint(topology, load_resources([file], topology)).findings)


def policy(name: str = "p", kind: str = "GlobalNetworkPolicy", namespace: str | None = None, **spec: object) -> object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def resource(kind: str, name: str, labels: object = None, namespace: str | None = None, **spec: object) -> object:
    metadata = {"name": name} | ({"labels": labels} if labels else {}) | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def knp(name: str = "k", namespace: str = "x", **spec: object) -> object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def anp(*rules: object) -> object:
    spec = {"priority": 1, "subject": {"namespaces": {}}, "ingress": list(rules)}
    api = "policy.networking.k8s.io/v1alpha1"
    return {"apiVersion": api, "kind": "AdminNetworkPolicy", "metadata": {"name": "a"}, "spec": spec}


def allow(**rule: object) -> dict[str, object]:
    return {"action": "Allow", **rule}


def deny(**rule: object) -> dict[str, object]:
    return {"action": "Deny", **rule}


def ingress(*rules: object, selector: str = "app == 'web'", **more: object) -> object:
    return policy(selector=selector, ingress=list(rules), types=["Ingress"], **more)


HOST = resource("HostEndpoint", "n1-eth0", {"role": "node"}, node="n1", interfaceName="eth0")
TIER = resource("Tier", "early", order=10)
UNTRACKED = {"selector": "role == 'node'", "doNotTrack": True, "applyOnForward": True}
STAGED = policy("s", "StagedGlobalNetworkPolicy", selector="app == 'db'", ingress=[deny()])
WRITTEN_WEB = allow(source={"selector": "app == 'web'"})

# Every kind of finding: the resources that earn it, and a word of its message.
EARNED: list[tuple[str, str, list[object]]] = [
    (
        "rule-never-matches",
        "notNets cover",
        [ingress(deny(source={"nets": ["10.0.0.0/8"], "notNets": ["10.0.0.0/9", "10.128.0.0/9"]}))],
    ),
    (
        "rule-never-matches",
        "notPorts cover",
        [ingress(allow(protocol="TCP", destination={"ports": ["80:90"], "notPorts": ["80:85", "86:99"]}))],
    ),
    ("rule-never-matches", "both TCP", [ingress(allow(protocol="TCP", notProtocol="TCP"))]),
    (
        "rule-never-matches",
        "notICMP",
        [ingress(allow(protocol="ICMP", icmp={"type": 8, "code": 0}, notICMP={"type": 8}))],
    ),
    (
        "rule-never-matches",
        "protocol ICMPv6 is IPv6, source.nets is IPv4",
        [ingress(allow(protocol="ICMPv6", source={"nets": ["10.0.0.0/8"]}))],
    ),
    ("rule-never-matches", "contradicts itself", [ingress(allow(source={"selector": "app == 'web' && app == 'db'"}))]),
    (
        "rule-never-matches",
        "are the same",
        [ingress(allow(source={"selector": "app == 'web'", "notSelector": "app=='web'"}))],
    ),
    (
        "rule-never-matches",
        "ipBlock",
        [
            knp(
                podSelector={},
                ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9", "10.128.0.0/9"]}}]}],
            )
        ],
    ),
    ("rule-matches-nobody", "'app' is 'cache'", [ingress(allow(source={"selector": "app == 'cache'"}))]),
    (
        "rule-matches-nobody",
        "outside its nets",
        [ingress(allow(source={"selector": "app == 'db'", "nets": ["10.0.0.0/8"]}))],
    ),
    (
        "rule-matches-nobody",
        "within its notNets",
        [ingress(allow(source={"selector": "app == 'db'", "notNets": ["198.18.0.0/16"]}))],
    ),
    (
        "rule-matches-nobody",
        "none of those whom the policy selects",
        [ingress(allow(destination={"selector": "app == 'db'"}))],
    ),
    (
        "rule-matches-nobody",
        "peer 1",
        [
            knp(
                podSelector={},
                ingress=[{"from": [{"podSelector": {}}, {"podSelector": {"matchLabels": {"app": "wbe"}}}]}],
            )
        ],
    ),
    ("rule-unreachable", "rule 0", [ingress(deny(), allow(protocol="TCP"))]),
    (
        "rule-shadowed",
        "GlobalNetworkPolicy p rule 0",
        [
            ingress(
                allow(protocol="TCP", destination={"ports": ["1:100"]}),
                deny(protocol="TCP", destination={"ports": [80]}),
            )
        ],
    ),
    (
        "rule-shadowed",
        "the end of the tier default",
        [
            ingress(allow(protocol="TCP")),
            resource("Tier", "late", order=20_000_000),
            policy("late.q", tier="late", selector="app == 'web'", types=["Ingress"], ingress=[deny(protocol="UDP")]),
        ],
    ),
    ("policy-selects-nobody", "did you mean 'web'", [ingress(deny(), selector="app == 'wbe'")]),
    ("policy-selects-nobody", "in the namespace z", [policy(kind="NetworkPolicy", namespace="z", ingress=[deny()])]),
    ("policy-selects-nobody", "host endpoints", [policy(**{**UNTRACKED, "selector": "all()"}, ingress=[deny()])]),
    (
        "deny-passed-over",
        "matches 4 flows",
        [
            TIER,
            policy(
                "early.p",
                tier="early",
                selector="app == 'web'",
                types=["Ingress"],
                ingress=[{"action": "Pass", "source": {"selector": "app == 'db'"}}, deny()],
            ),
        ],
    ),
    ("port-nobody-declares", "did you mean 'http'", [ingress(allow(protocol="TCP", destination={"ports": ["htpp"]}))]),
    ("port-nobody-declares", "declared for TCP", [ingress(allow(protocol="UDP", destination={"ports": ["http"]}))]),
    (
        "port-nobody-declares",
        "outside the cluster",
        [policy(egress=[allow(protocol="TCP", destination={"ports": ["callback"]})])],
    ),
    (
        "port-nobody-declares",
        "excludes nothing",
        [ingress(allow(protocol="TCP", destination={"notPorts": ["metrics"]}))],
    ),
    ("label-nobody-has", "did you mean 'app'", [ingress(allow(source={"selector": "ap == 'web'"}))]),
    ("label-nobody-has", "holds for everybody", [ingress(allow(source={"selector": "!has(quarantine)"}))]),
    (
        "service-account-nobody-uses",
        "did you mean 'web'",
        [ingress(allow(source={"serviceAccounts": {"names": ["wep"]}, "namespaceSelector": "all()"}))],
    ),
    (
        "service-without-endpoints",
        "x/web",
        [policy(egress=[allow(destination={"services": {"name": "web", "namespace": "x"}})])],
    ),
    (
        "tier-missing",
        "did you mean 'early'",
        [TIER, policy("earli.p", tier="earli", ingress=[deny()]), policy("early.p", tier="early", ingress=[deny()])],
    ),
    ("tier-unused", "no policy", [TIER]),
    (
        "network-set-unused",
        "no rule's selector",
        [resource("GlobalNetworkSet", "s", {"list": "bad"}, nets=["10.0.0.0/8"])],
    ),
    ("profile-unused", "does nothing", [resource("Profile", "idle", ingress=[allow()])]),
    ("profile-missing", "'gone'", [resource("HostEndpoint", "h", node="n1", interfaceName="eth0", profiles=["gone"])]),
    ("staged-changes-verdicts", "would deny 5 of", [STAGED]),
    (
        "staged-deletes-nothing",
        "GlobalNetworkPolicy s",
        [policy("s", "StagedGlobalNetworkPolicy", stagedAction="Delete")],
    ),
    (
        "direction-not-in-types",
        "types does not hold Ingress",
        [policy(types=["Egress"], ingress=[deny()], egress=[allow()])],
    ),
    (
        "untracked-one-way",
        "from port 8000",
        [HOST, policy(**UNTRACKED, ingress=[allow(protocol="TCP", destination={"ports": [8000]})])],
    ),
    ("rule-fails-closed", "from holds a kind", [anp({"action": "Deny", "from": [{"galaxies": {}}]})]),
    (
        "rule-fails-closed",
        "ports holds a kind",
        [anp({"action": "Pass", "from": [{"namespaces": {}}], "ports": [{"carrierPigeon": {}}]})],
    ),
    ("http-without-sidecar", "no sidecar at x/a, y/a", [ingress(allow(http={"methods": ["GET"]}))]),
]


@pytest.mark.parametrize(
    ("name", "told", "documents"), EARNED, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(EARNED)]
)
def test_what_is_odd_is_told(name: str, told: str, documents: list[object], topology: Topology, tmp_path: Path) -> None:
    messages = [each.message for each in found(topology, tmp_path, *documents) if each.id == f"lint.{name}"]
    assert any(told in message for message in messages), messages


def test_every_kind_of_finding_is_tested_and_in_the_schema() -> None:
    assert {f"lint.{name}" for name, *_ in EARNED} == CATALOGUE.keys()
    schema = load_schema("findings")["$defs"]["finding"]["properties"]["id"]["enum"]
    assert schema == sorted(CATALOGUE)


# Near what is odd, and well.
WELL: list[list[object]] = [
    [],
    [ingress(allow(protocol="TCP", destination={"ports": [80]}), deny(protocol="TCP"))],
    [
        ingress(
            allow(protocol="TCP", destination={"ports": [80, 81]}),
            deny(protocol="TCP", destination={"ports": ["1:65535"]}),
        )
    ],
    [ingress(allow(source={"nets": ["10.0.0.0/9"]}), deny(source={"nets": ["10.0.0.0/8"]}))],
    [ingress(deny(source={"nets": ["10.0.0.0/8"], "notNets": ["10.0.0.0/9"]}))],
    [ingress(allow(protocol="TCP", destination={"ports": ["http"]}))],
    [ingress(allow(source={"notSelector": "all()"}))],
    [ingress({"action": "Log"}, deny(source={"selector": "app != 'web'"}))],
    [
        resource("GlobalNetworkSet", "s", {"list": "bad"}, nets=["10.0.0.0/8"]),
        ingress(deny(source={"selector": "list == 'bad'"})),
    ],
    [knp(podSelector={}, ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9"]}}]}])],
    [anp({"action": "Pass", "from": [{"namespaces": {}}]})],
    [resource("HostEndpoint", "h", node="n1", interfaceName="eth0", profiles=["projectcalico-default-allow"])],
    [knp("default-deny", podSelector={}, policyTypes=["Ingress", "Egress"])],
    [TIER, policy("early.p", tier="early", types=["Ingress"], ingress=[deny(protocol="SCTP"), {"action": "Pass"}])],
    [
        HOST,
        policy(
            **UNTRACKED,
            ingress=[allow(protocol="TCP", destination={"ports": [8000]})],
            egress=[allow(protocol="TCP", source={"ports": [8000]})],
        ),
    ],
]


@pytest.mark.parametrize("documents", WELL)
def test_what_is_well_is_not_told(documents: list[object], topology: Topology, tmp_path: Path) -> None:
    assert [str(each) for each in found(topology, tmp_path, *documents)] == []


SHIPPED = {
    # It would close everything for UDP and SCTP, as its comment says.
    "calico-staged": [("lint.staged-changes-verdicts", "info", 576)],
    # Admin lets 80/TCP go to z: the baseline's Deny is not for that, as its comment says.
    "kubernetes-cluster-policy": [("lint.deny-passed-over", "info", 1)],
}


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in (Path(__file__).parents[2] / "topologies/policies").iterdir())
)
def test_shipped_examples_earn_only_what_is_true_of_them(name: str) -> None:
    # Some are for a topology of their own, with the same name.
    file = shipped_topology(name) or shipped_topology("three-by-three")
    assert file is not None
    topology = load_topology(file)
    findings = lint(topology, load_resources([file.parent / "policies" / f"{name}.yaml"], topology)).findings
    assert [(each.id, each.severity, len(each.flows)) for each in findings] == SHIPPED.get(name, [])


def test_staged_policy_is_told_with_all_its_flows(topology: Topology, tmp_path: Path) -> None:
    (finding,) = found(topology, tmp_path, STAGED)
    assert {shown.flow.destination for shown in finding.flows} == {"x/b"}
    assert {(shown.allowed, shown.staged) for shown in finding.flows} == {(True, False)}


def test_two_staged_policies_are_taken_one_by_one(topology: Topology, tmp_path: Path) -> None:
    other = policy("t", "StagedGlobalNetworkPolicy", selector="app == 'web'", ingress=[deny()])
    told = {
        each.about.name: {shown.flow.destination for shown in each.flows}
        for each in found(topology, tmp_path, STAGED, other)
    }
    assert told == {"s": {"x/b"}, "t": {"x/a", "y/a"}}


def test_what_only_allows_again_is_no_warning(topology: Topology, tmp_path: Path) -> None:
    told = found(
        topology,
        tmp_path,
        knp("a", podSelector={}, ingress=[{}]),
        knp("b", podSelector={}, ingress=[{"ports": [{"port": 80}]}]),
    )
    assert [(each.id, each.severity) for each in told] == [("lint.rule-shadowed", "info")]


def test_several_rules_together_cast_a_shadow(topology: Topology, tmp_path: Path) -> None:
    told = found(
        topology,
        tmp_path,
        ingress(
            allow(protocol="TCP", destination={"ports": ["1:80"]}),
            allow(protocol="TCP", destination={"ports": ["81:65535"]}),
            deny(protocol="TCP"),
        ),
    )
    assert [(each.id, each.about.rule, each.severity) for each in told] == [("lint.rule-shadowed", 2, "warning")]


def test_finding_has_the_place_of_its_rule(topology: Topology, tmp_path: Path) -> None:
    (told,) = found(topology, tmp_path, ingress(deny(), allow(protocol="TCP")))
    assert told.place is not None
    line = (tmp_path / "policy.yaml").read_text().splitlines()[(told.place.line or 0) - 1]
    assert "Allow" in line
    assert str(told.about) == "GlobalNetworkPolicy p ingress rule 1"
