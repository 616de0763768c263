# SPDX-License-Identifier: Apache-2.0
"""Which host endpoint covers which interface of a node, and what holds for the node as a whole.

Sources: felix/dataplane/linux/endpoint_mgr.go (one endpoint an interface), felix/config/config_params.go (defaults),
calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeVar

from lab.policy.resources import Failsafe, FelixConfiguration, HostEndpoint, IpPool
from lab.policy.snapshot import FailsafePort, NodeSettings
from lab.protocols import TCP, UDP
from lab.topology import TUNNEL_INTERFACES, Address, Node, Topology

__all__ = ["ALL_INTERFACES", "covering_endpoints", "interfaces_of", "node_settings"]

ALL_INTERFACES = "*"
_UNDERLAY_INTERFACE = "eth0"
_LOOPBACK: Mapping[str, tuple[Address, ...]] = {"lo": (IPv4Address("127.0.0.1"), IPv6Address("::1"))}

# What keeps a cluster alive whatever its policies say: etcd, the API server, Typha, Kubernetes and BGP.
_COMMON = tuple(Failsafe(TCP, port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667))
_FAILSAFE_INBOUND = (Failsafe(TCP, 22), Failsafe(UDP, 68), *_COMMON)
_FAILSAFE_OUTBOUND = (Failsafe(UDP, 53), Failsafe(UDP, 67), *_COMMON)

_ACTIONS: Mapping[str | None, Literal["drop", "return", "accept"]] = {
    None: "drop",
    "Drop": "drop",
    "Return": "return",
    "Accept": "accept",
}
_Given = TypeVar("_Given")


def interfaces_of(node: Node, topology: Topology) -> dict[str, tuple[Address, ...]]:
    """A node's interfaces that are no workload's, by name, with their addresses: links have none of their own."""
    links = {link.interface: () for link in topology.links if node.name in link.between}
    tunnels: dict[str, tuple[Address, ...]] = dict.fromkeys(TUNNEL_INTERFACES.values(), ())
    return {_UNDERLAY_INTERFACE: node.addresses, **_LOOPBACK, **links, **(tunnels if topology.is_encapsulated else {})}


def covering_endpoints(
    interfaces: Mapping[str, tuple[Address, ...]], endpoints: Iterable[HostEndpoint]
) -> dict[str, HostEndpoint]:
    """The one endpoint of each interface: of all that claim it, the first by name.

    One that names no interface claims those that have one of its addresses. "*" is a key of its own: the endpoint
    of every interface without another.
    """
    covering: dict[str, HostEndpoint] = {}
    for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.name):
        for interface in _claimed(endpoint, interfaces):
            covering.setdefault(interface, endpoint)
    return covering


def _claimed(endpoint: HostEndpoint, interfaces: Mapping[str, tuple[Address, ...]]) -> list[str]:
    if endpoint.interface == ALL_INTERFACES:
        return [ALL_INTERFACES]
    if endpoint.interface is not None:
        return [endpoint.interface] if endpoint.interface in interfaces else []
    expected = set(endpoint.expected_ips)
    return [interface for interface, addresses in interfaces.items() if not expected.isdisjoint(addresses)]


def node_settings(
    node: str, configurations: Iterable[FelixConfiguration], pools: Iterable[IpPool], topology: Topology
) -> NodeSettings:
    """What holds on a node: field by field its own configuration, then the global one, then Felix's default.

    A disabled pool is one from which no more addresses are given; it keeps its part in what is masqueraded.
    """
    heard = sorted(
        (found for found in configurations if found.node in (None, node)), key=lambda found: found.node is None
    )
    inbound = _first(found.failsafe_inbound for found in heard)
    outbound = _first(found.failsafe_outbound for found in heard)
    ordered = sorted(pools, key=lambda pool: pool.name)
    return NodeSettings(
        _ACTIONS[_first(found.endpoint_to_host_action for found in heard)],
        _ports(_FAILSAFE_INBOUND if inbound is None else inbound),
        _ports(_FAILSAFE_OUTBOUND if outbound is None else outbound),
        allow_vxlan_from_workloads=bool(_first(found.allow_vxlan_from_workloads for found in heard)),
        allow_ipip_from_workloads=bool(_first(found.allow_ipip_from_workloads for found in heard)),
        vxlan_port=_first(found.vxlan_port for found in heard) or NodeSettings().vxlan_port,
        drop_invalid=bool(_first(found.drop_invalid for found in heard)),
        ipv6=_first(found.ipv6_support for found in heard) is not False,
        tunnel_peers=tuple(_peers(topology)),
        masquerade=tuple(pool.cidr for pool in ordered if pool.nat_outgoing),
        pools=tuple(pool.cidr for pool in ordered),
    )


def _peers(topology: Topology) -> Iterator[Address]:
    for node in topology.nodes.values() if topology.is_encapsulated else ():
        yield from node.addresses


def _first(values: Iterable[_Given | None]) -> _Given | None:
    """The first value that is given."""
    return next((value for value in values if value is not None), None)


def _ports(failsafes: Iterable[Failsafe]) -> tuple[FailsafePort, ...]:
    return tuple(FailsafePort(failsafe.protocol, failsafe.port, failsafe.net) for failsafe in failsafes)
