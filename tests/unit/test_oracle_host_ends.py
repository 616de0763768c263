# SPDX-License-Identifier: Apache-2.0
"""Nodes as ends of flows: which stages a packet meets that begins or ends on a node, by hand, in both families."""

from __future__ import annotations

import pytest
from oracle_hosts import ALLOW, DENY, NODES, felix, forward, hep, policy, pool, pre_dnat, untracked
from oracle_lab import Lab, calico, gnp, lab

__all__ = ["lab"]

both = pytest.mark.parametrize("family", [4, 6])


@both
def test_without_host_endpoints_nodes_are_open(lab: Lab, family: int) -> None:
    judge = lab(nodes=NODES)
    for pair in (("client", "node-1"), ("node-1", "client"), ("node-1", "node-2"), ("node-1", "node-1")):
        assert judge.default(*pair, family=family) == (None, "no-policy", None)
    assert judge.allows("node-1", "x/b", family=family)  # on the other node
    assert judge.default("x/a", "node-2", family=family) == ("egress", "profile", "kns.x")


@both
def test_host_endpoint_alone_closes_host_but_not_what_passes_through(lab: Lab, family: int) -> None:
    judge = lab(hep(), nodes=NODES)
    closed = "HostEndpoint h1 on node-1"
    for pair, direction in (
        (("client", "node-1"), "ingress"),
        (("node-2", "node-1"), "ingress"),
        (("x/b", "node-1"), "ingress"),
        (("node-1", "client"), "egress"),
        (("node-1", "node-2"), "egress"),
        (("node-1", "x/b"), "egress"),
    ):
        expected = (direction, "host-endpoint-without-policy", closed)
        assert judge.default(*pair, family=family) == expected
    for pair in (("client", "x/a"), ("x/a", "client"), ("x/a", "x/b"), ("x/b", "x/a"), ("x/a", "y/c")):
        assert judge.allows(*pair, family=family)
    assert judge.default("node-2", "node-2", family=family) == (None, "no-policy", None)
    assert judge.default("node-1", "node-1", family=family) == (None, "no-policy", None)  # lo is not eth0


@both
@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_node_to_its_own_workload_is_always_allowed(lab: Lab, interface: str, family: int) -> None:
    closed = gnp({"selector": "all()", "types": ["Ingress", "Egress"]})
    judge = lab(hep(interface=interface), closed, forward("f", ingress=[DENY], egress=[DENY]), nodes=NODES)
    assert judge.default("node-1", "x/a", family=family) == (None, "host-to-own-workload", None)
    assert judge.rule("node-1", "x/b", family=family)[1] == "f"


@both
def test_node_to_remote_workload_meets_egress_then_forward_then_workload(lab: Lab, family: int) -> None:
    host = [hep(), policy("out", egress=[ALLOW])]
    remote = hep("h2", "node-2")
    assert lab(*host, remote, nodes=NODES).default("node-1", "x/b", family=family) == ("ingress", "profile", "kns.x")
    through = forward("through", "h2", ingress=[DENY])
    assert lab(*host, remote, through, nodes=NODES).rule("node-1", "x/b", family=family)[1] == "through"
    pod = gnp({"selector": "pod == 'b'", "types": ["Ingress"], "ingress": [DENY]}, "pod")
    assert lab(*host, remote, pod, nodes=NODES).rule("node-1", "x/b", family=family)[1] == "pod"
    denied = [hep(), policy("out", egress=[DENY])]
    assert lab(*denied, remote, pod, nodes=NODES).rule("node-1", "x/b", family=family)[1] == "out"


@both
def test_node_to_node_meets_egress_of_one_and_ingress_of_other(lab: Lab, family: int) -> None:
    heps = hep(), hep("h2", "node-2")
    out, into = policy("out", egress=[ALLOW]), policy("into", "h2", ingress=[ALLOW])
    assert lab(*heps, out, into, nodes=NODES).rule("node-1", "node-2", family=family)[1] == "into"
    assert lab(*heps, out, nodes=NODES).default("node-1", "node-2", family=family)[0] == "ingress"
    assert lab(*heps, into, nodes=NODES).default("node-1", "node-2", family=family)[0] == "egress"
    assert not lab(*heps, out, into, nodes=NODES).allows("node-2", "node-1", family=family)


