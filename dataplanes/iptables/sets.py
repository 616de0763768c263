# SPDX-License-Identifier: Apache-2.0
"""Kernel sets of one family: which ones the rules of a snapshot need, and the text that makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dataplanes.api import DataplaneError, IpSet, Net, protocol_label
from dataplanes.iptables.names import SET_PREFIX, harmless, set_name

__all__ = ["Family", "KernelSet", "SetCollector", "restore_text"]

Family = Literal[4, 6]

_TYPES = {"net": "hash:net", "port": "hash:ip,port"}
# The kernel's default for maxelem; a set that is larger asks for its own size.
_DEFAULT_CAPACITY = 65536
_LEAST_BUCKETS = 64


@dataclass(frozen=True, slots=True)
class KernelSet:
    """A set as the kernel is to hold it; ``members`` are sorted texts."""

    name: str
    kind: Literal["net", "port"]
    family: Family
    members: tuple[str, ...]
    about: str


class SetCollector:
    """Resolves the sets that rules of one family refer to; ``sets`` holds by name those that were asked for."""

    def __init__(self, family: Family, ip_sets: Mapping[str, IpSet], prefix: str = SET_PREFIX) -> None:
        self._prefix = prefix
        self._family = family
        self._ip_sets = ip_sets
        self._names: dict[str, str] = {}
        self.sets: dict[str, KernelSet] = {}

    def named(self, set_id: str, kind: Literal["net", "port"]) -> str:
        """The kernel's name of one of the snapshot's sets; raises DataplaneError when the snapshot has no such set."""
        if set_id not in self._names:
            found = self._ip_sets.get(set_id)
            if found is None or found.kind != kind:
                raise DataplaneError(
                    f"a rule refers to a {kind} set that the snapshot does not hold",
                    value=set_id,
                    allowed=", ".join(sorted(self._ip_sets)) or "no sets",
                )
            self._names[set_id] = self._add(set_id, kind, _members(found, self._family), found.about)
        return self._names[set_id]

    def of_nets(self, nets: Iterable[Net]) -> str:
        """The kernel's name of a set made for a rule's own list of networks, none of prefix length 0."""
        return self._add("nets", "net", sorted(map(str, nets)), "networks of a rule")

    def _add(self, set_id: str, kind: Literal["net", "port"], members: list[str], about: str) -> str:
        name = set_name(set_id, self._family, "\n".join((set_id, kind, *members)), self._prefix)
        self.sets[name] = KernelSet(name, kind, self._family, tuple(members), about)
        return name


def _members(ip_set: IpSet, family: Family) -> list[str]:
    if ip_set.kind == "net":
        return sorted(str(net) for net in ip_set.nets if net.version == family)
    return sorted(
        f"{member.address},{str(protocol_label(member.protocol)).lower()}:{member.port}"
        for member in ip_set.ports
        if member.address.version == family
    )


def _created(kernel_set: KernelSet) -> str:
    size = len(kernel_set.members)
    buckets = max(_LEAST_BUCKETS, 1 << size.bit_length())
    family = "inet" if kernel_set.family == 4 else "inet6"
    return (
        f"create {kernel_set.name} {_TYPES[kernel_set.kind]} family {family} "
        f"hashsize {buckets} maxelem {max(_DEFAULT_CAPACITY, size)}"
    )


def restore_text(kernel_sets: Iterable[KernelSet]) -> str:
    """What ``ipset restore`` reads to make these sets with their members; "" when there are none."""
    lines = []
    for kernel_set in kernel_sets:
        lines.append(f"# {harmless(kernel_set.about)}")
        lines.append(_created(kernel_set))
        lines += [f"add {kernel_set.name} {member}" for member in kernel_set.members]
    return "".join(f"{line}\n" for line in lines)
