# SPDX-License-Identifier: Apache-2.0
"""Node ports of Services, resolved: what arrives at a node's address and where the lab's DNAT sends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.policy.resources import EndpointSlice, Resources, Service, ServicePort
from lab.topology import Address, Family
from lab.topology.flows import FAMILIES

__all__ = ["NodePort", "node_ports"]


@dataclass(frozen=True, slots=True)
class NodePort:
    """What comes to ``port`` of any node in a family goes on to ``backend_port`` of ``backend``.

    Where ``backend`` is None nobody is behind it, and the port is not the node's own either: nothing arrives.
    """

    family: Family
    protocol: int
    port: int
    backend: Address | None = None
    backend_port: int = 0


def node_ports(resources: Resources) -> tuple[NodePort, ...]:
    """The node ports of all services, one for each family; behind it is the first ready address, if there is one."""
    return tuple(
        node_port
        for service in resources.services
        for port in service.ports
        if port.node_port is not None
        for node_port in _resolved(resources, service, port, port.node_port)
    )


def _resolved(resources: Resources, service: Service, port: ServicePort, number: int) -> Iterator[NodePort]:
    slices = [
        each
        for each in resources.endpoint_slices
        if (each.namespace, each.service) == (service.namespace, service.name)
    ]
    for family in FAMILIES:
        behind = next(_backends(slices, port, family), ())
        yield NodePort(family, port.protocol, number, *behind)


def _backends(slices: list[EndpointSlice], port: ServicePort, family: int) -> Iterator[tuple[Address, int]]:
    """Addresses of a family with the port that the slice has under the service port's name."""
    for each in slices:
        for served in each.ports:
            if (served.name, served.protocol) == (port.name, port.protocol):
                yield from ((address, served.port) for address in each.addresses if address.version == family)
