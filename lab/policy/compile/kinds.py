# SPDX-License-Identifier: Apache-2.0
"""What a compiler can be told of: which kinds of resource, who each is, and what had better come first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from lab.policy.compile.labels import Source
from lab.policy.resources import (
    AdminPolicy,
    CalicoPolicy,
    EndpointSlice,
    FelixConfiguration,
    IpPool,
    KubernetesNetworkPolicy,
    NetworkSet,
    Policy,
    Profile,
    Resources,
    Service,
    Tier,
)
from lab.topology import Namespace, Topology, Workload

__all__ = ["Identity", "Resource", "Settings", "identity_of", "in_order"]

Settings = IpPool | FelixConfiguration
"""What holds for nodes, and not for endpoints one by one."""
Resource = Source | Namespace | Policy | Tier | Profile | Service | EndpointSlice | Settings
"""Whatever a compiler can be told of."""
Identity = tuple[str, str, str]
"""Kind, namespace ("" for none) and name."""


def identity_of(resource: Resource) -> Identity:
    """Kind, namespace and name: no two resources share them."""
    match resource:
        case Workload():
            return "Workload", resource.namespace, resource.short_name
        case FelixConfiguration():
            return "FelixConfiguration", "", resource.node or ""
        case CalicoPolicy() | KubernetesNetworkPolicy() | AdminPolicy():
            return resource.kind, resource.namespace or "", resource.name
        case NetworkSet() | Service() | EndpointSlice():
            return type(resource).__name__, resource.namespace or "", resource.name
        case _:
            return type(resource).__name__, "", resource.name


def in_order(topology: Topology, resources: Resources) -> Iterable[Resource]:
    """Everything, in the order in which it costs least to take it in: what is selected before what selects."""
    return chain(
        topology.namespaces.values(),
        resources.profiles,
        topology.workloads.values(),
        resources.host_endpoints,
        resources.network_sets,
        resources.services,
        resources.endpoint_slices,
        resources.ip_pools,
        resources.felix_configurations,
        resources.tiers,
        resources.policies,
    )
