# SPDX-License-Identifier: Apache-2.0
"""A node's settings, from Felix's configuration and IP pools."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, cast

from dataplanes.api import FailsafePort, Net, NodeSettings
from dataplanes.external.felix.names import failsafe

__all__ = ["settings_of"]

_EVERYWHERE: Final = "tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667"
# What holds where Felix is told nothing (felix/config): it sends what it was told.
_FAILSAFES: Final = {
    "FailsafeInboundHostPorts": f"tcp:22,udp:68,{_EVERYWHERE}",
    "FailsafeOutboundHostPorts": f"udp:53,udp:67,{_EVERYWHERE}",
}


def settings_of(config: Mapping[str, str], pools: Collection[tuple[Net, bool]]) -> NodeSettings:
    """The settings; ``pools`` are networks, and whether what leaves them is masqueraded."""

    def is_on(key: str, *, default: bool) -> bool:
        return config.get(key, str(default)).lower() == "true"

    def failsafes(key: str) -> tuple[FailsafePort, ...]:
        text = config.get(key) or _FAILSAFES[key]
        return () if text.lower() == "none" else tuple(map(failsafe, text.split(",")))

    action = config.get("DefaultEndpointToHostAction", "DROP").lower()
    return NodeSettings(
        cast('Literal["drop", "return", "accept"]', action),
        failsafes("FailsafeInboundHostPorts"),
        failsafes("FailsafeOutboundHostPorts"),
        allow_vxlan_from_workloads=is_on("AllowVXLANPacketsFromWorkloads", default=False),
        allow_ipip_from_workloads=is_on("AllowIPIPPacketsFromWorkloads", default=False),
        vxlan_port=int(config.get("VXLANPort", "4789")),
        drop_invalid=not is_on("DisableConntrackInvalidCheck", default=False),
        ipv6=is_on("Ipv6Support", default=True),
        masquerade=tuple(net for net, masquerade in pools if masquerade),
        pools=tuple(net for net, _ in pools),
    )
