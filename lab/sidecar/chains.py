# SPDX-License-Identifier: Apache-2.0
"""The filter chains of a sidecar's two listeners: which connection is taken for what, and where it goes.

What a workload opens comes to the outbound listener, what is opened to it to the inbound one; both find the original
destination again and connect to it. Between two sidecars goes TLS, and its ALPN tells what is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from lab.topology import Address

__all__ = ["Gate", "Inside", "Sidecar", "clusters", "gates", "inbound_chains", "outbound_chains"]

Json = dict[str, Any]

_CONNECT_TIMEOUT: Final = "5s"
_TYPES: Final = "type.googleapis.com/envoy.extensions"
_NEVER: Final = "0s"


class Inside(Enum):
    """What is spoken on a connection; the value names it in ALPN, in clusters and in statistics."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Gate:
    """A filter that enforces policy: of requests or of other connections, of peers that prove who they are or not."""

    http: bool
    proven: bool

    @property
    def name(self) -> str:
        """The name of the filter, and of the file that holds its configuration."""
        return f"policylab-{'http' if self.http else 'tcp'}-{'proven' if self.proven else 'plain'}"

    @property
    def kind(self) -> str:
        """The type of its configuration."""
        return f"{_TYPES}.filters.{'http' if self.http else 'network'}.rbac.v3.RBAC"


def gates(*, tls: bool) -> tuple[Gate, ...]:
    """All gates of a sidecar."""
    return tuple(Gate(http, proven) for proven in ((False, True) if tls else (False,)) for http in (True, False))


