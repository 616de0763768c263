# SPDX-License-Identifier: Apache-2.0
"""What a dataplane plugin is: the only module that a plugin must import.

A plugin is a class registered under the entry-point group ``policylab.dataplanes``. The lab makes one
instance for each node and calls, in this order: ``start`` once, ``apply`` any number of times, ``stop`` once.
Calls to the instances of different nodes may come at the same time, from different threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol

from lab.errors import DataplaneError, HostError, LabError
from lab.fabric.node import Completed, Node
from lab.policy.resources import Action, Direction, IcmpMatch, PortRange
from lab.policy.snapshot import (
    EndpointPolicy,
    FailsafePort,
    HostPolicy,
    IpSet,
    MembersChange,
    NodeSettings,
    PolicyId,
    PortMember,
    RuleOrigin,
    Snapshot,
    SnapshotDelta,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
    apply_delta,
)
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS, SCTP, TCP, UDP, UDPLITE, protocol_label
from lab.topology import Address, Net

__all__ = [
    "ICMP",
    "ICMPV6",
    "PORT_PROTOCOLS",
    "SCTP",
    "TCP",
    "UDP",
    "UDPLITE",
    "Action",
    "Address",
    "Capability",
    "Completed",
    "Dataplane",
    "DataplaneError",
    "Direction",
    "EndpointPolicy",
    "Evidence",
    "FailsafePort",
    "HostError",
    "HostPolicy",
    "IcmpMatch",
    "IpSet",
    "LabError",
    "MembersChange",
    "Net",
    "Node",
    "NodeSettings",
    "PolicyId",
    "PortMember",
    "PortRange",
    "RuleOrigin",
    "Snapshot",
    "SnapshotDelta",
    "SnapshotPolicy",
    "SnapshotProfile",
    "SnapshotRule",
    "SnapshotSide",
    "TierPolicies",
    "apply_delta",
    "protocol_label",
]


class Capability(Enum):
    """What a dataplane may be able to do; what it does not declare it is not tested for."""

    IPV4 = "family.ipv4"
    IPV6 = "family.ipv6"
    TCP = "protocol.tcp"
    UDP = "protocol.udp"
    SCTP = "protocol.sctp"
    ICMP = "protocol.icmp"
    OTHER_PROTOCOLS = "protocol.other"
    TIERS = "policy.tiers"
    PROFILES = "policy.profiles"
    NAMED_PORTS = "policy.named-ports"
    NETWORK_SETS = "policy.network-sets"
    LIVE_UPDATE = "update.live"
    SERVICES = "policy.services"
    ADMIN_POLICIES = "policy.admin"
    HOST_ENDPOINTS = "host.endpoints"
    APPLY_ON_FORWARD = "host.apply-on-forward"
    PRE_DNAT = "host.pre-dnat"
    DO_NOT_TRACK = "host.do-not-track"
    NAT_OUTGOING = "host.nat-outgoing"


@dataclass(frozen=True, slots=True)
class Evidence:
    """How verdicts came about: packet counters by name, and the ruleset in force as the kernel tells it."""

    counters: Mapping[str, int] = field(default_factory=dict)
    ruleset: str = ""


class Dataplane(Protocol):
    """Enforces snapshots on one node.

    ``apply`` is atomic in verdicts: either the whole snapshot is in force when it returns, or it raises
    DataplaneError and the previous one still is. For a new or untracked flow there is no moment at which one
    that both snapshots deny gets through, nor one that both allow is cut. Established tracked flows are not
    cut by a policy change. Before the first ``apply`` and after ``stop`` the plugin has no say in any verdict.
    ``stop`` takes away all that the plugin installed and nothing else, also after a failed ``apply``.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]

    def __init__(self, node: Node) -> None: ...

    def start(self) -> None:
        """Check that the node has what the plugin needs; raises HostError naming the missing tool."""
        ...

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Put a snapshot in force, in place of the one before.

        ``delta`` says what is different from the snapshot of the last ``apply`` that returned:
        ``apply_delta(before, delta) == snapshot``. It only saves work: a plugin may ignore it, and must do without
        where it is None (the first time, after an ``apply`` that raised, or when nobody knows).
        """
        ...

    def stop(self) -> None:
        """Remove everything that the plugin installed; may be called twice."""
        ...

    def evidence(self) -> Evidence:
        """Counters and ruleset as they stand now."""
        ...
