# SPDX-License-Identifier: Apache-2.0
"""What a topology file says, as frozen plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

from lab.errors import Place
from lab.protocols import TCP

__all__ = [
    "TUNNEL_INTERFACES",
    "TUNNEL_PORT",
    "Address",
    "Encapsulation",
    "End",
    "Endpoint",
    "External",
    "Link",
    "Namespace",
    "Net",
    "Node",
    "NodeKind",
    "Pools",
    "Port",
    "Topology",
    "Workload",
    "address_of",
]

Address = IPv4Address | IPv6Address
Net = IPv4Network | IPv6Network
NodeKind = Literal["namespace", "container", "machine"]
Encapsulation = Literal["none", "vxlan"]

TUNNEL_INTERFACES: Final = {4: "vxlan.calico", 6: "vxlan-v6.calico"}
"""By which device of a node what is encapsulated comes and goes, a family each."""
TUNNEL_PORT: Final = 4789
"""The UDP port of VXLAN."""


@dataclass(frozen=True, slots=True)
class Port:
    """A declared port of an end; ``protocol`` is an IP protocol number."""

    name: str
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Pools:
    """The two address ranges, one a family, from which addresses are drawn."""

    ipv4: IPv4Network
    ipv6: IPv6Network


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cluster; its interface on the underlay is ``eth0``."""

    name: str
    kind: NodeKind
    labels: Mapping[str, str]
    addresses: tuple[Address, ...]
    place: Place | None = field(default=None, compare=False)
    kernel: str | None = None
    """Of a machine: which kernel it runs, as the matrix names it; None for the usual one."""
    ssh: str | None = None
    """Of a machine that runs already: ``vagrant``, or the file that says how ssh reaches it; None for one to start."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A Kubernetes namespace with its labels and those of its service accounts."""

    name: str
    labels: Mapping[str, str]
    service_accounts: Mapping[str, Mapping[str, str]]
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod: an end behind a ``cali*`` interface of its node, named ``namespace/short_name``."""

    namespace: str
    short_name: str
    node: str
    labels: Mapping[str, str]
    service_account: str | None
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]
    profiles: tuple[str, ...] | None
    """Profiles given by the file; None means those of its namespace and service account."""
    sidecar: str | None
    place: Place | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The name under which flows and results speak of the workload: ``x/a``."""
        return f"{self.namespace}/{self.short_name}"

    @property
    def interface(self) -> str:
        """The node's end of its veth, named as Calico names it: 15 bytes, whatever the workload's name."""
        return "cali" + sha1(f"{self.namespace}.{self.short_name}".encode(), usedforsecurity=False).hexdigest()[:11]


@dataclass(frozen=True, slots=True)
class External:
    """A host outside the cluster, on the underlay."""

    name: str
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Link:
    """A wire between two nodes or externals besides the underlay; ``interface`` names it at both ends."""

    between: tuple[str, str]
    interface: str
    mtu: int | None
    place: Place | None = field(default=None, compare=False)


Endpoint = Workload | External
"""What can be an end of a default flow."""
End = Workload | External | Node
"""Whatever a flow may name as its source or destination."""


def address_of(end: End, family: int) -> Address | None:
    """The first address of an end in a family (4 or 6), or None when it has none there."""
    return next((address for address in end.addresses if address.version == family), None)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole topology; every mapping is keyed by the name of what it holds, in the file's order."""

    name: str
    pods: Pools
    underlay: Pools
    nodes: Mapping[str, Node]
    namespaces: Mapping[str, Namespace]
    workloads: Mapping[str, Workload]
    externals: Mapping[str, External]
    links: tuple[Link, ...] = ()
    file: str = "<topology>"
    encapsulation: Encapsulation = "none"

    @property
    def is_encapsulated(self) -> bool:
        """Whether what goes from a node to a workload of another node travels through a tunnel."""
        return self.encapsulation != "none"

    def end(self, name: str) -> End | None:
        """The workload, external or node of that name; names are unique over all three."""
        return self.workloads.get(name) or self.externals.get(name) or self.nodes.get(name)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Workloads, then externals: the ends of the default flows."""
        return (*self.workloads.values(), *self.externals.values())

    def plain_ports(self) -> frozenset[int]:
        """TCP ports on which sidecars look for no HTTP: all who declare them call them ``tcp`` or ``tcp-...``."""
        declared = [port for end in self.endpoints() for port in end.ports if port.protocol == TCP]
        others = {port.port for port in declared if not f"{port.name}-".startswith("tcp-")}
        return frozenset(port.port for port in declared) - others
