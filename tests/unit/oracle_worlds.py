# SPDX-License-Identifier: Apache-2.0
"""Hypothesis draws small worlds: few labels and few values, so that most of what is drawn meets something."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from lab.errors import Place
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
    FelixConfiguration,
    IcmpMatch,
    IpBlock,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelRequirement,
    LabelSelector,
    NetworkSet,
    PortRange,
    Profile,
    ProtocolMatch,
    Resources,
    Rule,
    ServiceAccountMatch,
    ServiceMatch,
    StagedAction,
    Tier,
)
from lab.policy.selector import parse_selector
from lab.topology import External, Flow, IcmpHeader, Namespace, Node, Pools, Port, Topology, Workload

HERE = Place("world.yaml", 1, 1)
KEYS = ("k", "l")
VALUES = ("", "1", "2")
NAMES = ("http", "dns")
NUMBERS = (79, 80, 81)
NETS = tuple(
    map(
        ip_network,
        ("198.18.0.0/24", "198.18.0.2/31", "198.18.0.3/32", "203.0.113.0/24", "fd00:18::/64", "fd00:18::2/128"),
    )
)
POOLS = Pools(ip_network("198.18.0.0/16"), ip_network("fd00:18::/32"))


@dataclass(frozen=True)
class World:
    topology: Topology
    resources: Resources


def some(*values):
    return st.sampled_from(values)


labels = st.dictionaries(some(*KEYS), some(*VALUES), max_size=2)
nets = st.lists(some(*NETS), max_size=2, unique=True).map(tuple)


@st.composite
def selector_texts(draw, depth=2):
    if depth and draw(st.booleans()):
        joined = draw(some(" && ", " || ")).join(f"({draw(selector_texts(depth - 1))})" for _ in range(2))
        return draw(some(joined, f"!({joined})"))
    key, value = draw(some(*KEYS)), draw(some(*VALUES))
    return draw(
        some(
            "all()",
            f"has({key})",
            f"!has({key})",
            f"{key} == '{value}'",
            f"{key} != '{value}'",
            f"{key} in {{'{value}', '1'}}",
            f"{key} not in {{'{value}'}}",
            f"{key} contains '{value}'",
        )
    )


selectors = selector_texts().map(parse_selector)
maybe_selectors = st.none() | selectors
ports = st.lists(some(*NAMES, PortRange(80, 80), PortRange(80, 81)), max_size=2, unique=True).map(tuple)
accounts = st.one_of(
    st.none(),
    st.builds(ServiceAccountMatch, some(("u",), ("v",)), maybe_selectors),
    st.builds(ServiceAccountMatch, st.just(()), selectors),
)
namespace_selectors = maybe_selectors | st.just(parse_selector("global()"))


ENTITY_FIELDS = (
    "nets", "not_nets", "selector", "not_selector", "namespace_selector", "ports", "not_ports", "sa", "services",
)  # fmt: skip
services = st.builds(ServiceMatch, some("s", "t"), some("x", "y", None))


@st.composite
def entity_rules(draw):
    """A side that asks for little: every further criterion makes a match less likely."""
    asked = draw(
        st.sets(
            some(*ENTITY_FIELDS),
            max_size=2,
        )
    )
    if "services" in asked:
        asked -= {"ports", "not_ports"}  # the API refuses them together
    return EntityRule(
        nets=draw(nets) if "nets" in asked else (),
        not_nets=draw(nets) if "not_nets" in asked else (),
        selector=draw(selectors) if "selector" in asked else None,
        not_selector=draw(selectors) if "not_selector" in asked else None,
        namespace_selector=draw(namespace_selectors) if "namespace_selector" in asked else None,
        service_accounts=draw(accounts) if "sa" in asked else None,
        services=draw(services) if "services" in asked else None,
        ports=draw(ports) if "ports" in asked else (),
        not_ports=draw(ports) if "not_ports" in asked else (),
    )


protocols = st.none() | st.builds(ProtocolMatch, some(6, 6, 17, 1, 58), st.booleans())
icmp = st.none() | st.builds(IcmpMatch, some(0, 8, 128), some(None, 0, 1))


@st.composite
def rules(draw):
    protocol = draw(protocols)
    is_icmp = protocol is not None and protocol.number in (1, 58)
    return Rule(
        action=draw(some(Action.ALLOW, Action.ALLOW, Action.DENY, Action.DENY, Action.PASS, Action.LOG)),
        place=HERE,
        ip_version=draw(some(None, None, None, 4, 6)),
        protocol=protocol,
        not_protocol=draw(st.none() | st.none() | st.none() | protocols),
        icmp=draw(icmp) if is_icmp else None,
        not_icmp=draw(st.none() | st.none() | icmp),
        source=draw(entity_rules() | st.just(EntityRule())),
        destination=draw(entity_rules() | st.just(EntityRule())),
    )


rule_lists = st.lists(rules(), min_size=1, max_size=4).map(tuple)
directions = some(frozenset(Direction), frozenset(Direction), *(frozenset({direction}) for direction in Direction))


staged_actions = some(None, None, None, None, *StagedAction)


@st.composite
def calico_policies(draw):
    namespace = draw(some(None, "x", "y"))
    staged = draw(staged_actions)
    kind = "GlobalNetworkPolicy" if namespace is None else "NetworkPolicy"
    return CalicoPolicy(
        kind=kind if staged is None else f"Staged{kind}",
        staged=staged,
        name=draw(some("p", "q", "r-1", "r.1")),
        namespace=namespace,
        tier=draw(some("default", "default", "early", "late", "unknown")),
        order=draw(some(None, 1.0, 2.0, 1000.0)),
        selector=draw(st.just(parse_selector("")) | st.just(parse_selector("all()")) | selectors),
        namespace_selector=draw(st.none() | maybe_selectors) if namespace is None else None,
        service_account_selector=draw(st.none() | maybe_selectors),
        types=draw(directions),
        ingress=draw(rule_lists),
        egress=draw(rule_lists),
        place=HERE,
    )


requirements = st.builds(LabelRequirement, some(*KEYS), some("In", "NotIn"), st.tuples(some(*VALUES))) | st.builds(
    LabelRequirement, some(*KEYS), some("Exists", "DoesNotExist"), st.just(())
)
label_selectors = st.builds(LabelSelector, labels, st.lists(requirements, max_size=1).map(tuple))
pod_peers = st.builds(KubernetesPeer, st.none() | label_selectors, label_selectors, st.none()) | st.builds(
    KubernetesPeer, label_selectors, st.none(), st.none()
)
blocks = some(
    IpBlock(NETS[0], ()), IpBlock(NETS[0], (NETS[1],)), IpBlock(NETS[3], ()), IpBlock(NETS[4], (NETS[5],))
).map(lambda block: KubernetesPeer(None, None, block))
kubernetes_ports = some(
    KubernetesPort(6, 80, None),
    KubernetesPort(6, 80, 81),
    KubernetesPort(17, None, None),
    KubernetesPort(6, "http", None),
)
kubernetes_rules = st.builds(
    KubernetesRule,
    st.lists(pod_peers | blocks, max_size=2).map(tuple),
    st.lists(kubernetes_ports, max_size=2).map(tuple),
    st.just(HERE),
)
kubernetes_policies = st.builds(
    KubernetesNetworkPolicy,
    name=some("p", "q"),
    namespace=some("x", "y"),
    pod_selector=label_selectors,
    types=directions,
    ingress=st.lists(kubernetes_rules, max_size=2).map(tuple),
    egress=st.lists(kubernetes_rules, max_size=2).map(tuple),
    place=st.just(HERE),
    staged=staged_actions,
)

subjects = st.builds(AdminPeer, namespaces=label_selectors) | st.builds(
    AdminPeer, pods=st.tuples(label_selectors, label_selectors)
)
admin_peers = (
    subjects
    | subjects
    | st.builds(AdminPeer, networks=st.lists(some(*NETS), min_size=1, max_size=2, unique=True).map(tuple))
    | st.builds(AdminPeer, nodes=label_selectors)
    | some(AdminPeer(), AdminPeer(domain_names=("example.com",)))
)
admin_ports = some(
    AdminPort(protocol=6, ports=PortRange(80, 80)),
    AdminPort(protocol=6, ports=PortRange(79, 81)),
    AdminPort(protocol=17),
    AdminPort(name="http"),
    AdminPort(name="http"),
    AdminPort(),
)
admin_rules = st.lists(
    st.builds(
        AdminRule,
        st.just(""),
        some(Action.ALLOW, Action.DENY, Action.PASS),
        st.lists(admin_peers, min_size=1, max_size=2).map(tuple),
        st.lists(admin_ports, max_size=1).map(tuple),
        st.just(HERE),
    ),
    max_size=3,
).map(tuple)


@st.composite
def admin_policies(draw):
    kind = draw(some("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"))
    only = kind == "BaselineAdminNetworkPolicy"
    return AdminPolicy(
        kind=kind,
        name="default" if only else draw(some("p", "q")),
        baseline=only or (kind == "ClusterNetworkPolicy" and draw(st.booleans())),
        priority=0 if only else draw(some(0, 1, 2)),
        subject=draw(subjects),
        ingress=draw(admin_rules),
        egress=draw(admin_rules),
        place=HERE,
    )


policies = calico_policies() | kubernetes_policies | admin_policies()


def by_name(policy):
    return policy.kind, policy.namespace, policy.name


profiles = st.builds(Profile, some("open", "shut"), rule_lists, rule_lists, labels)
network_sets = st.builds(NetworkSet, some("s", "t"), some(None, "x", "y"), labels, nets, st.just(HERE))


slices = st.builds(
    EndpointSlice,
    name=st.just("s"),
    namespace=some("x", "y"),
    service=some("s", "t"),
    addresses=st.lists(
        some(*map(ip_address, ("198.18.0.1", "198.18.0.2", "203.0.113.9", "fd00:18::2"))), max_size=3
    ).map(tuple),
    ports=st.lists(some(Port("a", 6, 80), Port("b", 17, 80), Port("c", 6, 81)), max_size=2, unique=True).map(tuple),
    place=st.just(HERE),
)
configurations = st.builds(
    FelixConfiguration,
    node=some(None, "node-1", "node-2"),
    endpoint_to_host_action=st.none(),
    failsafe_inbound=st.none(),
    failsafe_outbound=st.none(),
    allow_vxlan_from_workloads=some(None, True, False),
    allow_ipip_from_workloads=some(None, True, False),
    vxlan_port=some(None, 4789, 80),
    drop_invalid=some(None, True, False),
    place=st.just(HERE),
    ip_forwarding=some(None, None, None, True, False),
    ipv6_support=some(None, None, True, False),
)


@st.composite
def all_resources(draw, policies=policies):
    return Resources(
        policies=tuple(draw(st.lists(policies, min_size=3, max_size=6, unique_by=by_name))),
        tiers=(
            Tier("early", draw(some(1.0, 1_000.0)), draw(st.booleans())),
            Tier("late", draw(some(None, 1e9)), draw(st.booleans())),
        ),
        profiles=tuple(draw(st.lists(profiles, min_size=1, max_size=2, unique_by=lambda profile: profile.name))),
        network_sets=tuple(
            draw(st.lists(network_sets, min_size=1, max_size=3, unique_by=lambda s: (s.namespace, s.name)))
        ),
        endpoint_slices=tuple(draw(st.lists(slices, max_size=3))),
        felix_configurations=tuple(draw(st.lists(configurations, max_size=2, unique_by=lambda c: c.node))),
    )


declared = st.lists(
    some(Port("http", 6, 80), Port("http", 6, 81), Port("http", 17, 80), Port("dns", 17, 80)), max_size=2, unique=True
)


@st.composite
def topologies(draw):
    def namespace(name):
        return Namespace(name, draw(labels), {account: draw(labels) for account in "uv"})

    def workload(index, home):
        addresses = ip_address("198.18.0.1") + index, ip_address("fd00:18::1") + index
        return Workload(
            home, f"w{index}", "node-1", draw(labels), draw(some(None, "u", "v")), addresses, tuple(draw(declared)),
            draw(some(None, None, None, (), ("open",), ("shut", "kns.x"), ("gone", "open"))), None,
        )  # fmt: skip

    found = [workload(index, home) for index, home in enumerate("xxy")]
    # Nobody runs there: to everybody else it is an address with a node's labels.
    far = Node("node-2", "namespace", draw(labels), (ip_address("203.0.113.2"), ip_address("2001:db8::2")))
    outside = External("client", (ip_address("203.0.113.9"), ip_address("2001:db8::9")), (Port("http", 6, 80),))
    return Topology(
        "world", POOLS, POOLS, {node.name: node for node in (Node("node-1", "namespace", {}, ()), far)},
        {name: namespace(name) for name in "xy"}, {w.name: w for w in found}, {"client": outside},
    )  # fmt: skip


def worlds(policies=policies):
    return st.builds(World, topologies(), all_resources(policies))


def flows_of(topology):
    """Every pair of ends with a handful of packets, one of each kind that the worlds' rules can tell apart."""
    ends = [*topology.workloads, *topology.externals]
    nodes = [node.name for node in topology.nodes.values() if node.addresses]
    packets = [
        (6, 80, None, None),
        (6, 81, 80, None),
        (17, 80, None, None),
        (17, 4789, None, None),
        (4, None, None, None),
    ]
    packets += [(1, None, None, IcmpHeader(0, 0)), (1, None, None, None), (58, None, None, None)]
    return [
        Flow(source, destination, protocol, port, family, source_port, header)
        for source in ends
        for destination in [*ends, *nodes]
        for family in (4, 6)
        for protocol, port, source_port, header in packets
    ]
