# SPDX-License-Identifier: Apache-2.0
"""Services with their node ports, and who stands behind them."""

from __future__ import annotations

from dataclasses import dataclass

from lab.errors import Place
from lab.topology import Address, Port

__all__ = ["EndpointSlice", "Service", "ServicePort"]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; ``protocol`` is a number, ``target`` a port's number or name."""

    name: str
    protocol: int
    port: int
    target: int | str
    node_port: int | None


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service; only its node ports concern the lab, and who is behind it say its EndpointSlices."""

    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Addresses behind a service; ``service`` is the value of the label kubernetes.io/service-name.

    ``ports`` hold name, protocol number and port; endpoints that are not ready are not among ``addresses``.
    """

    name: str
    namespace: str
    service: str
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]
    place: Place
