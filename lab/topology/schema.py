# SPDX-License-Identifier: Apache-2.0
"""The format of topology files, key by key; what spans several keys is checked in ``lab.topology.load``."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from lab.protocols import PORT_PROTOCOLS, PROTOCOL_NAMES, protocol_number
from lab.schema import StrictModel, refusal
from lab.topology.model import Encapsulation, NodeKind
from lab.topology.syntax import (
    AddressText,
    InterfaceName,
    Ipv4Pool,
    Ipv6Pool,
    LabelKey,
    LabelValue,
    Name,
    PortName,
    ProfileName,
    WorkloadName,
)

__all__ = ["ExternalModel", "LinkModel", "NamespaceModel", "NodeModel", "PortModel", "TopologyModel", "WorkloadModel"]

Labels = dict[LabelKey, LabelValue]
Addresses = Annotated[list[AddressText], Field(min_length=1)]


def _port_protocol(text: str) -> str:
    if protocol_number(text) not in PORT_PROTOCOLS:
        allowed = ", ".join(PROTOCOL_NAMES[number] for number in sorted(PORT_PROTOCOLS))
        raise refusal("is not a protocol that an end can serve", allowed=allowed)
    return text


class PortModel(StrictModel):
    """A declared port; one without a name can be named by no policy."""

    name: PortName | None = None
    protocol: Annotated[str, AfterValidator(_port_protocol)] = "TCP"
    port: int = Field(ge=1, le=65535)


class PodPools(StrictModel):
    """Where workloads' addresses come from: a /16 of the range for benchmarks (RFC 2544), and unique-local IPv6."""

    ipv4: Ipv4Pool = IPv4Network("198.18.0.0/16")
    ipv6: Ipv6Pool = IPv6Network("fd00:18::/32")


class UnderlayPools(StrictModel):
    """Where the addresses of nodes and unaddressed externals come from."""

    ipv4: Ipv4Pool = IPv4Network("198.19.0.0/24")
    ipv6: Ipv6Pool = IPv6Network("fd00:19::/64")


KernelName = Literal["5.10", "6.1", "6.12", "newest"]
"""The kernels that machines can run: Debian's of four releases."""


class NodeModel(StrictModel):
    """A host of the cluster."""

    kind: NodeKind = "namespace"
    labels: Labels = Field(default_factory=dict)
    addresses: Addresses | None = None
    kernel: KernelName | None = None
    ssh: Annotated[str, Field(min_length=1)] | None = None


class ServiceAccountModel(StrictModel):
    """A service account of a namespace."""

    labels: Labels = Field(default_factory=dict)


class NamespaceModel(StrictModel):
    """A Kubernetes namespace."""

    labels: Labels = Field(default_factory=dict)
    service_accounts: dict[Name, ServiceAccountModel | None] = Field(default_factory=dict, alias="serviceAccounts")


class WorkloadModel(StrictModel):
    """A pod; its namespace and short name are in the key under which it stands."""

    node: str
    labels: Labels = Field(default_factory=dict)
    service_account: str | None = Field(None, alias="serviceAccount")
    addresses: Addresses | None = None
    ports: list[PortModel] = Field(default_factory=list)
    profiles: list[ProfileName] | None = None
    sidecar: Literal["envoy"] | None = None


class ExternalModel(StrictModel):
    """A host outside the cluster."""

    addresses: Addresses | None = None
    ports: list[PortModel] = Field(default_factory=list)


class LinkModel(StrictModel):
    """A wire besides the underlay; ``rate`` and ``loss`` have their place in the format, not yet in the lab."""

    between: Annotated[list[str], Field(min_length=2, max_length=2)]
    interface: InterfaceName
    mtu: int | None = Field(None, ge=1280, le=65535)  # 1280: what IPv6 needs (RFC 8200, section 5)
    rate: Any = None
    loss: Any = None


class TopologyModel(StrictModel):
    """A whole file."""

    name: Name | None = None
    pods: PodPools = PodPools()
    underlay: UnderlayPools = UnderlayPools()
    nodes: Annotated[dict[Name, NodeModel | None], Field(min_length=1)]
    namespaces: dict[Name, NamespaceModel | None] = Field(default_factory=dict)
    workloads: dict[WorkloadName, WorkloadModel] = Field(default_factory=dict)
    externals: dict[Name, ExternalModel | None] = Field(default_factory=dict)
    links: list[LinkModel] = Field(default_factory=list)
    encapsulation: Encapsulation = "none"
