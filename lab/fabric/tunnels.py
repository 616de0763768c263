# SPDX-License-Identifier: Apache-2.0
"""VXLAN between nodes, as Calico lays it: what goes to a workload of another node travels within the nodes' packets.

A device a family on each node, with a neighbour and a route for every workload that is elsewhere. Nothing is learnt:
where every workload is, is known. The devices have no addresses; what a node sends bears the node's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lab.errors import HostError
from lab.fabric.node import Node
from lab.topology import TUNNEL_INTERFACES, TUNNEL_PORT, Family, Topology, address_of
from lab.topology.flows import FAMILIES

__all__ = ["lay_tunnels"]

_NETWORK: Final = 4096
# Locally administered; the rest counts nodes.
_MAC_PREFIX: Final = "66:00:00:00"


def lay_tunnels(topology: Topology, nodes: Mapping[str, Node]) -> None:
    """Lay the tunnels of a topology that has any; raises HostError where the kernel knows no VXLAN."""
    if not topology.is_encapsulated:
        return
    for name, node in nodes.items():
        _run(node, ["ip", "-batch", "-"], _devices(topology, name))
        _run(node, ["bridge", "-batch", "-"], _forwarding(topology, name))


def _devices(topology: Topology, name: str) -> Iterator[str]:
    for family in FAMILIES:
        own, device = address_of(topology.nodes[name], family), TUNNEL_INTERFACES[family]
        if own is None:
            continue
        kind = f"vxlan id {_NETWORK} local {own} dstport {TUNNEL_PORT} nolearning"
        yield f"link add {device} address {_mac(topology, name)} type {kind}"
        yield f"link set {device} up"
        for workload in topology.workloads.values():
            address = address_of(workload, family)
            if address is not None and _is_reached(topology, workload.node, name, family):
                mac = _mac(topology, workload.node)
                yield f"neigh replace {address} lladdr {mac} nud permanent dev {device}"
                yield f"route replace {address} dev {device}"


def _forwarding(topology: Topology, name: str) -> Iterator[str]:
    for family in FAMILIES:
        for other, node in topology.nodes.items():
            address = address_of(node, family)
            if _is_reached(topology, other, name, family):
                yield f"fdb append {_mac(topology, other)} dst {address} dev {TUNNEL_INTERFACES[family]}"


def _is_reached(topology: Topology, node: str, name: str, family: Family) -> bool:
    """Whether there is a tunnel from a node to another one."""
    both = address_of(topology.nodes[name], family), address_of(topology.nodes[node], family)
    return node != name and None not in both


def _mac(topology: Topology, name: str) -> str:
    number = list(topology.nodes).index(name) + 1
    return f"{_MAC_PREFIX}:{number >> 8:02x}:{number & 0xFF:02x}"


def _run(node: Node, argv: list[str], lines: Iterator[str]) -> None:
    done = node.run(argv, stdin="".join(f"{line}\n" for line in lines))
    if done.returncode != 0:
        raise HostError(
            "tunnels between nodes cannot be had here",
            place=f"node {node.name}",
            value=done.stderr.strip(),
            next_step="leave 'encapsulation' out of the topology, or use a kernel with VXLAN",
        )