@both
@pytest.mark.parametrize("interface", ["eth0", "*"])
@pytest.mark.parametrize(
    ("action", "allowed"), [(None, False), ("Drop", False), ("Return", True), ("Accept", True), ("accept", True)]
)
def test_workload_to_own_node_is_decided_by_endpoint_to_host_action(
    lab: Lab, action: str | None, interface: str, family: int, *, allowed: bool
) -> None:
    documents = [felix(defaultEndpointToHostAction=action)] if action else []
    judge = lab(*documents, hep(interface=interface), policy("in", ingress=[ALLOW]), nodes=NODES)
    assert judge.allows("x/a", "node-1", family=family) is allowed
    assert judge.default("x/a", "node-1", family=family) == ("egress", "endpoint-to-host", None)
    closed = lab(*documents, hep(interface=interface), policy("in", ingress=[DENY]), nodes=NODES)
    assert closed.allows("x/a", "node-1", family=family) is allowed


@both
def test_node_that_does_not_forward_passes_nothing_on(lab: Lab, family: int) -> None:
    off = felix("node.node-1", ipForwarding="Disabled", defaultEndpointToHostAction="Accept")
    judge = lab(off, felix(ipForwarding="Enabled"), pre_dnat("d", ingress=[DENY]), hep(), nodes=NODES)
    assert judge.default("x/a", "y/c", family=family) == (None, "not-forwarded", None)
    assert judge.default("x/a", "x/b", family=family) == (None, "not-forwarded", None)
    assert judge.default("x/a", "client", family=family) == (None, "not-forwarded", None)
    # Ahead of routing policy is asked all the same.
    assert judge.rule("x/b", "x/a", family=family)[1] == "d"
    assert judge.allows("node-1", "x/a", family=family)
    assert judge.allows("x/a", "node-1", family=family)
    assert judge.allows("client", "x/b", family=family)


def test_nobody_is_asked_of_ipv6_where_it_is_not_supported(lab: Lab) -> None:
    closed = gnp({"selector": "all()", "types": ["Ingress", "Egress"]})
    off = felix("node.node-1", ipv6Support=False)
    judge = lab(off, closed, hep(interface="*"), pool("pods", "fd00:18::/32", natOutgoing=True), nodes=NODES)
    for source, destination in (("client", "x/a"), ("x/a", "y/c"), ("x/a", "node-1"), ("x/a", "client")):
        assert judge.default(source, destination, family=6) == (None, "no-policy", None)
        assert not judge.allows(source, destination, family=4)
    assert judge.default("client", "node-1", family=6) == (None, "no-policy", None)
    assert not judge.allows("client", "x/b", family=6)
    # Its source is what it was: the other node, which does police, sees the workload.
    known = gnp(
        {"selector": "pod == 'b'", "types": ["Ingress"], "ingress": [{**ALLOW, "source": {"selector": "pod == 'a'"}}]}
    )
    judge = lab(
        off,
        known,
        pool("pods", "fd00:dead::/64", natOutgoing=True),
        pool("p", "fd00:18::/96", natOutgoing=True),
        nodes=NODES,
    )
    assert judge.allows("x/a", "x/b", family=6)


@both
def test_workload_to_own_node_meets_its_own_egress_policy_first(lab: Lab, family: int) -> None:
    closed = gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]})
    judge = lab(felix(defaultEndpointToHostAction="Accept"), closed, nodes=NODES)
    assert judge.rule("x/a", "node-1", family=family) == ("default", "p", 0)
    assert judge.allows("y/c", "node-1", family=family)


def test_endpoint_to_host_action_of_a_node_goes_before_the_global_one(lab: Lab) -> None:
    judge = lab(
        felix("node.node-2", defaultEndpointToHostAction="Drop"),
        felix(defaultEndpointToHostAction="Accept"),
        nodes=NODES,
    )
    assert judge.allows("x/a", "node-1")
    assert not judge.allows("x/b", "node-2")


@both
def test_pre_dnat_of_every_interface_sees_what_workloads_send_their_node(lab: Lab, family: int) -> None:
    accept, star = felix(defaultEndpointToHostAction="Accept"), hep(interface="*")
    assert lab(accept, star, pre_dnat("d", ingress=[DENY]), nodes=NODES).rule("x/a", "node-1", family=family)[1] == "d"
    # Accepted there, it is still up to the workload's policy and to the action.
    drop = lab(star, pre_dnat("d", ingress=[ALLOW]), nodes=NODES)
    assert drop.default("x/a", "node-1", family=family) == ("egress", "endpoint-to-host", None)
    closed = gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]}, "pod")
    judge = lab(accept, star, closed, pre_dnat("d", ingress=[ALLOW]), nodes=NODES)
    assert judge.rule("x/a", "node-1", family=family)[1] == "pod"
    named = lab(accept, hep(), pre_dnat("d", ingress=[DENY]), nodes=NODES)
    assert named.allows("x/a", "node-1", family=family)


