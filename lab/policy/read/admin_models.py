# SPDX-License-Identifier: Apache-2.0
"""The shape of the admin policies (policy.networking.k8s.io): keys and types.

The peers and ports of a rule are plain mappings at first: one of a kind that nobody knows must be read, not
refused. ``PeerModel``, ``PortModel`` and ``ProtocolModel`` check those whose kind is known.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lab.policy.read.kubernetes_models import LabelSelectorModel
from lab.policy.read.models import CamelModel, Resource

__all__ = [
    "AdminNetworkPolicyModel",
    "AdminSpec",
    "BaselineAdminNetworkPolicyModel",
    "BaselineSpec",
    "ClusterNetworkPolicyModel",
    "ClusterSpec",
    "DestinationPortModel",
    "NamespacedPodModel",
    "PeerModel",
    "PortModel",
    "ProtocolModel",
    "RuleModel",
    "SubjectModel",
]

_Protocol = Literal["TCP", "UDP", "SCTP"]


class NamespacedPodModel(CamelModel):
    """Pods of namespaces."""

    namespace_selector: LabelSelectorModel = LabelSelectorModel()
    pod_selector: LabelSelectorModel


class SubjectModel(CamelModel):
    """``subject``: whom a policy is for."""

    namespaces: LabelSelectorModel | None = None
    pods: NamespacedPodModel | None = None


class PeerModel(SubjectModel):
    """One entry of ``from`` or ``to``; the last three are of ``to`` alone."""

    networks: list[str] | None = None
    nodes: LabelSelectorModel | None = None
    domain_names: list[str] | None = None


class PortNumberModel(CamelModel):
    """``portNumber`` of a port."""

    protocol: _Protocol = "TCP"
    port: int


class RangeModel(CamelModel):
    """A range of ports."""

    start: int
    end: int


class PortRangeModel(RangeModel):
    """``portRange`` of a port."""

    protocol: _Protocol = "TCP"


class PortModel(CamelModel):
    """One entry of ``ports`` (v1alpha1)."""

    port_number: PortNumberModel | None = None
    port_range: PortRangeModel | None = None
    named_port: str | None = None


class DestinationPortModel(CamelModel):
    """``destinationPort`` of a protocol: either of the two."""

    number: int | None = None
    range: RangeModel | None = None


class ProtocolPortModel(CamelModel):
    """What ``tcp``, ``udp`` and ``sctp`` hold."""

    destination_port: DestinationPortModel | None = None


class ProtocolModel(CamelModel):
    """One entry of ``protocols`` (v1alpha2 and v1beta1)."""

    tcp: ProtocolPortModel | None = None
    udp: ProtocolPortModel | None = None
    sctp: ProtocolPortModel | None = None
    destination_named_port: str | None = None


class RuleModel(CamelModel):
    """What all rules have in common; ``peers`` are named from or to, ``ports`` also protocols."""

    name: str = ""
    action: str
    peers: list[dict[str, Any]]
    ports: list[dict[str, Any]] | None = None


class AdminIngressModel(RuleModel):
    """An ingress rule of v1alpha1."""

    peers: list[dict[str, Any]] = Field(alias="from")


class AdminEgressModel(RuleModel):
    """An egress rule of v1alpha1."""

    peers: list[dict[str, Any]] = Field(alias="to")


class ClusterIngressModel(RuleModel):
    """An ingress rule of v1alpha2 and v1beta1."""

    peers: list[dict[str, Any]] = Field(alias="from")
    ports: list[dict[str, Any]] | None = Field(default=None, alias="protocols")


class ClusterEgressModel(RuleModel):
    """An egress rule of v1alpha2 and v1beta1."""

    peers: list[dict[str, Any]] = Field(alias="to")
    ports: list[dict[str, Any]] | None = Field(default=None, alias="protocols")


class BaselineSpec(CamelModel):
    """``spec`` of a BaselineAdminNetworkPolicy."""

    subject: SubjectModel
    ingress: list[AdminIngressModel] = Field(default_factory=list)
    egress: list[AdminEgressModel] = Field(default_factory=list)


class AdminSpec(CamelModel):
    """``spec`` of an AdminNetworkPolicy."""

    priority: int
    subject: SubjectModel
    ingress: list[AdminIngressModel] = Field(default_factory=list)
    egress: list[AdminEgressModel] = Field(default_factory=list)


class ClusterSpec(CamelModel):
    """``spec`` of a ClusterNetworkPolicy."""

    tier: Literal["Admin", "Baseline"]
    priority: int
    subject: SubjectModel
    ingress: list[ClusterIngressModel] = Field(default_factory=list)
    egress: list[ClusterEgressModel] = Field(default_factory=list)


class AdminNetworkPolicyModel(Resource):
    """An AdminNetworkPolicy."""

    spec: AdminSpec


class BaselineAdminNetworkPolicyModel(Resource):
    """A BaselineAdminNetworkPolicy."""

    spec: BaselineSpec


class ClusterNetworkPolicyModel(Resource):
    """A ClusterNetworkPolicy."""

    spec: ClusterSpec
