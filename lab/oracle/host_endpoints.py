# SPDX-License-Identifier: Apache-2.0
"""Which host endpoint polices which interface of a node (Felix: dataplane/linux/endpoint_mgr.go)."""

from __future__ import annotations

from collections.abc import Mapping

from lab.oracle.world import Party
from lab.policy.resources import HostEndpoint, Resources
from lab.topology import Node, Topology

__all__ = ["ETH0", "LOOPBACK", "HostEndpoints"]

ETH0 = "eth0"
"""The interface of a node by which it reaches all others: no other one but the loopback has addresses."""
LOOPBACK = "lo"

_EVERY_OTHER = "*"


class HostEndpoints:
    """The host endpoints of all nodes; ``parties`` are those of :class:`World`, by name."""

    def __init__(self, topology: Topology, resources: Resources, parties: Mapping[str, Party]) -> None:
        self._parties = parties
        self._nodes = topology.nodes
        # Where several could have an interface, the first by name has it.
        self._by_node: dict[str, list[HostEndpoint]] = {}
        for endpoint in sorted(resources.host_endpoints, key=lambda endpoint: endpoint.name):
            self._by_node.setdefault(endpoint.node, []).append(endpoint)
        self.policed = frozenset(self._by_node)
        """The nodes that have any."""
        self._known: dict[tuple[str, str], Party | None] = {}

    def own(self, node: str, interface: str) -> Party | None:
        """The endpoint of one interface alone: it has its name, or no name and an address that is there."""
        known = (node, interface)
        if known not in self._known:
            self._known[known] = self._first(node, interface)
        return self._known[known]

    def every_other(self, node: str) -> Party | None:
        """The endpoint of all interfaces without an own one, workloads' interfaces among them."""
        return self.own(node, _EVERY_OTHER)

    def on(self, node: str, interface: str) -> Party | None:
        """The endpoint of an interface, its own or that of every other."""
        return self.own(node, interface) or self.every_other(node)

    def _first(self, node: str, interface: str) -> Party | None:
        for endpoint in self._by_node.get(node, ()):
            by_address = endpoint.interface is None and _has_address(self._nodes[node], interface, endpoint)
            if endpoint.interface == interface or by_address:
                return self._parties[endpoint.name]
        return None


def _has_address(node: Node, interface: str, endpoint: HostEndpoint) -> bool:
    if interface == LOOPBACK:
        return any(address.is_loopback for address in endpoint.expected_ips)
    return interface == ETH0 and not set(endpoint.expected_ips).isdisjoint(node.addresses)