@pytest.mark.parametrize("kind", [130, 131, 132, 133, 135, 136])
def test_neighbour_discovery_of_own_node_is_open(lab: Lab, kind: int) -> None:
    closed = gnp({"selector": "all()", "types": ["Egress", "Ingress"]})
    judge = lab(closed, hep(interface="*"), nodes=NODES)
    flow = ("x/a", "node-1", "ICMPv6", None)
    assert judge.default(*flow, family=6, icmp=(kind, 0)) == (None, "neighbour-discovery", None)
    denied = lab(hep(interface="*"), pre_dnat("d", ingress=[DENY]), nodes=NODES)
    assert denied.rule(*flow, family=6, icmp=(kind, 0))[1] == "d"
    assert not judge.allows("x/a", "node-2", "ICMPv6", None, family=6, icmp=(kind, 0))


@pytest.mark.parametrize("kind", [128, 129, 134, 137])
def test_other_icmp_to_own_node_meets_policy(lab: Lab, kind: int) -> None:
    judge = lab(nodes=NODES)
    assert judge.default("x/a", "node-1", "ICMPv6", None, family=6, icmp=(kind, 0))[1] == "endpoint-to-host"


def test_same_types_of_icmp_version_four_meet_policy(lab: Lab) -> None:
    assert lab(nodes=NODES).default("x/a", "node-1", "ICMP", None, icmp=(133, 0))[1] == "endpoint-to-host"


@both
def test_workload_to_other_node_meets_both_nodes_stages_in_order(lab: Lab, family: int) -> None:
    """Each stage in its turn: it denies when all those after it deny too, and those before allow."""
    stages = [
        ("star-dnat", pre_dnat("star-dnat", "s", ingress=[DENY])),
        ("star-in", forward("star-in", "s", ingress=[DENY])),
        ("pod", gnp({"selector": "pod == 'a'", "types": ["Egress"], "egress": [DENY]}, "pod")),
        ("out", forward("out", egress=[DENY])),
        ("raw", untracked("raw", "h2", ingress=[DENY])),
        ("dnat", pre_dnat("dnat", "h2", ingress=[DENY])),
        ("normal", policy("normal", "h2", ingress=[DENY])),
    ]
    heps = [hep(), hep("s", interface="*"), hep("h2", "node-2")]
    for index, (name, _) in enumerate(stages):
        judge = lab(*heps, *(document for _, document in stages[index:]), nodes=NODES)
        assert judge.rule("x/a", "node-2", family=family)[1] == name
    # Its own node's ordinary policy has no say.
    free = lab(*heps, policy("mine", ingress=[DENY], egress=[DENY]), policy("t", "h2", ingress=[ALLOW]), nodes=NODES)
    assert free.rule("x/a", "node-2", family=family)[1] == "t"


@both
def test_external_to_node_meets_untracked_then_pre_dnat_then_normal(lab: Lab, family: int) -> None:
    stages = [
        ("raw", untracked("raw", ingress=[DENY])),
        ("dnat", pre_dnat("dnat", ingress=[DENY])),
        ("normal", policy("normal", ingress=[DENY])),
    ]
    for index, (name, _) in enumerate(stages):
        judge = lab(hep(), *(document for _, document in stages[index:]), nodes=NODES)
        assert judge.rule("client", "node-1", family=family)[1] == name


@both
def test_node_to_external_meets_untracked_then_normal(lab: Lab, family: int) -> None:
    raw, normal = untracked("raw", egress=[DENY]), policy("normal", egress=[DENY])
    assert lab(hep(), raw, normal, nodes=NODES).rule("node-1", "client", family=family)[1] == "raw"
    assert lab(hep(), normal, nodes=NODES).rule("node-1", "client", family=family)[1] == "normal"
    early = forward("f", egress=[ALLOW]), pre_dnat("d", ingress=[DENY])
    assert lab(hep(), *early, nodes=NODES).rule("node-1", "client", family=family)[1] == "f"  # an ordinary one, too


@both
def test_endpoint_of_every_interface_polices_the_loopback(lab: Lab, family: int) -> None:
    star = hep(interface="*")
    assert lab(star, nodes=NODES).default("node-1", "node-1", family=family)[:2] == (
        "egress",
        "host-endpoint-without-policy",
    )
    out, into = policy("out", egress=[ALLOW]), policy("into", ingress=[ALLOW])
    assert lab(star, out, nodes=NODES).default("node-1", "node-1", family=family)[0] == "ingress"
    assert lab(star, out, into, nodes=NODES).rule("node-1", "node-1", family=family)[1] == "into"
    early = pre_dnat("dnat", ingress=[DENY])
    assert lab(star, out, into, early, nodes=NODES).rule("node-1", "node-1", family=family)[1] == "dnat"
    own = hep("lo", interface="lo"), policy("l", "lo", ingress=[ALLOW], egress=[ALLOW])
    assert lab(star, *own, nodes=NODES).allows("node-1", "node-1", family=family)
    assert not lab(star, *own, nodes=NODES).allows("node-1", "client", family=family)


