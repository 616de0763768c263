# SPDX-License-Identifier: Apache-2.0
"""Node ports and natOutgoing: which stages see which addresses, by hand, in both families."""

from __future__ import annotations

import pytest
from oracle_hosts import ADDRESS, ALLOW, DENY, NODES, felix, forward, hep, policy, pool, pre_dnat, service, slice_of
from oracle_hosts import untracked as raw
from oracle_lab import Document, Lab, gnp, lab

__all__ = ["lab"]

both = pytest.mark.parametrize("family", [4, 6])
# y/c runs on node-1, y/d on node-2.
ON_NODE_1 = {4: slice_of("198.18.2.3"), 6: slice_of("fd00:18:2::3")}
ON_NODE_2 = {4: slice_of("198.18.2.4"), 6: slice_of("fd00:18:2::4")}
NODE_PORT = ("TCP", 32010)
TO_NODE_PORT, TO_BACKEND = ({"protocol": "TCP", "destination": {"ports": [port]}} for port in (32010, 80))


def closed(pod: str, *rules: Document) -> Document:
    return gnp({"selector": f"pod == '{pod}'", "types": ["Ingress"], "ingress": list(rules)}, f"to-{pod}")


@both
def test_node_port_leads_to_the_backend_on_the_node(lab: Lab, family: int) -> None:
    judge = lab(service(), ON_NODE_1[family], nodes=NODES)
    assert judge.default("client", "node-1", *NODE_PORT, family=family) == ("ingress", "profile", "kns.y")
    denied = lab(service(), ON_NODE_1[family], closed("c"), nodes=NODES)
    assert denied.default("client", "node-1", *NODE_PORT, family=family) == ("ingress", "tier-end-deny", "default")
    assert denied.default("client", "node-1", "TCP", 80, family=family) == (None, "no-policy", None)
    assert denied.default("client", "node-1", "UDP", 32010, family=family) == (None, "no-policy", None)
    other = closed("c", {**ALLOW, **TO_BACKEND})
    assert lab(service(), ON_NODE_1[family], other, nodes=NODES).allows("client", "node-1", *NODE_PORT, family=family)
    frontend = closed("c", {**ALLOW, **TO_NODE_PORT})
    judge = lab(service(), ON_NODE_1[family], frontend, nodes=NODES)
    assert not judge.allows("client", "node-1", *NODE_PORT, family=family)


@both
def test_node_port_is_seen_ahead_of_dnat_and_the_backend_after_it(lab: Lab, family: int) -> None:
    documents = service(), ON_NODE_1[family], hep()

    def decides(*policies: Document) -> str:
        return lab(*documents, *policies, nodes=NODES).rule("client", "node-1", *NODE_PORT, family=family)[1]

    early = [{**DENY, **TO_NODE_PORT}]
    assert decides(pre_dnat("d", ingress=early)) == "d"
    assert decides(raw("r", ingress=early)) == "r"
    assert decides(forward("f", ingress=[{**DENY, **TO_BACKEND}])) == "f"
    # A pinhole for the service's own port, or the backend's, does nothing ahead of DNAT.
    for port in (8055, 80):
        hole = {**ALLOW, "protocol": "TCP", "destination": {"ports": [port]}}
        assert decides(pre_dnat("d", ingress=[hole, DENY])) == "d"
    hole = pre_dnat("d", ingress=[{**ALLOW, **TO_NODE_PORT}, DENY])
    judge = lab(*documents, hole, forward("f", ingress=[DENY]), nodes=NODES)
    assert judge.default("client", "node-1", *NODE_PORT, family=family) == ("ingress", "profile", "kns.y")
    assert decides(hole, closed("c", DENY)) == "to-c"
    # What is forwarded is not the node's own: its ordinary policy has no say.
    ordinary = lab(*documents, policy("n", ingress=[DENY]), nodes=NODES)
    assert ordinary.allows("client", "node-1", *NODE_PORT, family=family)


@both
def test_node_port_with_backend_on_another_node_crosses_both(lab: Lab, family: int) -> None:
    stages = [
        ("in-1", forward("in-1", ingress=[DENY])),
        ("out-1", forward("out-1", egress=[DENY])),
        ("raw-2", raw("raw-2", "h2", ingress=[{**DENY, **TO_BACKEND}])),
        ("in-2", forward("in-2", "h2", ingress=[DENY])),
        ("to-d", closed("d", {**DENY, "source": {"nets": ["203.0.113.9/32" if family == 4 else "2001:db8::9/128"]}})),
    ]
    for index, (name, _) in enumerate(stages):
        documents = (document for _, document in stages[index:])
        judge = lab(service(), ON_NODE_2[family], hep(), hep("h2", "node-2"), *documents, nodes=NODES)
        assert judge.rule("client", "node-1", *NODE_PORT, family=family)[1] == name


