# SPDX-License-Identifier: Apache-2.0
"""What concerns nodes: host endpoints, address pools and how Felix is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.topology import Address, Net, Port

__all__ = ["Failsafe", "FelixConfiguration", "HostEndpoint", "IpPool"]


@dataclass(frozen=True, slots=True)
class HostEndpoint:
    """An interface of a node under policy; ``interface`` "*" is all that have no endpoint of their own.

    None for ``interface``: the one that holds one of ``expected_ips``.
    """

    name: str
    node: str
    interface: str | None
    expected_ips: tuple[Address, ...]
    labels: Mapping[str, str]
    profiles: tuple[str, ...]
    ports: tuple[Port, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class IpPool:
    """An address pool; what leaves a ``nat_outgoing`` pool for no pool is masqueraded by its node.

    A pool that only load balancers draw from is no pool in this sense, and never among the resources.
    """

    name: str
    cidr: Net
    nat_outgoing: bool
    disabled: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Failsafe:
    """A failsafe port; ``net`` limits the remote side, None does not."""

    protocol: int
    port: int
    net: Net | None = None


@dataclass(frozen=True, slots=True)
class FelixConfiguration:
    """The fields that change a verdict; None where the file does not say (then Felix's default holds).

    ``node`` None is the global one (named ``default``); ``node.NAME`` speaks for that node, field by field.
    """

    node: str | None
    endpoint_to_host_action: Literal["Drop", "Return", "Accept"] | None
    failsafe_inbound: tuple[Failsafe, ...] | None
    failsafe_outbound: tuple[Failsafe, ...] | None
    allow_vxlan_from_workloads: bool | None
    allow_ipip_from_workloads: bool | None
    vxlan_port: int | None
    drop_invalid: bool | None
    """Whether packets that conntrack calls invalid are dropped ahead of policy (``disableConntrackInvalidCheck``
    false, said in so many words); not said, policy alone decides on them."""
    place: Place
    ip_forwarding: bool | None = None
    """Whether the node passes anything on (``ipForwarding``)."""
    ipv6_support: bool | None = None

    @property
    def name(self) -> str:
        """The name that tells Felix for whom it is."""
        return "default" if self.node is None else f"node.{self.node}"
