# SPDX-License-Identifier: Apache-2.0
"""Which host endpoint covers which interface: Felix leaves that to the driver."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dataplanes.api import Address, HostPolicy

__all__ = ["Host", "resolved"]


@dataclass(frozen=True, slots=True)
class Host:
    """A host endpoint; without an interface it covers the one that has one of the addresses."""

    policy: HostPolicy
    expected: frozenset[Address]


def resolved(hosts: Iterable[Host], addresses: Mapping[str, Collection[Address]]) -> dict[str, HostPolicy]:
    """One for each interface that one covers, the first by name; ``addresses`` are the node's by interface."""
    found: dict[str, HostPolicy] = {}
    for host in sorted(hosts, key=lambda each: each.policy.name):
        named = host.policy.interface
        covered = [named] if named else [name for name, own in addresses.items() if host.expected & {*own}]
        for interface in covered:
            found.setdefault(interface, replace(host.policy, interface=interface))
    return found