@both
def test_rules_see_the_addresses_of_nodes(lab: Lab, family: int) -> None:
    from_node = {"source": {"nets": ["198.19.0.12/32"] if family == 4 else ["fd00:19::12/128"]}}
    judge = lab(hep(), policy("in", ingress=[{**ALLOW, **from_node}]), nodes=NODES)
    assert judge.allows("node-2", "node-1", family=family)
    assert not judge.allows("client", "node-1", family=family)


@both
def test_expected_addresses_make_a_host_endpoint_a_party_of_selectors(lab: Lab, family: int) -> None:
    known = hep("h2", "node-2", "eth0", expectedIPs=["198.19.0.12", "fd00:19::12"])
    silent = hep("h2", "node-2", "eth0")
    target = [hep(), policy("in", ingress=[{**ALLOW, "source": {"selector": "host == 'h2'"}}])]
    open_ = policy("out", "h2", egress=[ALLOW])
    assert lab(known, open_, *target, nodes=NODES).allows("node-2", "node-1", family=family)
    assert not lab(silent, open_, *target, nodes=NODES).allows("node-2", "node-1", family=family)


@both
def test_named_port_of_a_host_endpoint_stands_for_its_number_at_expected_addresses(lab: Lab, family: int) -> None:
    port = {"name": "api", "protocol": "TCP", "port": 8443}
    rule = {**ALLOW, "protocol": "TCP", "destination": {"ports": ["api"]}}
    into = policy("in", ingress=[rule])
    known = lab(hep(ports=[port], expectedIPs=["198.19.0.11", "fd00:19::11"]), into, nodes=NODES)
    assert known.allows("client", "node-1", "TCP", 8443, family=family)
    assert not known.allows("client", "node-1", "TCP", 8444, family=family)
    assert not known.allows("client", "node-1", "UDP", 8443, family=family)
    assert not lab(hep(ports=[port]), into, nodes=NODES).allows("client", "node-1", "TCP", 8443, family=family)


@pytest.mark.parametrize(
    ("namespaces", "allowed"),
    [("global()", True), ("!has(env)", True), ("all()", False), ("has(env)", False), ("env != 'prod'", True)],
)
def test_namespace_selector_of_a_rule_reaches_host_endpoints(lab: Lab, namespaces: str, *, allowed: bool) -> None:
    known = hep("h2", "node-2", "eth0", expectedIPs=["198.19.0.12"], labels={"web": "yes"})
    source = {"selector": "has(web)", "namespaceSelector": namespaces}
    judge = lab(
        known,
        policy("out", "h2", egress=[ALLOW]),
        hep(),
        policy("in", ingress=[{**ALLOW, "source": source}]),
        nodes=NODES,
    )
    assert judge.allows("node-2", "node-1") is allowed


def test_selector_of_all_with_a_namespace_selector_stops_selecting_host_endpoints(lab: Lab) -> None:
    everyone = gnp({"selector": "all()", "types": ["Ingress"], "ingress": [ALLOW]})
    some = gnp({"selector": "all()", "namespaceSelector": "!has(nothing)", "types": ["Ingress"], "ingress": [ALLOW]})
    blank = gnp({"selector": "", "namespaceSelector": "!has(nothing)", "types": ["Ingress"], "ingress": [ALLOW]})
    assert lab(hep(), everyone, nodes=NODES).allows("client", "node-1")
    assert not lab(hep(), some, nodes=NODES).allows("client", "node-1")
    assert lab(hep(), blank, nodes=NODES).allows("client", "node-1")


def test_profile_hands_its_labels_and_rules_to_a_host_endpoint(lab: Lab) -> None:
    profile = calico("Profile", "open", {"ingress": [ALLOW], "labelsToApply": {"zone": "a", "host": "other"}})
    judge = lab(profile, hep(profiles=["open"]), nodes=NODES)
    assert judge.default("client", "node-1") == ("ingress", "profile", "open")
    assert judge.default("node-1", "client") == ("egress", "no-profile", None)
    zoned = calico("GlobalNetworkPolicy", "z", {"selector": "zone == 'a'", "types": ["Ingress"], "ingress": [DENY]})
    assert lab(profile, hep(profiles=["open"]), zoned, nodes=NODES).rule("client", "node-1")[1] == "z"
    own = policy("own", ingress=[DENY])  # the endpoint's own label goes before the profile's
    assert lab(profile, hep(profiles=["open"]), own, nodes=NODES).rule("client", "node-1")[1] == "own"
    assert lab(hep(profiles=["none"]), nodes=NODES).default("client", "node-1") == (
        "ingress",
        "missing-profile",
        "none",
    )
