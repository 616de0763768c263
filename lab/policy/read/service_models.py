# SPDX-License-Identifier: Apache-2.0
"""The shape of Service (v1) and EndpointSlice (discovery.k8s.io/v1): keys and types.

What is declared as Any says nothing that a lab has a use for.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lab.policy.read.models import CamelModel, Resource

__all__ = ["EndpointSliceModel", "EndpointSlicePortModel", "ServiceModel", "ServicePortModel", "ServiceSpec"]

_Protocol = Literal["TCP", "UDP", "SCTP"]


class ServicePortModel(CamelModel):
    """A port of a Service."""

    name: str = ""
    protocol: _Protocol = "TCP"
    port: int
    target_port: int | str | None = None
    node_port: int | None = None
    app_protocol: Any = None


class ServiceSpec(CamelModel):
    """``spec`` of a Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    ports: list[ServicePortModel] = Field(default_factory=list)
    external_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    selector: dict[str, str] = Field(default_factory=dict)
    allocate_load_balancer_node_ports: Any = None
    cluster_ip: Any = Field(default=None, alias="clusterIP")
    cluster_ips: Any = Field(default=None, alias="clusterIPs")
    external_ips: Any = Field(default=None, alias="externalIPs")
    external_name: Any = None
    health_check_node_port: Any = None
    internal_traffic_policy: Any = None
    ip_families: Any = None
    ip_family_policy: Any = None
    load_balancer_class: Any = None
    load_balancer_ip: Any = Field(default=None, alias="loadBalancerIP")
    load_balancer_source_ranges: Any = None
    publish_not_ready_addresses: Any = None
    session_affinity: Any = None
    session_affinity_config: Any = None
    traffic_distribution: Any = None


class ServiceModel(Resource):
    """A Service."""

    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(CamelModel):
    """``conditions`` of an endpoint; an unknown readiness counts as ready."""

    ready: bool = True
    serving: Any = None
    terminating: Any = None


class EndpointModel(CamelModel):
    """One of the ``endpoints`` of a slice."""

    addresses: list[str]
    conditions: EndpointConditions = EndpointConditions()
    deprecated_topology: Any = None
    hints: Any = None
    hostname: Any = None
    node_name: Any = None
    target_ref: Any = None
    zone: Any = None


class EndpointSlicePortModel(CamelModel):
    """One of the ``ports`` of a slice."""

    name: str = ""
    protocol: _Protocol = "TCP"
    port: int | None = None
    app_protocol: Any = None


class EndpointSliceModel(Resource):
    """An EndpointSlice, which has no spec."""

    address_type: Literal["IPv4", "IPv6"]
    endpoints: list[EndpointModel] = Field(default_factory=list)
    ports: list[EndpointSlicePortModel] = Field(default_factory=list)
