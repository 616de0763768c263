# SPDX-License-Identifier: Apache-2.0
"""The resource types that compiler and oracle share: what the YAML says, checked and typed, nothing resolved."""

from __future__ import annotations

from dataclasses import dataclass

from lab.policy.resources.admin import AdminPeer, AdminPolicy, AdminPolicyKind, AdminPort, AdminRule
from lab.policy.resources.calico import CalicoPolicy, CalicoPolicyKind, NetworkSet, Profile, Tier
from lab.policy.resources.common import Action, Direction, PortRange, StagedAction
from lab.policy.resources.hosts import Failsafe, FelixConfiguration, HostEndpoint, IpPool
from lab.policy.resources.kubernetes import (
    IpBlock,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelRequirement,
    LabelSelector,
)
from lab.policy.resources.rules import (
    EntityRule,
    HttpMatch,
    HttpPath,
    IcmpMatch,
    PortMatch,
    ProtocolMatch,
    Rule,
    ServiceAccountMatch,
    ServiceMatch,
)
from lab.policy.resources.services import EndpointSlice, Service, ServicePort

__all__ = [
    "Action",
    "AdminPeer",
    "AdminPolicy",
    "AdminPolicyKind",
    "AdminPort",
    "AdminRule",
    "CalicoPolicy",
    "CalicoPolicyKind",
    "Direction",
    "EndpointSlice",
    "EntityRule",
    "Failsafe",
    "FelixConfiguration",
    "HostEndpoint",
    "HttpMatch",
    "HttpPath",
    "IcmpMatch",
    "IpBlock",
    "IpPool",
    "KubernetesNetworkPolicy",
    "KubernetesPeer",
    "KubernetesPort",
    "KubernetesRule",
    "LabelRequirement",
    "LabelSelector",
    "NetworkSet",
    "Policy",
    "PortMatch",
    "PortRange",
    "Profile",
    "ProtocolMatch",
    "Resources",
    "Rule",
    "Service",
    "ServiceAccountMatch",
    "ServiceMatch",
    "ServicePort",
    "StagedAction",
    "Tier",
]

Policy = CalicoPolicy | KubernetesNetworkPolicy | AdminPolicy


@dataclass(frozen=True, slots=True)
class Resources:
    """All resources of one run, in the order in which they were read; the built-in tiers are not among them."""

    policies: tuple[Policy, ...] = ()
    tiers: tuple[Tier, ...] = ()
    profiles: tuple[Profile, ...] = ()
    network_sets: tuple[NetworkSet, ...] = ()
    host_endpoints: tuple[HostEndpoint, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    ip_pools: tuple[IpPool, ...] = ()
    felix_configurations: tuple[FelixConfiguration, ...] = ()
