# SPDX-License-Identifier: Apache-2.0
"""The shape of Calico's resources (projectcalico.org/v3): keys and types; what they may say is checked later."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lab.policy.read.models import CamelModel, Resource, StagedActionName

__all__ = [
    "EntityRuleModel",
    "GlobalNetworkPolicyModel",
    "GlobalPolicySpec",
    "HttpModel",
    "IcmpModel",
    "NetworkPolicyModel",
    "NetworkSetModel",
    "PolicySpec",
    "ProfileModel",
    "RuleModel",
    "ServiceAccountsModel",
    "ServicesModel",
    "StagedGlobalNetworkPolicyModel",
    "StagedNetworkPolicyModel",
    "TierModel",
]


class ServiceAccountsModel(CamelModel):
    """``serviceAccounts`` of one side of a rule."""

    names: list[str] = Field(default_factory=list)
    selector: str = ""


class ServicesModel(CamelModel):
    """``services`` of one side of a rule."""

    name: str = ""
    namespace: str = ""


class EntityRuleModel(CamelModel):
    """``source`` or ``destination`` of a rule."""

    nets: list[str] = Field(default_factory=list)
    not_nets: list[str] = Field(default_factory=list)
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    service_accounts: ServiceAccountsModel | None = None
    ports: list[Any] = Field(default_factory=list)
    not_ports: list[Any] = Field(default_factory=list)
    services: ServicesModel | None = None


class IcmpModel(CamelModel):
    """``icmp`` or ``notICMP``."""

    type: int | None = None
    code: int | None = None


class HttpPathModel(CamelModel):
    """One path of an ``http`` match."""

    exact: str | None = None
    prefix: str | None = None


class HttpModel(CamelModel):
    """An ``http`` match."""

    methods: list[str] = Field(default_factory=list)
    paths: list[HttpPathModel] = Field(default_factory=list)


class RuleMetadata(CamelModel):
    """``metadata`` of a rule: comments."""

    annotations: dict[str, str] = Field(default_factory=dict)


class RuleModel(CamelModel):
    """A rule of a policy or profile."""

    action: Literal["Allow", "Deny", "Pass", "Log"]
    ip_version: Literal[4, 6] | None = None
    protocol: Any = None
    not_protocol: Any = None
    icmp: IcmpModel | None = None
    not_icmp: IcmpModel | None = Field(default=None, alias="notICMP")
    source: EntityRuleModel | None = None
    destination: EntityRuleModel | None = None
    http: HttpModel | None = None
    metadata: RuleMetadata | None = None


class PolicySpec(CamelModel):
    """``spec`` of a NetworkPolicy."""

    tier: str = "default"
    order: float | None = None
    selector: str = ""
    service_account_selector: str = ""
    types: list[Literal["Ingress", "Egress"]] = Field(default_factory=list)
    ingress: list[RuleModel] = Field(default_factory=list)
    egress: list[RuleModel] = Field(default_factory=list)
    performance_hints: Any = None


class GlobalPolicySpec(PolicySpec):
    """``spec`` of a GlobalNetworkPolicy."""

    namespace_selector: str = ""
    do_not_track: bool = False
    pre_dnat: bool = Field(default=False, alias="preDNAT")
    apply_on_forward: bool = False


class NetworkPolicyModel(Resource):
    """A NetworkPolicy."""

    spec: PolicySpec = PolicySpec()


class GlobalNetworkPolicyModel(Resource):
    """A GlobalNetworkPolicy."""

    spec: GlobalPolicySpec = GlobalPolicySpec()


class StagedPolicySpec(PolicySpec):
    """``spec`` of a StagedNetworkPolicy."""

    staged_action: StagedActionName = "Set"


class StagedGlobalPolicySpec(GlobalPolicySpec):
    """``spec`` of a StagedGlobalNetworkPolicy."""

    staged_action: StagedActionName = "Set"


class StagedNetworkPolicyModel(Resource):
    """A StagedNetworkPolicy."""

    spec: StagedPolicySpec = StagedPolicySpec()


class StagedGlobalNetworkPolicyModel(Resource):
    """A StagedGlobalNetworkPolicy."""

    spec: StagedGlobalPolicySpec = StagedGlobalPolicySpec()


class NetworkSetSpec(CamelModel):
    """``spec`` of a NetworkSet or GlobalNetworkSet."""

    nets: list[str] = Field(default_factory=list)


class NetworkSetModel(Resource):
    """A NetworkSet or GlobalNetworkSet."""

    spec: NetworkSetSpec = NetworkSetSpec()


class TierSpec(CamelModel):
    """``spec`` of a Tier."""

    order: float | None = None
    default_action: Literal["Deny", "Pass"] = "Deny"


class TierModel(Resource):
    """A Tier."""

    spec: TierSpec = TierSpec()


class ProfileSpec(CamelModel):
    """``spec`` of a Profile."""

    ingress: list[RuleModel] = Field(default_factory=list)
    egress: list[RuleModel] = Field(default_factory=list)
    labels_to_apply: dict[str, str] = Field(default_factory=dict)


class ProfileModel(Resource):
    """A Profile."""

    spec: ProfileSpec = ProfileSpec()