# What the inspector of a connection's first bytes calls them.
_SNIFFED: Final = {Inside.HTTP1: ["http/1.0", "http/1.1"], Inside.HTTP2: ["h2c"]}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the chains of one sidecar depend on.

    ``directory`` is where its files are; ``tls`` tells whether sidecars speak TLS with each other; ``mesh`` are the
    addresses of all workloads that have one.
    """

    directory: str
    tls: bool
    mesh: tuple[Address, ...]


def inbound_chains(sidecar: Sidecar) -> Json:
    """TLS from other sidecars, HTTP in the clear, and whatever else there is; policy is asked in all of them."""
    chains: list[Json] = []
    for inside in Inside:
        if sidecar.tls:
            match = {"transport_protocol": "tls", "application_protocols": [_alpn(inside)]}
            socket = _tls(sidecar, "DownstreamTlsContext", {"require_client_certificate": True})
            filters = _inbound_filters(sidecar, inside, proven=True)
            chains.append({"filter_chain_match": match, "filters": filters, "transport_socket": socket})
        if inside is not Inside.TCP:
            match = {"transport_protocol": "raw_buffer", "application_protocols": _SNIFFED[inside]}
            chains.append({"filter_chain_match": match, "filters": _inbound_filters(sidecar, inside, proven=False)})
    # The default, and not one without conditions: Envoy settles on a transport before it looks for a protocol.
    other = {"name": "other", "filters": _inbound_filters(sidecar, Inside.TCP, proven=False)}
    return {"filter_chains": _named(chains), "default_filter_chain": other}


def outbound_chains(sidecar: Sidecar) -> Json:
    """To workloads with a sidecar by TLS, to everybody else as it came."""
    chains: list[Json] = []
    for inside in Inside:
        sniffed = {} if inside is Inside.TCP else {"application_protocols": _SNIFFED[inside]}
        if sidecar.tls:
            ranges = [{"address_prefix": str(each), "prefix_len": each.max_prefixlen} for each in sidecar.mesh]
            match = {"prefix_ranges": ranges, **sniffed}
            filters = _forwarding(sidecar, inside, _cluster_name("mesh", inside), [])
            chains.append({"filter_chain_match": match, "filters": filters})
        filters = _forwarding(sidecar, inside, _cluster_name("plain", inside), [])
        chains.append({"filter_chain_match": sniffed, "filters": filters})
    return {"filter_chains": _named(chains)}


def clusters(sidecar: Sidecar) -> list[Json]:
    """Where connections go on: to their original destination, one upstream for each downstream connection."""
    kinds = ("plain", "mesh") if sidecar.tls else ("plain",)
    return [_cluster(sidecar, kind, inside) for kind in kinds for inside in Inside]


def _named(chains: Sequence[Json]) -> list[Json]:
    return [{"name": f"chain-{number}", **chain} for number, chain in enumerate(chains)]


def _alpn(inside: Inside) -> str:
    return f"policylab-{inside.value}"


def _cluster_name(kind: str, inside: Inside) -> str:
    return f"{kind}-{inside.value}"


def _inbound_filters(sidecar: Sidecar, inside: Inside, *, proven: bool) -> list[Json]:
    gate = _discovered(sidecar, Gate(inside is not Inside.TCP, proven))
    return _forwarding(sidecar, inside, _cluster_name("plain", inside), [gate], inbound=True)


def _discovered(sidecar: Sidecar, gate: Gate) -> Json:
    """A filter whose configuration is a file: it changes in one step, and no connection is drained for it."""
    source = {
        "path_config_source": {
            "path": f"{sidecar.directory}/{gate.name}.json",
            "watched_directory": {"path": sidecar.directory},
        },
        "resource_api_version": "V3",
    }
    return {"name": gate.name, "config_discovery": {"config_source": source, "type_urls": [gate.kind]}}


def _forwarding(
    sidecar: Sidecar, inside: Inside, cluster: str, policy: list[Json], *, inbound: bool = False
) -> list[Json]:
    """The filters that pass on what a connection carries, with ``policy`` ahead of them."""
    common: Json = {
        "stat_prefix": f"{'inbound' if inbound else 'outbound'}-{inside.value}",
        "access_log": [_access_log(sidecar, inside, inbound=inbound)],
    }
    if inside is Inside.TCP:
        proxy = {"@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy", "cluster": cluster, **common}
        return [*policy, {"name": "tcp", "typed_config": {**proxy, "idle_timeout": _NEVER}}]
    router = {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}
    return [{"name": "http", "typed_config": _http(inside, cluster, [*policy, router], common, inbound=inbound)}]


def _http(inside: Inside, cluster: str, filters: list[Json], common: Json, *, inbound: bool) -> Json:
    """An HTTP proxy; inbound it brings paths to one form, so that policy and application read the same."""
    one_form = {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    }
    everything = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": _NEVER}}
    route = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]}
    return {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": inside.name,
        "http_filters": filters,
        "route_config": route,
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "stream_idle_timeout": _NEVER,
        # Who asks is who holds the connection, whatever a request's headers say of it.
        "use_remote_address": True,
        "skip_xff_append": True,
        **(one_form if inbound else {}),
        **common,
    }


def _access_log(sidecar: Sidecar, inside: Inside, *, inbound: bool) -> Json:
    line = {
        "direction": "inbound" if inbound else "outbound",
        "inside": inside.value,
        "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "to": "%DOWNSTREAM_LOCAL_ADDRESS%",
        "peer": "%DOWNSTREAM_PEER_URI_SAN%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "received": "%BYTES_RECEIVED%",
        "sent": "%BYTES_SENT%",
    }
    return {
        "name": "file",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": f"{sidecar.directory}/access.log",
            "log_format": {"json_format": line},
        },
    }


def _cluster(sidecar: Sidecar, kind: str, inside: Inside) -> Json:
    cluster: Json = {
        "name": _cluster_name(kind, inside),
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": _CONNECT_TIMEOUT,
        # A connection of its own for each that came: who has a new one has a new one all the way.
        "connection_pool_per_downstream_connection": True,
    }
    if inside is not Inside.TCP:
        version = "http2_protocol_options" if inside is Inside.HTTP2 else "http_protocol_options"
        options = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            options.removeprefix("type.googleapis.com/"): {"@type": options, "explicit_http_config": {version: {}}}
        }
    if kind == "mesh":
        cluster["transport_socket"] = _tls(sidecar, "UpstreamTlsContext", {}, _alpn(inside))
    return cluster


def _tls(sidecar: Sidecar, context: str, options: Json, alpn: str | None = None) -> Json:
    """TLS 1.3 with this sidecar's certificate, and only with peers whose certificate the lab's authority signed."""

    def file(name: str) -> Json:
        return {"filename": f"{sidecar.directory}/{name}"}

    common: Json = {
        "tls_params": dict.fromkeys(("tls_minimum_protocol_version", "tls_maximum_protocol_version"), "TLSv1_3"),
        "tls_certificates": [{"certificate_chain": file("certificate.pem"), "private_key": file("key.pem")}],
        "validation_context": {"trusted_ca": file("authority.pem")},
        **({} if alpn is None else {"alpn_protocols": [alpn]}),
    }
    kind = f"{_TYPES}.transport_sockets.tls.v3.{context}"
    return {"name": "tls", "typed_config": {"@type": kind, "common_tls_context": common, **options}}
