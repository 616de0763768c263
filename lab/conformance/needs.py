# SPDX-License-Identifier: Apache-2.0
"""Which capabilities a dataplane must have to be held to a policy or a flow, both as documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dataplanes.api import Capability
from lab.protocols import ICMP, ICMPV6, SCTP, TCP, UDP, protocol_number

__all__ = ["FAMILIES", "families_of", "needed_by_document", "needed_by_flow"]

FAMILIES = {"ipv4": Capability.IPV4, "ipv6": Capability.IPV6}
_PROTOCOLS = {
    TCP: Capability.TCP,
    UDP: Capability.UDP,
    SCTP: Capability.SCTP,
    ICMP: Capability.ICMP,
    ICMPV6: Capability.ICMP,
}
_FAMILY_OF_ICMP = {ICMP: "ipv4", ICMPV6: "ipv6"}

_OF_KIND = {
    "Tier": Capability.TIERS,
    "Profile": Capability.PROFILES,
    "NetworkSet": Capability.NETWORK_SETS,
    "GlobalNetworkSet": Capability.NETWORK_SETS,
    "HostEndpoint": Capability.HOST_ENDPOINTS,
    "FelixConfiguration": Capability.HOST_ENDPOINTS,
    "AdminNetworkPolicy": Capability.ADMIN_POLICIES,
    "BaselineAdminNetworkPolicy": Capability.ADMIN_POLICIES,
    "ClusterNetworkPolicy": Capability.ADMIN_POLICIES,
}
_OF_FIELD = {
    "natOutgoing": Capability.NAT_OUTGOING,
    "preDNAT": Capability.PRE_DNAT,
    "doNotTrack": Capability.DO_NOT_TRACK,
    "applyOnForward": Capability.APPLY_ON_FORWARD,
}
_PORT_FIELDS = frozenset({"ports", "notPorts", "port", "namedPort", "destinationNamedPort"})
# Here a name is what the port is called, and no reference to one.
_DECLARE_PORTS = frozenset({"Service", "EndpointSlice", "HostEndpoint"})


def needed_by_document(document: Mapping[str, Any]) -> frozenset[Capability]:
    """What a resource needs, or a document of what the cluster knows."""
    if "kind" not in document:
        return frozenset(_needed_to_know((document.get("workloads") or {}).values()))
    kind, spec = document["kind"], document.get("spec") or {}
    found = {_OF_KIND[kind]} if kind in _OF_KIND else set()
    calico = str(document.get("apiVersion")).startswith("projectcalico.org/")
    if calico and spec.get("tier", "default") != "default":
        found.add(Capability.TIERS)
    if kind not in _DECLARE_PORTS and any(_port_names(spec)):
        found.add(Capability.NAMED_PORTS)
    if any("services" in rule.get(side, {}) for rule in _rules(spec) for side in ("source", "destination")):
        found.add(Capability.SERVICES)
    # applyOnForward comes with the two that are asked earlier, and says nothing of its own there.
    first = next((field for field in _OF_FIELD if spec.get(field)), None)
    return frozenset(found | ({_OF_FIELD[first]} if first else set()))


def _needed_to_know(workloads: Iterable[Mapping[str, Any] | None]) -> Iterator[Capability]:
    """Labels, ports and accounts come to a dataplane as members of sets, and as policies of its endpoints."""
    for body in workloads:
        if body is None:
            yield Capability.WORKLOADS_CHANGE
        elif "profiles" in body:
            yield Capability.PROFILES


def needed_by_flow(entry: Mapping[str, object]) -> frozenset[Capability]:
    """What a flow with its family needs; ICMP in the other family is a protocol like any."""
    family, number = entry["family"], _number(entry.get("protocol"))
    stray = _FAMILY_OF_ICMP.get(number, family) != family
    protocol = Capability.OTHER_PROTOCOLS if stray else _PROTOCOLS.get(number, Capability.OTHER_PROTOCOLS)
    return frozenset({FAMILIES[str(family)], protocol})


def families_of(entry: Mapping[str, object]) -> Iterable[object]:
    """The families that a flow's entry stands for: its own, that of its protocol, or both."""
    if "family" in entry:
        return (entry["family"],)
    protocol = entry.get("protocol")
    only = _FAMILY_OF_ICMP.get(_number(protocol)) if isinstance(protocol, str) else None
    return tuple(FAMILIES) if only is None else (only,)


def _number(protocol: object) -> int:
    """The protocol of a flow; 0, which no flow has, for what the reader of flows will refuse."""
    if isinstance(protocol, int):
        return protocol
    return protocol_number(str(protocol)) or 0


def _rules(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for direction in ("ingress", "egress"):
        yield from spec.get(direction, ())


def _port_names(value: Any) -> Iterator[str]:
    """Every port that is given by name."""
    if isinstance(value, list):
        for part in value:
            yield from _port_names(part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            given = part if isinstance(part, list) else [part]
            if key in _PORT_FIELDS:
                yield from (port for port in given if isinstance(port, str) and not re.fullmatch(r"[0-9:]+", port))
            yield from _port_names(part)
