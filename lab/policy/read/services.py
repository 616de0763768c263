# SPDX-License-Identifier: Apache-2.0
"""Services with their node ports, and the EndpointSlices that say who stands behind them."""

from __future__ import annotations

from lab.policy.read.service_models import (
    EndpointSliceModel,
    EndpointSlicePortModel,
    ServiceModel,
    ServicePortModel,
    ServiceSpec,
)
from lab.policy.read.source import Path, Refusal, Source
from lab.policy.read.values import dns_label, ip, port_name, port_number
from lab.policy.resources import EndpointSlice, Service, ServicePort
from lab.protocols import SCTP, TCP, UDP
from lab.topology import Address, Port

__all__ = ["read_endpoint_slice", "read_service"]

_PORTS: Path = ("spec", "ports")
_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
_FAMILIES = {"IPv4": 4, "IPv6": 6}
_SERVICE_NAME = "kubernetes.io/service-name"
_HEADLESS = "None"
_MAX_ADDRESSES = 100
_MAX_ENDPOINTS = 1000
_MAX_SLICE_PORTS = 100


def read_service(source: Source, namespace: str | None) -> Service | None:
    """Read a Service of v1; None when its shape is wrong."""
    model = source.check(ServiceModel)
    if model is None or namespace is None:
        return None
    spec = model.spec
    if spec.external_traffic_policy == "Local":
        source.refuse(
            ("spec", "externalTrafficPolicy"),
            "is not modelled: every node takes traffic for every endpoint",
            allowed="Cluster, or no such key",
        )
    _check_ports(source, spec)
    ports = tuple(_service_port(source, (*_PORTS, index), port) for index, port in enumerate(spec.ports))
    return Service(model.metadata.name, namespace, ports, source.place())


def _check_ports(source: Source, spec: ServiceSpec) -> None:
    """Refuse ports that the API server would not take together."""
    if not spec.ports and spec.type != "ExternalName" and spec.cluster_ip != _HEADLESS:
        source.refuse(("spec",), "has no ports", key=True)
    for index, port in enumerate(spec.ports):
        before = spec.ports[:index]
        if not port.name and len(spec.ports) > 1:
            source.refuse((*_PORTS, index), "needs a name, as there are several ports")
        elif port.name in [other.name for other in before]:
            source.refuse((*_PORTS, index, "name"), "is given twice")
        if (port.protocol, port.port) in [(other.protocol, other.port) for other in before]:
            source.refuse((*_PORTS, index, "port"), "is given twice")
        if port.node_port is not None and spec.type not in ("NodePort", "LoadBalancer"):
            at = (*_PORTS, index, "nodePort")
            source.refuse(at, f"cannot stand in a service of type {spec.type}", key=True, next_step="type: NodePort")


def _service_port(source: Source, path: Path, model: ServicePortModel) -> ServicePort:
    if model.name:
        source.read((*path, "name"), dns_label, model.name)
    source.read((*path, "port"), port_number, model.port)
    if isinstance(model.target_port, str):
        source.read((*path, "targetPort"), port_name, model.target_port)
    elif model.target_port:
        source.read((*path, "targetPort"), port_number, model.target_port)
    if model.node_port:
        source.read((*path, "nodePort"), port_number, model.node_port)
    return ServicePort(
        name=model.name,
        protocol=_PROTOCOLS[model.protocol],
        port=model.port,
        target=model.target_port or model.port,
        node_port=model.node_port or None,
    )


def read_endpoint_slice(source: Source, namespace: str | None) -> EndpointSlice | None:
    """Read an EndpointSlice of discovery.k8s.io/v1; None when its shape is wrong.

    Endpoints that are not ready are left out, and so are ports without a number (they stand for all ports).
    """
    model = source.check(EndpointSliceModel)
    if model is None or namespace is None:
        return None
    source.limit(("endpoints",), model.endpoints, _MAX_ENDPOINTS)
    source.limit(("ports",), model.ports, _MAX_SLICE_PORTS)
    ports = [_slice_port(source, ("ports", index), port) for index, port in enumerate(model.ports)]
    return EndpointSlice(
        name=model.metadata.name,
        namespace=namespace,
        service=model.metadata.labels.get(_SERVICE_NAME, ""),
        addresses=_addresses(source, model),
        ports=tuple(port for port in ports if port is not None),
        place=source.place(),
    )


def _addresses(source: Source, model: EndpointSliceModel) -> tuple[Address, ...]:
    """The addresses of all ready endpoints; those of the others are checked as well."""
    ready: list[Address] = []
    for index, endpoint in enumerate(model.endpoints):
        at = ("endpoints", index, "addresses")
        source.limit(at, endpoint.addresses, _MAX_ADDRESSES)
        if not endpoint.addresses:
            source.refuse(at, "has no entry, and needs one", key=True)
        addresses = source.read_all(at, lambda text: _address(text, model.address_type), endpoint.addresses)
        if endpoint.conditions.ready:
            ready.extend(addresses)
    return tuple(ready)


def _address(text: str, address_type: str) -> Address:
    address = ip(text)
    if address.version != _FAMILIES[address_type]:
        raise Refusal(f"is not of the slice's addressType {address_type}")
    return address


def _slice_port(source: Source, path: Path, model: EndpointSlicePortModel) -> Port | None:
    if model.name:
        source.read((*path, "name"), dns_label, model.name)
    if model.port is None:
        return None
    source.read((*path, "port"), port_number, model.port)
    return Port(model.name, _PROTOCOLS[model.protocol], model.port)