@both
def test_workload_to_node_port_of_its_node_is_passing_traffic(lab: Lab, family: int) -> None:
    """The endpoint-to-host action, Drop here, has no say; a named endpoint's preDNAT neither."""
    sender = gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [{**DENY, **TO_BACKEND}]}, "sender")
    stages = [
        ("star", pre_dnat("star", "s", ingress=[{**DENY, **TO_NODE_PORT}])),
        ("in", forward("in", "s", ingress=[{**DENY, **TO_BACKEND}])),
        ("sender", sender),
        ("to-c", closed("c", DENY)),
    ]
    heps = hep(), hep("s", interface="*"), pre_dnat("named", ingress=[DENY])
    for index, (name, _) in enumerate(stages):
        judge = lab(service(), ON_NODE_1[family], *heps, *(each for _, each in stages[index:]), nodes=NODES)
        assert judge.rule("x/a", "node-1", *NODE_PORT, family=family)[1] == name
    open_ = lab(service(), ON_NODE_1[family], *heps, nodes=NODES)
    assert open_.default("x/a", "node-1", *NODE_PORT, family=family) == ("ingress", "profile", "kns.y")


@both
def test_workload_to_node_port_of_other_node_leaves_as_for_the_node(lab: Lab, family: int) -> None:
    to_node = {"destination": {"nets": [f"{ADDRESS['node-2', family]}/{32 if family == 4 else 128}"]}}
    out = forward("out", egress=[{**DENY, **TO_NODE_PORT, "destination": {**to_node["destination"], "ports": [32010]}}])
    judge = lab(service(), ON_NODE_2[family], hep(), out, nodes=NODES)
    assert judge.rule("x/a", "node-2", *NODE_PORT, family=family)[1] == "out"
    judge = lab(service(), ON_NODE_2[family], closed("d", DENY), nodes=NODES)
    assert judge.rule("x/a", "node-2", *NODE_PORT, family=family)[1] == "to-d"


@both
def test_node_to_its_own_node_port_meets_egress_after_dnat(lab: Lab, family: int) -> None:
    star = hep(interface="*"), policy("p", ingress=[DENY], egress=[DENY]), pre_dnat("d", ingress=[DENY])
    local = lab(service(), ON_NODE_1[family], *star, nodes=NODES)
    assert local.default("node-1", "node-1", *NODE_PORT, family=family) == (None, "host-to-own-workload", None)
    remote = lab(service(), ON_NODE_2[family], *star, nodes=NODES)
    assert remote.rule("node-1", "node-1", *NODE_PORT, family=family)[1] == "p"
    hole = policy("p", egress=[{**ALLOW, **TO_BACKEND}])
    through = lab(service(), ON_NODE_2[family], hep(), hole, closed("d", DENY), nodes=NODES)
    assert through.rule("node-1", "node-1", *NODE_PORT, family=family)[1] == "to-d"
    frontend = policy("p", egress=[{**ALLOW, **TO_NODE_PORT}])
    blind = lab(service(), ON_NODE_2[family], hep(), frontend, nodes=NODES)
    assert not blind.allows("node-1", "node-1", *NODE_PORT, family=family)


@both
def test_node_to_node_port_of_other_node_meets_own_egress_before_dnat(lab: Lab, family: int) -> None:
    out = policy("out", egress=[{**ALLOW, **TO_NODE_PORT}])
    judge = lab(service(), ON_NODE_2[family], hep(), out, closed("d", DENY), nodes=NODES)
    assert judge.rule("node-1", "node-2", *NODE_PORT, family=family)[1] == "to-d"


@both
def test_node_port_with_a_host_behind_it_meets_that_hosts_policy(lab: Lab, family: int) -> None:
    on_host = slice_of(ADDRESS["node-2", family], port=9090)
    into = policy("in", "h2", ingress=[{**DENY, "protocol": "TCP", "destination": {"ports": [9090]}}])
    judge = lab(service(), on_host, hep("h2", "node-2"), into, nodes=NODES)
    assert judge.rule("client", "node-1", *NODE_PORT, family=family)[1] == "in"
    assert judge.rule("client", "node-2", *NODE_PORT, family=family)[1] == "in"
    # From the node itself by the loopback, which has no endpoint.
    assert judge.default("node-2", "node-2", *NODE_PORT, family=family) == (None, "no-policy", None)


