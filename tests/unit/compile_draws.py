# SPDX-License-Identifier: Apache-2.0
"""Hypothesis draws what the small worlds of the oracle leave out: hosts, services, admin policies, settings."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st
from oracle_worlds import (
    HERE,
    NETS,
    calico_policies,
    directions,
    kubernetes_policies,
    label_selectors,
    labels,
    network_sets,
    profiles,
    selectors,
    some,
)

from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    CalicoPolicy,
    Direction,
    EndpointSlice,
    EntityRule,
    Failsafe,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    NetworkSet,
    PortRange,
    Profile,
    ProtocolMatch,
    Rule,
    ServiceMatch,
    StagedAction,
    Tier,
)
from lab.policy.selector import parse_selector
from lab.topology import Link, Namespace, Node, Pools, Port, Topology, Workload

POOLS = Pools(ip_network("198.18.0.0/16"), ip_network("fd00:18::/32"))
NODES = {
    "n1": Node("n1", "namespace", {"k": "1"}, (ip_address("198.19.0.1"), ip_address("fd00:19::1"))),
    "n2": Node("n2", "namespace", {}, (ip_address("198.19.0.2"), ip_address("fd00:19::2"))),
}
ADDRESSES = [address for node in NODES.values() for address in node.addresses]


def topology(namespaces=(), workloads=()):
    """Two nodes with a link between them."""
    return Topology(
        "world",
        POOLS,
        Pools(ip_network("198.19.0.0/24"), ip_network("fd00:19::/64")),
        NODES,
        {namespace.name: namespace for namespace in namespaces},
        {workload.name: workload for workload in workloads},
        {},
        (Link(("n1", "n2"), "eth1", None),),
    )


namespaces = st.builds(
    Namespace, some("x", "y"), labels, st.dictionaries(some("u", "v"), labels, max_size=2), st.just(HERE)
)
ports = st.lists(some(Port("http", 6, 80), Port("http", 17, 81), Port("dns", 17, 80)), max_size=2, unique=True)


@st.composite
def workloads(draw):
    index = draw(some(1, 2, 3, 4))
    addresses = (ip_address("198.18.0.0") + index, ip_address("fd00:18::") + index)
    return Workload(
        draw(some("x", "y")),
        draw(some("a", "b")),
        draw(some(*NODES)),
        draw(labels),
        draw(some(None, "u", "v")),
        draw(some(addresses, addresses, addresses[:1], ())),
        tuple(draw(ports)),
        draw(some(None, None, (), ("open",), ("shut", "kns.x"), ("gone", "open"))),
        None,
    )


host_endpoints = st.builds(
    HostEndpoint,
    some("h", "i", "j"),
    some(*NODES),
    some(None, "*", "eth0", "eth1", "eth9"),
    st.lists(some(*ADDRESSES, ip_address("198.18.0.1")), min_size=1, max_size=2, unique=True).map(tuple),
    labels,
    some((), ("open",), ("shut", "gone")),
    ports.map(tuple),
    st.just(HERE),
)
slices = st.builds(
    EndpointSlice,
    some("s-1", "s-2"),
    some("x", "y"),
    some("web", "db"),
    st.lists(some(ip_address("198.18.0.1"), ip_address("198.18.0.2"), ip_address("fd00:18::1")), max_size=2).map(tuple),
    ports.map(tuple),
    st.just(HERE),
)
tiers = st.builds(Tier, some("early", "late", "kube-admin"), some(None, 1.0, 1e9), st.booleans())
pools = st.builds(IpPool, some("p", "q"), some(*NETS), st.booleans(), st.booleans(), st.just(HERE))
failsafes = st.none() | st.lists(some(Failsafe(6, 22), Failsafe(17, 53, NETS[0])), max_size=2).map(tuple)
configurations = st.builds(
    FelixConfiguration,
    some(None, "n1", "n9"),
    some(None, "Drop", "Return", "Accept"),
    failsafes,
    failsafes,
    some(None, True, False),
    some(None, True, False),
    some(None, 4790),
    some(None, True, False),
    st.just(HERE),
    ipv6_support=some(None, True, False),
)
pods = st.tuples(label_selectors, label_selectors)
subjects = st.builds(AdminPeer, namespaces=label_selectors) | st.builds(AdminPeer, pods=pods)
peers = (
    subjects
    | st.builds(AdminPeer, networks=st.lists(some(*NETS), min_size=1, max_size=2).map(tuple))
    | st.builds(AdminPeer, nodes=label_selectors)
    | some(AdminPeer(), AdminPeer(domain_names=("example.org",)))
)
admin_ports = some(
    AdminPort(6, PortRange(80, 80)), AdminPort(6, None), AdminPort(17, PortRange(80, 81)), AdminPort(name="http"),
    AdminPort(),
)  # fmt: skip
admin_rules = st.builds(
    AdminRule,
    st.just(""),
    some(Action.ALLOW, Action.DENY, Action.PASS),
    st.lists(peers, min_size=1, max_size=2).map(tuple),
    st.lists(admin_ports, max_size=2).map(tuple),
    st.just(HERE),
)
admin_policies = st.builds(
    AdminPolicy,
    some("AdminNetworkPolicy", "ClusterNetworkPolicy"),
    some("p", "q"),
    st.booleans(),
    some(0, 5),
    subjects,
    st.lists(admin_rules, max_size=2).map(tuple),
    st.lists(admin_rules, max_size=2).map(tuple),
    st.just(HERE),
)


def with_service(policy, service, *, staged, stage):
    """The policy with a service in its first rule of each direction, staged or for hosts."""
    if staged:
        return replace(policy, kind=f"Staged{policy.kind}", staged=StagedAction.SET)
    match = ServiceMatch("web", service)
    first, *rest = policy.ingress
    ingress = (replace(first, source=replace(first.source, selector=None, services=match)), *rest)
    first, *rest = policy.egress
    egress = (replace(first, destination=replace(first.destination, ports=(), services=match)), *rest)
    return replace(policy, ingress=ingress, egress=egress, **stage)


global_policies = calico_policies().filter(lambda policy: policy.namespace is None)
STAGES = (
    {},
    {"apply_on_forward": True},
    {"apply_on_forward": True, "pre_dnat": True},
    {"apply_on_forward": True, "do_not_track": True},
)
special_policies = st.builds(
    with_service, global_policies, some("x", "y", None), staged=some(False, False, False, True), stage=some(*STAGES)
)
resources = st.one_of(
    calico_policies(),
    kubernetes_policies,
    admin_policies,
    special_policies,
    network_sets,
    profiles,
    namespaces,
    workloads(),
    host_endpoints,
    slices,
    tiers,
    pools,
    configurations,
)


def _dense():
    """A world in which most changes of a label, an address or a port mean something to somebody."""

    def selecting(text, **fields):
        return EntityRule(selector=parse_selector(text), **fields)

    def allow(**fields):
        return Rule(Action.ALLOW, HERE, **fields)

    def policy(name, selector, *ingress, egress=(), namespace=None, **fields):
        kind = "GlobalNetworkPolicy" if namespace is None else "NetworkPolicy"
        found = CalicoPolicy(
            kind, name, namespace, "default", 1.0, parse_selector(selector), None, None, frozenset(Direction),
            ingress, egress, HERE,
        )  # fmt: skip
        return replace(found, **fields)

    def pod(home, name, node, address, **own):
        addresses = (ip_address(f"198.18.0.{address}"), ip_address(f"fd00:18::{address}"))
        return Workload(home, name, node, own, "u", addresses, (Port("http", 6, 80),), None, None)

    by_service = EntityRule(services=ServiceMatch("web", "x"))
    return [
        Namespace("x", {"k": "1"}, {"u": {"l": "1"}}, HERE),
        Namespace("y", {"k": "2"}, {"u": {}}, HERE),
        pod("x", "a", "n1", 1, k="1"),
        pod("x", "b", "n2", 2, k="2"),
        pod("y", "a", "n1", 3, l="1"),
        NetworkSet("s", None, {"k": "1"}, (ip_network("198.18.0.1/32"), ip_network("10.0.0.0/8")), HERE),
        NetworkSet("t", "x", {"l": "2"}, (ip_network("198.18.0.2/32"),), HERE),
        HostEndpoint("h", "n1", "eth0", (ADDRESSES[0],), {"k": "1"}, ("open",), (Port("http", 6, 81),), HERE),
        HostEndpoint("i", "n1", "*", (ADDRESSES[1],), {"l": "1"}, (), (), HERE),
        EndpointSlice("s-1", "x", "web", (ip_address("198.18.0.1"),), (Port("http", 6, 80),), HERE),
        Profile("open", (allow(source=selecting("l == '1'")),), (allow(),), {"l": "2"}, HERE),
        Tier("early", 1.0, pass_by_default=True),
        policy("p", "has(k)", allow(source=selecting("k == '1'")), allow(source=selecting("!has(l)"))),
        policy("q", "l == '1'", allow(destination=EntityRule(ports=("http",)), protocol=ProtocolMatch(6, True))),
        policy("r", "k != '1'", allow(source=by_service), egress=(allow(destination=by_service),), tier="early"),
        policy("r", "all()", allow(source=selecting("pcns.k == '1' || pcsa.l == '1'")), namespace="x"),
        policy("f", "has(l)", allow(source=selecting("k in {'1', '2'}")), apply_on_forward=True),
        policy("d", "k == '1'", allow(), apply_on_forward=True, pre_dnat=True, types=frozenset({Direction.INGRESS})),
    ]


DENSE = _dense()


@st.composite
def edits(draw, resource):
    """The resource with another value of one of its fields."""
    other = {
        Namespace: {"labels": labels},
        Workload: {
            "labels": labels,
            "ports": ports.map(tuple),
            "addresses": some((), (ip_address("198.18.0.1"),), (ip_address("198.18.0.2"), ip_address("fd00:18::1"))),
            "profiles": some(None, (), ("open",), ("kns.y", "gone")),
            "node": some(*NODES),
        },
        NetworkSet: {"labels": labels, "nets": some((), (ip_network("198.18.0.1/32"),), (ip_network("0.0.0.0/0"),))},
        HostEndpoint: {"labels": labels, "node": some(*NODES), "interface": some(None, "*", "eth0", "eth1")},
        EndpointSlice: {"service": some("web", "db"), "ports": ports.map(tuple)},
        Profile: {"labels_to_apply": labels},
        Tier: {"order": some(None, 1.0, 1e9), "pass_by_default": st.booleans()},
        CalicoPolicy: {
            "order": some(None, 0.5, 2.0),
            "tier": some("default", "early", "late"),
            "selector": selectors,
            "types": directions,
        },
    }.get(type(resource))
    if other is None:
        return resource
    field = draw(some(*other))
    return replace(resource, **{field: draw(other[field])})


__all__ = ["DENSE", "edits", "resources", "topology", "workloads"]
