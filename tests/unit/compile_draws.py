# SPDX-License-Identifier: Apache-2.0
"""Hypothesis draws what the small worlds of the oracle leave out: hosts, services, admin policies, settings."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st
from oracle_worlds import (
    HERE,
    KEYS,
    NETS,
    VALUES,
    calico_policies,
    kubernetes_policies,
    label_selectors,
    labels,
    network_sets,
    profiles,
    some,
)

from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    AdminPort,
    AdminRule,
    EndpointSlice,
    Failsafe,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    PortRange,
    ServiceMatch,
    StagedAction,
    Tier,
)
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

__all__ = ["KEYS", "VALUES", "resources", "topology", "workloads"]
