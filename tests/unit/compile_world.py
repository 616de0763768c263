# SPDX-License-Identifier: Apache-2.0
"""Small topologies and policies, built by hand, for the tests of the compiler."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from lab.errors import Place
from lab.policy.compile import compile_snapshots
from lab.policy.resources import (
    Action,
    CalicoPolicy,
    Direction,
    EntityRule,
    NetworkSet,
    Policy,
    PortRange,
    Profile,
    ProtocolMatch,
    Resources,
    Rule,
    Tier,
)
from lab.policy.selector import parse_selector
from lab.policy.snapshot import EndpointPolicy, IpSet, Snapshot, SnapshotRule
from lab.topology import Namespace, Node, Pools, Port, Topology, Workload

HERE = Place("policies.yaml", 1, 1)
INGRESS = frozenset({Direction.INGRESS})
EGRESS = frozenset({Direction.EGRESS})
TCP = ProtocolMatch(6, by_name=True)
UDP = ProtocolMatch(17, by_name=True)

NAMESPACES = {
    "x": Namespace("x", {"team": "red"}, {"web": {"role": "front"}}),
    "y": Namespace("y", {"team": "blue"}, {}),
}


def workload(name, number, labels=None, *, node="node-1", account=None, ports=(), profiles=None):
    namespace, short = name.split("/")
    addresses = (ip_address(f"198.18.0.{number}"), ip_address(f"fd00:18::{number:x}"))
    return Workload(namespace, short, node, labels or {}, account, addresses, tuple(ports), profiles, None)


def topology(*workloads):
    nodes = {name: Node(name, "namespace", {}, ()) for name in ("node-1", "node-2")}
    pools = Pools(ip_network("198.18.0.0/16"), ip_network("fd00:18::/32"))
    return Topology("t", pools, pools, nodes, NAMESPACES, {w.name: w for w in workloads}, {})


def side(selector=None, negative=None, namespaces=None, **others):
    def parsed(text):
        return None if text is None else parse_selector(text)

    return EntityRule(
        selector=parsed(selector), not_selector=parsed(negative), namespace_selector=parsed(namespaces), **others
    )


def nets(*texts):
    return tuple(map(ip_network, texts))


def port(name, number, protocol=6):
    return Port(name, protocol, number)


def rule(action=Action.ALLOW, **fields):
    return Rule(action, HERE, **fields)


def policy(name, *ingress, namespace=None, selector="all()", egress=(), types=INGRESS, **fields):
    settings = {"tier": "default", "order": None, "namespace_selector": None, "service_account_selector": None}
    settings |= fields
    for key in ("namespace_selector", "service_account_selector"):
        if isinstance(settings[key], str):
            settings[key] = parse_selector(settings[key])
    kind = "GlobalNetworkPolicy" if namespace is None else "NetworkPolicy"
    return CalicoPolicy(
        kind=kind,
        name=name,
        namespace=namespace,
        selector=parse_selector(selector),
        types=types,
        ingress=tuple(ingress),
        egress=tuple(egress),
        place=HERE,
        **settings,
    )


def network_set(name, labels, *cidrs, namespace=None):
    return NetworkSet(name, namespace, labels, nets(*cidrs), HERE)


def compiled(workloads, *policies: Policy, tiers=(), profiles=(), network_sets=(), node="node-1") -> Snapshot:
    resources = Resources(tuple(policies), tuple(tiers), tuple(profiles), tuple(network_sets))
    return compile_snapshots(topology(*workloads), resources)[node]


def endpoint(snapshot: Snapshot, name: str) -> EndpointPolicy:
    return next(found for found in snapshot.endpoints.values() if found.workload == name)


def only_rule(snapshot: Snapshot) -> SnapshotRule:
    (found,) = (rule for policy in snapshot.policies.values() for rule in (*policy.ingress, *policy.egress))
    return found


def source_set(snapshot: Snapshot) -> IpSet:
    (set_id,) = only_rule(snapshot).source.sets
    return snapshot.ip_sets[set_id]


def members_v4(ip_set: IpSet) -> set[str]:
    """The last numbers of the IPv4 workload addresses, and other networks as they are, that a net set holds."""
    return {str(net).removesuffix("/32") for net in ip_set.nets if net.version == 4}


def port_members_v4(ip_set: IpSet) -> set[tuple[str, int, int]]:
    return {(str(m.address), m.protocol, m.port) for m in ip_set.ports if m.address.version == 4}


__all__ = [
    "EGRESS",
    "HERE",
    "INGRESS",
    "NAMESPACES",
    "TCP",
    "UDP",
    "PortRange",
    "Profile",
    "Tier",
    "compiled",
    "endpoint",
    "members_v4",
    "nets",
    "network_set",
    "only_rule",
    "policy",
    "port",
    "port_members_v4",
    "rule",
    "side",
    "source_set",
    "topology",
    "workload",
]
