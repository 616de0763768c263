# SPDX-License-Identifier: Apache-2.0
"""What a topology file says: parsed, validated, plain data; and the flows between its ends."""

from lab.topology.flows import DEFAULT_SOURCE_PORT, Family, Flow, HttpRequest, IcmpHeader, default_flows
from lab.topology.model import (
    TUNNEL_INTERFACES,
    TUNNEL_PORT,
    Address,
    Encapsulation,
    End,
    Endpoint,
    External,
    Link,
    Namespace,
    Net,
    Node,
    NodeKind,
    Pools,
    Port,
    Topology,
    Workload,
    address_of,
)

__all__ = [
    "DEFAULT_SOURCE_PORT",
    "TUNNEL_INTERFACES",
    "TUNNEL_PORT",
    "Address",
    "Encapsulation",
    "End",
    "Endpoint",
    "External",
    "Family",
    "Flow",
    "HttpRequest",
    "IcmpHeader",
    "Link",
    "Namespace",
    "Net",
    "Node",
    "NodeKind",
    "Pools",
    "Port",
    "Topology",
    "Workload",
    "address_of",
    "default_flows",
]
