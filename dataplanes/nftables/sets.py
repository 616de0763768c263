# SPDX-License-Identifier: Apache-2.0
"""Sets: the snapshot's own, and those that lists of networks or ports in rules become.

What a rule lists is named after its content, so that rules with one list share one set. Every set of a table makes
``nft`` slower at every change (it reads them all); rules with sets of their own would cost most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Literal, Self

from dataplanes.api import DataplaneError, IpSet, Net, PortMember, PortRange, Snapshot
from dataplanes.nftables.names import digest, named
from dataplanes.nftables.parts import Scene, Set
from dataplanes.nftables.words import Family, Json, net_value

__all__ = ["ListedNets", "ListedPorts", "SnapshotSet"]

_ADDRESS: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
_PROTOCOL, _SERVICE = "inet_proto", "inet_service"


@dataclass(frozen=True, slots=True)
class SnapshotSet:
    """One family's part of a set of the snapshot."""

    set_id: str
    kind: Literal["net", "port"]
    family: Family

    @property
    def name(self) -> str:
        """``net4/ID`` or ``port6/ID``."""
        return named(f"{self.kind}{self.family}", self.set_id)

    def define(self, scene: Scene) -> Set:
        """The set; raises DataplaneError when the snapshot has no such set."""
        return self.content(scene.snapshot)

    def content(self, snapshot: Snapshot) -> Set:
        """The same, of a snapshot alone."""
        found = snapshot.ip_sets.get(self.set_id)
        if found is None or found.kind != self.kind:
            raise DataplaneError(
                f"a rule refers to a {self.kind} set that the snapshot does not hold",
                value=self.set_id,
                allowed=", ".join(sorted(snapshot.ip_sets)) or "no sets",
            )
        return self._of_nets(found) if self.kind == "net" else self._of_ports(found)

    def _of_nets(self, found: IpSet) -> Set:
        return _net_set(self.name, self.family, (net for net in found.nets if net.version == self.family))

    def _of_ports(self, found: IpSet) -> Set:
        members = sorted(member for member in found.ports if member.address.version == self.family)
        types = (_ADDRESS[self.family], _PROTOCOL, _SERVICE)
        return Set(self.name, types, {_port_text(member): _port_value(member) for member in members})


@dataclass(frozen=True, slots=True)
class ListedNets:
    """The networks of one family that a rule lists, none of prefix length 0, in order."""

    family: Family
    nets: tuple[Net, ...]

    @classmethod
    def of(cls, family: Family, nets: Iterable[Net]) -> Self:
        """The same set in whatever order a rule lists them."""
        return cls(family, tuple(sorted(nets, key=_place)))

    @property
    def name(self) -> str:
        """``nets4/HASH``."""
        return f"nets{self.family}/{digest(' '.join(map(str, self.nets)))}"

    def define(self, scene: Scene) -> Set:  # noqa: ARG002 - it says all by itself
        """The set."""
        return _net_set(self.name, self.family, self.nets)


@dataclass(frozen=True, slots=True)
class ListedPorts:
    """The port numbers and ranges that a rule lists, in order; ranges that meet are one."""

    ports: tuple[PortRange, ...]

    @classmethod
    def of(cls, ports: Iterable[PortRange]) -> Self:
        """The same set in whatever order a rule lists them."""
        return cls(tuple(_joined(ports)))

    @property
    def name(self) -> str:
        """``ports/HASH``."""
        return f"ports/{digest(' '.join(f'{found.first}-{found.last}' for found in self.ports))}"

    def define(self, scene: Scene) -> Set:  # noqa: ARG002 - it says all by itself
        """The set."""
        ranges = self.ports
        elements: dict[str, int | Json] = {
            f"{found.first}-{found.last}": found.first
            if found.first == found.last
            else {"range": [found.first, found.last]}
            for found in ranges
        }
        return Set(self.name, _SERVICE, elements, interval=any(found.first != found.last for found in ranges))


def _net_set(name: str, family: Family, nets: Iterable[Net]) -> Set:
    """A hash of addresses where there are no networks among them, otherwise intervals."""
    found = sorted(nets, key=_place)
    interval = any(net.prefixlen != net.max_prefixlen for net in found)
    kept = _widest(found) if interval else found
    return Set(name, _ADDRESS[family], {str(net): net_value(net) for net in kept}, interval=interval)


def _place(net: Net) -> tuple[int, int]:
    return int(net.network_address), net.prefixlen


def _widest(nets: Iterable[Net]) -> Iterator[Net]:
    """Sorted networks without those that lie in another one: the kernel's intervals do not overlap."""
    last = -1
    for net in nets:
        end = int(net.broadcast_address)
        if end > last:
            yield net
            last = end


def _joined(ports: Iterable[PortRange]) -> Iterator[PortRange]:
    """Ranges in order, those that overlap or follow one another as one."""
    current: PortRange | None = None
    for found in sorted(ports, key=attrgetter("first")):
        if current is None or found.first > current.last + 1:
            if current is not None:
                yield current
            current = found
        else:
            current = PortRange(current.first, max(current.last, found.last))
    if current is not None:
        yield current


def _port_text(member: PortMember) -> str:
    return f"{member.address},{member.protocol}:{member.port}"


def _port_value(member: PortMember) -> Json:
    return {"concat": [str(member.address), member.protocol, member.port]}