@both
def test_node_port_of_an_external_backend_leaves_the_cluster(lab: Lab, family: int) -> None:
    outside = slice_of("203.0.113.9" if family == 4 else "2001:db8::9")
    judge = lab(service(), outside, nodes=NODES)
    assert judge.default("node-2", "node-1", *NODE_PORT, family=family) == (None, "no-policy", None)
    judge = lab(service(), outside, hep(), forward("f", egress=[{**DENY, **TO_BACKEND}]), nodes=NODES)
    assert judge.rule("node-2", "node-1", *NODE_PORT, family=family)[1] == "f"


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [slice_of("fd00:18:2::3")],
        [slice_of("198.18.2.3", ready=False)],
        [slice_of("198.18.2.3", port_name="other")],
        [slice_of("198.18.2.3", protocol="UDP")],
        [slice_of("198.18.2.3", service="other")],
        [slice_of("198.18.9.9")],  # nobody's address
    ],
)
def test_node_port_with_nobody_behind_it_is_denied_after_early_policy(lab: Lab, slices: list[Document]) -> None:
    judge = lab(service(), *slices, nodes=NODES)
    for sender in ("client", "x/a", "node-1", "node-2"):
        assert judge.default(sender, "node-1", *NODE_PORT) == (None, "no-backend", None)
    early = lab(service(), *slices, hep(), pre_dnat("d", ingress=[DENY]), nodes=NODES)
    assert early.rule("client", "node-1", *NODE_PORT)[1] == "d"


@pytest.mark.parametrize(
    ("slices", "backend"),
    [
        ([slice_of("198.18.2.4", "198.18.2.3")], "d"),
        ([slice_of("198.18.2.3", "198.18.2.4")], "c"),
        ([slice_of("198.18.2.4", name="z"), slice_of("198.18.2.3", name="a")], "d"),
        ([slice_of("198.18.2.4", name="z", ready=False), slice_of("198.18.2.3", name="a")], "c"),
        ([slice_of("198.18.2.4", name="z", port_name="x"), slice_of("198.18.2.3", name="a")], "c"),
    ],
)
def test_node_port_leads_to_the_first_ready_backend(lab: Lab, slices: list[Document], backend: str) -> None:
    judge = lab(service(), *slices, closed("c", DENY), closed("d", DENY), nodes=NODES)
    assert judge.rule("client", "node-1", *NODE_PORT)[1] == f"to-{backend}"


def test_untracked_accept_of_a_node_port_never_gets_to_the_backend(lab: Lab) -> None:
    """Unconfirmed: the kernel translates only what it tracks."""
    judge = lab(service(), ON_NODE_1[4], hep(), raw("r", ingress=[{**ALLOW, "protocol": "TCP"}]), nodes=NODES)
    assert judge.default("client", "node-1", *NODE_PORT) == (None, "no-backend", None)


def test_node_ports_that_lead_in_a_circle_lead_nowhere(lab: Lab) -> None:
    there = slice_of(ADDRESS["node-2", 4], port=32010)
    back = slice_of(ADDRESS["node-1", 4], name="web-2", service="web2", port=32011)
    judge = lab(
        service(node_port=32011),
        there,
        service("web2", 32010),
        back,
        nodes=NODES,
    )
    assert judge.default("client", "node-1", "TCP", 32011) == (None, "no-backend", None)


# -- natOutgoing ----------------------------------------------------------------------------------------------

PODS = {4: "198.18.0.0/16", 6: "fd00:18::/32"}


def from_(*addresses: str) -> Document:
    """Rules that deny sources by name: whoever is seen."""
    return {"source": {"nets": [f"{address}/{128 if ':' in address else 32}" for address in addresses]}}


@both
@pytest.mark.parametrize(("outgoing", "seen"), [(True, "node"), (False, "pod")])
def test_other_node_sees_the_node_behind_a_masquerading_pool(lab: Lab, outgoing: bool, seen: str, family: int) -> None:
    pod_address = {4: "198.18.1.1", 6: "fd00:18:1::1"}[family]
    node = policy("node", "h2", ingress=[{**DENY, **from_(ADDRESS["node-1", family])}], order=1)
    pod = policy("pod", "h2", ingress=[{**DENY, **from_(pod_address)}], order=2)
    judge = lab(pool("pods", PODS[family], natOutgoing=outgoing), hep("h2", "node-2"), node, pod, nodes=NODES)
    assert judge.rule("x/a", "node-2", family=family)[1] == seen


@both
def test_remote_workload_in_no_pool_does_not_see_the_pod(lab: Lab, family: int) -> None:
    labelled = closed("b", {**ALLOW, "source": {"selector": "pod == 'a'"}})
    whole, part = PODS[family], {4: "198.18.1.1/32", 6: "fd00:18:1::1/128"}[family]
    size = {4: 32, 6: 128}[family]
    within = lab(pool("pods", whole, natOutgoing=True), labelled, nodes=NODES)
    assert within.allows("x/a", "x/b", family=family)
    outside = lab(pool("pods", part, natOutgoing=True, blockSize=size), labelled, nodes=NODES)
    assert not outside.allows("x/a", "x/b", family=family)
    # The policies of its own node still see the pod.
    sent = gnp(
        {"selector": "pod == 'a'", "types": ["Egress"], "egress": [{**ALLOW, "source": {"selector": "pod == 'a'"}}]}
    )
    judge = lab(pool("pods", part, natOutgoing=True, blockSize=size), sent, nodes=NODES)
    assert judge.allows("x/a", "x/b", family=family)


