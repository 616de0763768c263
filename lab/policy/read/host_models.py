# SPDX-License-Identifier: Apache-2.0
"""The shape of Calico's HostEndpoint, IPPool and FelixConfiguration: keys and types."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lab.policy.read.models import CamelModel, Resource

__all__ = ["FelixConfigurationModel", "HostEndpointModel", "HostPortModel", "IpPoolModel", "IpPoolSpec"]

_EncapsulationMode = Literal["Always", "CrossSubnet", "Never"]


class HostPortModel(CamelModel):
    """A named port of a host endpoint."""

    name: str
    protocol: Any
    port: int


class HostEndpointSpec(CamelModel):
    """``spec`` of a HostEndpoint."""

    node: str
    interface_name: str = ""
    expected_ips: list[str] = Field(default_factory=list, alias="expectedIPs")
    profiles: list[str] = Field(default_factory=list)
    ports: list[HostPortModel] = Field(default_factory=list)


class HostEndpointModel(Resource):
    """A HostEndpoint."""

    spec: HostEndpointSpec


class IpPoolSpec(CamelModel):
    """``spec`` of an IPPool."""

    cidr: str
    nat_outgoing: bool = False
    disabled: bool = False
    block_size: int | None = None
    ipip_mode: _EncapsulationMode = "Never"
    vxlan_mode: _EncapsulationMode = "Never"
    node_selector: str = ""
    namespace_selector: str = ""
    allowed_uses: list[Literal["Workload", "Tunnel", "LoadBalancer"]] = Field(default_factory=list)
    assignment_mode: Literal["Automatic", "Manual"] = "Automatic"
    disable_bgp_export: bool = Field(default=False, alias="disableBGPExport")


class IpPoolModel(Resource):
    """An IPPool."""

    spec: IpPoolSpec


class FelixConfigurationModel(Resource):
    """A FelixConfiguration, whose some two hundred fields are read one by one."""

    spec: dict[str, Any] = Field(default_factory=dict)
