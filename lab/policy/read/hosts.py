# SPDX-License-Identifier: Apache-2.0
"""What concerns hosts: host endpoints and address pools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from lab.policy.read.host_models import HostEndpointModel, HostPortModel, IpPoolModel, IpPoolSpec
from lab.policy.read.source import Path, Refusal, Source
from lab.policy.read.values import (
    calico_port_name,
    check_labels,
    dns_subdomain,
    ip,
    port_number,
    protocol_match,
    rule_net,
)
from lab.policy.resources import HostEndpoint, IpPool
from lab.protocols import PORT_PROTOCOLS, PROTOCOL_NAMES
from lab.topology import Net, Port

__all__ = ["pass_over_controllers", "read_host_endpoint", "read_ip_pool"]

_SPEC: Path = ("spec",)
_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_BLOCK_SIZES = {4: (20, 32, 26), 6: (116, 128, 122)}
"""Smallest and largest prefix of an address block by family, and the default."""
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))


def read_host_endpoint(source: Source, _: str | None) -> HostEndpoint | None:
    """Read a HostEndpoint; None when its shape is wrong."""
    model = source.check(HostEndpointModel)
    if model is None:
        return None
    spec = model.spec
    check_labels(source, ("metadata", "labels"), model.metadata.labels)
    source.known((*_SPEC, "node"), spec.node, "a node", source.topology.nodes)
    source.read_all((*_SPEC, "profiles"), dns_subdomain, spec.profiles)
    if spec.interface_name:
        source.read((*_SPEC, "interfaceName"), _interface, spec.interface_name)
    elif not spec.expected_ips:
        source.refuse(_SPEC, "names no interface", key=True, allowed="interfaceName, expectedIPs, or both")
    return HostEndpoint(
        name=model.metadata.name,
        node=spec.node,
        interface=spec.interface_name or None,
        expected_ips=source.read_all((*_SPEC, "expectedIPs"), ip, spec.expected_ips),
        labels=model.metadata.labels,
        profiles=tuple(spec.profiles),
        ports=_ports(source, spec.ports),
        place=source.place(),
    )


def pass_over_controllers(source: Source, _: str | None) -> None:
    """Refuse a KubeControllersConfiguration that has host endpoints made; nothing else in one concerns the lab."""
    at = (*_SPEC, "controllers", "node", "hostEndpoint", "autoCreate")
    if source.value(at) == "Enabled":
        source.refuse(
            at,
            "would have a host endpoint made for every node, which the lab does not do",
            allowed="Disabled, or no such key",
            next_step='write HostEndpoints with interfaceName: "*" and profiles: [projectcalico-default-allow]',
        )


def _interface(name: str) -> str:
    if name != "*" and not _INTERFACE.fullmatch(name):
        raise Refusal(
            "is not the name of an interface",
            allowed="at most 15 letters, digits, '.', '_' and '-'; or \"*\" for all interfaces",
        )
    return name


def _ports(source: Source, models: Sequence[HostPortModel]) -> tuple[Port, ...]:
    ports = []
    for index, model in enumerate(models):
        at = (*_SPEC, "ports", index)
        name = source.read((*at, "name"), calico_port_name, model.name)
        number = source.read((*at, "port"), port_number, model.port)
        protocol = source.read((*at, "protocol"), _port_protocol, model.protocol)
        if name is not None and number is not None and protocol is not None:
            ports.append(Port(name, protocol, number))
    return tuple(ports)


def _port_protocol(value: object) -> int:
    """The protocol of a declared port, which must have ports."""
    number = protocol_match(value).number
    if number not in PORT_PROTOCOLS:
        allowed = ", ".join(name for known, name in PROTOCOL_NAMES.items() if known in PORT_PROTOCOLS)
        raise Refusal("has no ports", allowed=allowed)
    return number


def read_ip_pool(source: Source, _: str | None) -> IpPool | None:
    """Read an IPPool; None when its shape is wrong, and for one that no end's address can come from."""
    model = source.check(IpPoolModel)
    if model is None:
        return None
    spec = model.spec
    cidr = source.read((*_SPEC, "cidr"), rule_net, spec.cidr)
    for key, text in (("nodeSelector", spec.node_selector), ("namespaceSelector", spec.namespace_selector)):
        source.selector((*_SPEC, key), text)
    if cidr is None:
        return None
    _check_cidr(source, cidr, spec)
    _check_modes(source, cidr, spec)
    if set(spec.allowed_uses) == {"LoadBalancer"}:
        return None
    return IpPool(model.metadata.name, cidr, spec.nat_outgoing, spec.disabled, source.place())


def _check_cidr(source: Source, cidr: Net, spec: IpPoolSpec) -> None:
    smallest, largest, default = _BLOCK_SIZES[cidr.version]
    block = default if spec.block_size is None else spec.block_size
    at = (*_SPEC, "cidr")
    if not smallest <= block <= largest:
        allowed = f"{smallest} to {largest} for IPv{cidr.version}"
        source.refuse((*_SPEC, "blockSize"), "is out of range", allowed=allowed)
    elif cidr.prefixlen > block:
        source.refuse(at, "is smaller than one block", allowed=f"a prefix of at most {block}, the blockSize")
    if any(cidr.version == net.version and cidr.overlaps(net) for net in _LINK_LOCAL):
        source.refuse(at, "holds link-local addresses", allowed="a network without them")


def _check_modes(source: Source, cidr: Net, spec: IpPoolSpec) -> None:
    at = (*_SPEC, "ipipMode")
    if spec.ipip_mode == "Never":
        return
    if cidr.version != 4:
        source.refuse(at, "of an IPv6 pool is fixed", allowed="Never")
    elif spec.vxlan_mode != "Never":
        source.refuse(at, "cannot stand beside vxlanMode", allowed="Never in one of the two")