def test_disabled_pool_still_keeps_its_addresses_from_being_left(lab: Lab) -> None:
    seen = policy("pod", "h2", ingress=[{**ALLOW, **from_("198.18.1.1")}])
    pods, nodes = pool("pods", PODS[4], natOutgoing=True), pool("nodes", "198.19.0.0/24", disabled=True)
    assert not lab(pods, hep("h2", "node-2"), seen, nodes=NODES).allows("x/a", "node-2")
    assert lab(pods, nodes, hep("h2", "node-2"), seen, nodes=NODES).allows("x/a", "node-2")


def test_own_node_sees_the_pod_itself(lab: Lab) -> None:
    star = hep(interface="*"), pre_dnat("d", ingress=[{**DENY, **from_("198.18.1.1")}])
    judge = lab(
        pool("pods", PODS[4], natOutgoing=True), felix(defaultEndpointToHostAction="Accept"), *star, nodes=NODES
    )
    assert judge.rule("x/a", "node-1")[1] == "d"
    assert judge.allows("y/c", "node-1")


def test_what_is_not_tracked_is_not_masqueraded(lab: Lab) -> None:
    seen = policy("pod", "h2", ingress=[{**ALLOW, **from_("198.18.1.1")}])
    judge = lab(pool("pods", PODS[4], natOutgoing=True), hep("h2", "node-2"), seen, nodes=NODES)
    assert judge.allows("x/a", "node-2", "ICMP", None, icmp=(0, 0))
    assert not judge.allows("x/a", "node-2", "ICMP", None, icmp=(8, 0))


def test_masqueraded_source_is_no_failsafe_of_the_pods_net(lab: Lab) -> None:
    near = [{"protocol": "TCP", "port": 22, "net": "198.19.0.0/24"}]
    judge = lab(
        felix(failsafeInboundHostPorts=near), pool("pods", PODS[4], natOutgoing=True), hep("h2", "node-2"), nodes=NODES
    )
    assert judge.allows("x/a", "node-2", "TCP", 22)
    plain = lab(felix(failsafeInboundHostPorts=near), hep("h2", "node-2"), nodes=NODES)
    assert not plain.allows("x/a", "node-2", "TCP", 22)


def test_masquerading_leaves_the_named_protocols_ports_alone(lab: Lab) -> None:
    rule = {**ALLOW, "protocol": "TCP", "source": {"ports": [1234]}}
    judge = lab(
        pool("pods", PODS[4], natOutgoing=True), hep("h2", "node-2"), policy("p", "h2", ingress=[rule]), nodes=NODES
    )
    assert judge.allows("x/a", "node-2", source_port=1234)
    assert not judge.allows("x/a", "node-2", source_port=1235)


@pytest.mark.parametrize(("family", "arrives"), [(4, False), (6, True)])
def test_node_takes_no_packet_of_its_own_address_back_from_another_nodes_port(
    lab: Lab, family: int, *, arrives: bool
) -> None:
    judge = lab(service(), ON_NODE_1[family], nodes=NODES)
    assert judge.allows("node-1", "node-2", *NODE_PORT, family=family) is arrives
    assert judge.allows("x/a", "node-2", *NODE_PORT, family=family)
    masked = lab(service(), ON_NODE_1[family], pool("pods", PODS[family], natOutgoing=True), nodes=NODES)
    assert masked.allows("x/a", "node-2", *NODE_PORT, family=family) is arrives
    early = lab(
        service(), ON_NODE_1[family], hep(), policy("o", egress=[ALLOW]), pre_dnat("d", ingress=[DENY]), nodes=NODES
    )
    assert early.rule("node-1", "node-2", *NODE_PORT, family=family)[1] == "d"


@pytest.mark.parametrize(("kind", "translated"), [(128, True), (135, False), (136, False), (129, False)])
def test_of_icmpv6_what_is_tracked_is_masqueraded(lab: Lab, kind: int, *, translated: bool) -> None:
    known = gnp({"selector": "pod == 'd'", "types": ["Ingress"], "ingress": [{**ALLOW, **from_("fd00:18:1::1")}]})
    judge = lab(pool("pods", "fd00:18:1::/64", natOutgoing=True), known, nodes=NODES)
    assert judge.allows("x/a", "y/d", "ICMPv6", None, family=6, icmp=(kind, 0)) is not translated
    assert judge.allows("x/a", "y/d", "UDP", 80, family=6) is False
