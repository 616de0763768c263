# SPDX-License-Identifier: Apache-2.0
"""Who is behind a service, by its EndpointSlices alone: no Service object need exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.policy.resources import EndpointSlice
from lab.topology import Address

__all__ = ["Served", "backends"]

Served = Mapping[tuple[str, str], frozenset[tuple[int, int]]]
"""The services of one address by (namespace, name), with the (protocol, port) at which it serves each."""


def backends(slices: Iterable[EndpointSlice]) -> dict[Address, Served]:
    """What each address serves; several slices of one service add up."""
    found: dict[Address, dict[tuple[str, str], frozenset[tuple[int, int]]]] = {}
    for part in slices:
        ports = frozenset((port.protocol, port.port) for port in part.ports)
        for address in part.addresses:
            served = found.setdefault(address, {})
            service = (part.namespace, part.service)
            served[service] = served.get(service, frozenset()) | ports
    return dict(found)
