# SPDX-License-Identifier: Apache-2.0
"""Which address every end has: those that the file gives, checked, and for the rest the next free one of a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from lab.document import Document, Step
from lab.errors import LabError, TopologyError
from lab.topology.model import Address, Net, Pools

__all__ = ["AddressBook", "check_pools"]

Path = tuple[Step, ...]


def check_pools(document: Document, pods: Pools, underlay: Pools) -> list[LabError]:
    """Tell which pools share addresses."""
    pairs: tuple[tuple[str, Net, Net], ...] = (("ipv4", pods.ipv4, underlay.ipv4), ("ipv6", pods.ipv6, underlay.ipv6))
    errors: list[LabError] = []
    for family, of_pods, of_underlay in pairs:
        if of_pods.overlaps(of_underlay):
            given = "underlay" if family in (document.value.get("underlay") or {}) else "pods"
            errors.append(
                TopologyError(
                    f"the {family} pools overlap: pods {of_pods}, underlay {of_underlay}",
                    place=document.place((given, family)),
                    next_step="give pods and underlay networks of their own",
                )
            )
    return errors


@dataclass(slots=True)
class AddressBook:
    """Who has which address. First ``claim`` all that are given, then ``draw`` the others."""

    document: Document
    errors: list[LabError] = field(default_factory=list)
    _owners: dict[Address, Path] = field(default_factory=dict)
    _drawing: dict[Net, Iterator[Address]] = field(default_factory=dict)

    def claim(self, path: Path, addresses: Sequence[Address], pools: Pools, *, not_from: Pools | None = None) -> None:
        """Note the addresses of the end at ``path``: they lie in its pools, or anywhere outside of ``not_from``."""
        for index, address in enumerate(addresses):
            at, pool = (*path, "addresses", index), _of_family(pools, address)
            if not_from is None and address not in pool:
                self._error(at, f"the address {address} is outside its pool", f"an address of {pool}")
            elif not_from is not None and address in (other := _of_family(not_from, address)):
                self._error(at, f"the address {address} is inside the workloads' pool {other}", "one outside of it")
            elif address in _edges(pool):
                self._error(at, f"{address} is the network or broadcast address of {pool}", "a host address")
            elif address in self._owners:
                owner = self._owners[address]
                self._error(at, f"the address {address} is given twice: {owner[-1]} has it too", "one end an address")
            self._owners.setdefault(address, path)

    def draw(self, path: Path, pools: Pools) -> tuple[Address, ...]:
        """Give the end at ``path`` the next free address of each family."""
        return tuple(self._next(path, pool) for pool in (pools.ipv4, pools.ipv6))

    def _next(self, path: Path, pool: Net) -> Address:
        if pool not in self._drawing:
            self._drawing[pool] = _hosts(pool)
        for address in self._drawing[pool]:
            if address not in self._owners:
                self._owners[address] = path
                return address
        raise TopologyError(
            f"the pool {pool} is too small: no address is left for {path[-1]}",
            place=self.document.place(path, key=True),
            next_step="give a larger pool under pods or underlay, or the end its own addresses",
        )

    def _error(self, path: Path, what: str, allowed: str) -> None:
        self.errors.append(TopologyError(what, place=self.document.place(path), allowed=allowed))


def _of_family(pools: Pools, address: Address) -> Net:
    return pools.ipv4 if address.version == 4 else pools.ipv6


def _edges(pool: Net) -> tuple[Address, ...]:
    """Tell the addresses of a pool that no host can have: network and IPv4 broadcast, where there is room for them."""
    if pool.max_prefixlen - pool.prefixlen < 2:
        return ()
    return (pool.network_address, pool.broadcast_address) if pool.version == 4 else (pool.network_address,)


def _hosts(pool: Net) -> Iterator[Address]:
    edges = _edges(pool)
    for number in range(int(pool.network_address), int(pool.broadcast_address) + 1):
        address = IPv4Address(number) if pool.version == 4 else IPv6Address(number)
        if address not in edges:
            yield address
