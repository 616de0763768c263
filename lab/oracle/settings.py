# SPDX-License-Identifier: Apache-2.0
"""What Felix is told on a node: FelixConfiguration, field by field, over its defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from lab.policy.resources import Failsafe, FelixConfiguration
from lab.protocols import TCP, UDP

__all__ = ["FelixSettings", "felix_settings"]

# The ports that keep a node reachable whatever its policy: ssh, DHCP, BGP, etcd, Typha and the API server.
_BOTH_WAYS = tuple(Failsafe(TCP, port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667))
_INBOUND = (Failsafe(TCP, 22), Failsafe(UDP, 68), *_BOTH_WAYS)
_OUTBOUND = (Failsafe(UDP, 53), Failsafe(UDP, 67), *_BOTH_WAYS)


@dataclass(frozen=True, slots=True)
class FelixSettings:
    """One node's settings; fields are named as those of FelixConfiguration (Felix: config/config_params.go)."""

    endpoint_to_host_action: Literal["Drop", "Return", "Accept"] = "Drop"
    failsafe_inbound: tuple[Failsafe, ...] = _INBOUND
    failsafe_outbound: tuple[Failsafe, ...] = _OUTBOUND
    allow_vxlan_from_workloads: bool = False
    allow_ipip_from_workloads: bool = False
    vxlan_port: int = 4789
    drop_invalid: bool = False
    """Felix's own default is to drop; the lab leaves such packets to policy unless a file says otherwise."""
    ip_forwarding: bool = True
    ipv6_support: bool = True


def felix_settings(configurations: Iterable[FelixConfiguration], node: str) -> FelixSettings:
    """The settings of a node: what its own configuration says, else the global one, else Felix's default."""
    near_last = sorted(
        (configuration for configuration in configurations if configuration.node in {None, node}),
        key=lambda configuration: configuration.node is not None,
    )
    said = {
        field.name: value
        for configuration in near_last
        for field in fields(FelixSettings)
        if (value := getattr(configuration, field.name)) is not None
    }
    return FelixSettings(**said)
