# SPDX-License-Identifier: Apache-2.0
"""The shape of the Kubernetes NetworkPolicy (networking.k8s.io/v1), and of Calico's staged one: keys and types."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lab.policy.read.models import CamelModel, Resource, StagedActionName

__all__ = [
    "EgressModel",
    "IngressModel",
    "IpBlockModel",
    "KubernetesNetworkPolicyModel",
    "KubernetesPolicySpec",
    "LabelSelectorModel",
    "PeerModel",
    "PortModel",
    "RequirementModel",
    "StagedKubernetesNetworkPolicyModel",
    "StagedKubernetesPolicySpec",
]


class RequirementModel(CamelModel):
    """One of ``matchExpressions``."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = Field(default_factory=list)


class LabelSelectorModel(CamelModel):
    """A label selector."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: list[RequirementModel] = Field(default_factory=list)


class IpBlockModel(CamelModel):
    """``ipBlock`` of a peer."""

    cidr: str
    except_: list[str] = Field(default_factory=list, alias="except")


class PeerModel(CamelModel):
    """One entry of ``from`` or ``to``."""

    pod_selector: LabelSelectorModel | None = None
    namespace_selector: LabelSelectorModel | None = None
    ip_block: IpBlockModel | None = None


class PortModel(CamelModel):
    """One entry of ``ports``."""

    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class IngressModel(CamelModel):
    """An ingress rule."""

    peers: list[PeerModel] = Field(default_factory=list, alias="from")
    ports: list[PortModel] = Field(default_factory=list)


class EgressModel(CamelModel):
    """An egress rule."""

    peers: list[PeerModel] = Field(default_factory=list, alias="to")
    ports: list[PortModel] = Field(default_factory=list)


class KubernetesPolicySpec(CamelModel):
    """``spec`` of a NetworkPolicy."""

    pod_selector: LabelSelectorModel = LabelSelectorModel()
    policy_types: list[Literal["Ingress", "Egress"]] = Field(default_factory=list)
    ingress: list[IngressModel] = Field(default_factory=list)
    egress: list[EgressModel] = Field(default_factory=list)


class KubernetesNetworkPolicyModel(Resource):
    """A NetworkPolicy."""

    spec: KubernetesPolicySpec = KubernetesPolicySpec()


class StagedKubernetesPolicySpec(KubernetesPolicySpec):
    """``spec`` of a StagedKubernetesNetworkPolicy."""

    staged_action: StagedActionName = "Set"


class StagedKubernetesNetworkPolicyModel(Resource):
    """A StagedKubernetesNetworkPolicy."""

    spec: StagedKubernetesPolicySpec = StagedKubernetesPolicySpec()
