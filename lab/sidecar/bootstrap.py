# SPDX-License-Identifier: Apache-2.0
"""What an Envoy is started with: its two listeners, its clusters, and an admin interface that no packet reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from lab.sidecar.chains import Sidecar, clusters, inbound_chains, outbound_chains

__all__ = ["ADMIN", "INBOUND_PORT", "OUTBOUND_PORT", "bootstrap"]

OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
"""Istio's ports: what a workload sends, and what comes to it."""
ADMIN: Final = "admin"
"""The file name of the admin interface's socket."""

Json = dict[str, Any]

_LISTENER_FILTERS: Final = "type.googleapis.com/envoy.extensions.filters.listener"
# For ever, as Istio has it: what a connection is taken for must not depend on how busy the machine is.
_LISTEN_FOR: Final = "0s"


def bootstrap(sidecar: Sidecar, tcp_ports: Sequence[int]) -> str:
    """The bootstrap file, as JSON; on ``tcp_ports`` no HTTP is looked for."""
    original, http = _filter("original_dst", "OriginalDst"), _filter("http_inspector", "HttpInspector")
    tls = [_filter("tls_inspector", "TlsInspector")] if sidecar.tls else []
    looking = http | _not_on(tcp_ports)
    listeners = [
        _listener("outbound", OUTBOUND_PORT, [original, looking], outbound_chains(sidecar)),
        _listener("inbound", INBOUND_PORT, [original, *tls, looking], inbound_chains(sidecar)),
    ]
    return json.dumps(
        {
            "node": {"id": "policylab", "cluster": "policylab"},
            "admin": {"address": {"pipe": {"path": f"{sidecar.directory}/{ADMIN}", "mode": 0o600}}},
            "static_resources": {"listeners": listeners, "clusters": clusters(sidecar)},
            # Envoy warns of a proxy without such a limit.
            "overload_manager": _NO_LIMIT,
        }
    )


_NO_LIMIT: Final[Json] = {
    "resource_monitors": [
        {
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                ".downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": 1 << 20,
            },
        }
    ]
}


def _listener(name: str, port: int, filters: list[Json], chains: Json) -> Json:
    return {
        "name": name,
        "address": _address("0.0.0.0", port),  # noqa: S104 - of the workload's own namespace
        "additional_addresses": [{"address": _address("::", port)}],
        "listener_filters": filters,
        "listener_filters_timeout": _LISTEN_FOR,
        **chains,
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _filter(name: str, kind: str) -> Json:
    return {"name": name, "typed_config": {"@type": f"{_LISTENER_FILTERS}.{name}.v3.{kind}"}}


def _not_on(ports: Sequence[int]) -> Json:
    rules: list[Json] = [{"destination_port_range": {"start": port, "end": port + 1}} for port in ports]
    if not rules:
        return {}
    return {"filter_disabled": rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}}
