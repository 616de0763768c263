# SPDX-License-Identifier: Apache-2.0
"""What a plugin is: the only module that a plugin must import.

A plugin is a class registered under the entry-point group ``policylab.dataplanes`` or ``policylab.accelerators``.
The lab makes one instance for each node and calls, in this order: ``start`` once, ``apply`` any number of times,
``stop`` once. Calls to one instance come one after another; to those of different nodes they may come at the same
time, from different threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, Final, Literal, Protocol

from lab.errors import BpfError, DataplaneError, HostError, LabError
from lab.fabric.bpf import BpfMap, BpfObject, BpfProgram, BpfSource, ProgramKind, XdpLink, XdpMode, shipped_bpf
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
    "API_VERSION",
    "DEFAULT_CAPABILITIES",
    "ICMP",
    "ICMPV6",
    "OLDEST_KERNEL",
    "PORT_PROTOCOLS",
    "SCTP",
    "TCP",
    "TRAITS",
    "UDP",
    "UDPLITE",
    "Accelerator",
    "Action",
    "Address",
    "BpfError",
    "BpfMap",
    "BpfObject",
    "BpfProgram",
    "BpfSource",
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
    "Level",
    "MembersChange",
    "Net",
    "Node",
    "NodeSettings",
    "Planned",
    "PolicyId",
    "PortMember",
    "PortRange",
    "ProgramKind",
    "RuleOrigin",
    "Snapshot",
    "SnapshotDelta",
    "SnapshotPolicy",
    "SnapshotProfile",
    "SnapshotRule",
    "SnapshotSide",
    "TierPolicies",
    "XdpLink",
    "XdpMode",
    "apply_delta",
    "protocol_label",
    "shipped_bpf",
]


API_VERSION: Final = 1
"""The version of this contract. It grows when a plugin made for the one before would no longer be right."""


Level = Literal["core", "extended", "experimental"]
"""How much a capability or expectation counts.

core: a dataplane without it is ``partial``. extended: many do without it. experimental: what it demands may change from
one release to the next. Whatever is declared must hold, at each level.
"""


class Capability(Enum):
    """What a dataplane may be able to do; what it does not declare it is not tested for. See TRAITS for each."""

    IPV4 = "family.ipv4"
    IPV6 = "family.ipv6"
    IPV6_SUPPORT = "family.ipv6-support"
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
    WORKLOADS_CHANGE = "update.workloads"
    CONNECTIONS = "flow.connections"
    OWN_SOURCE = "flow.own-source"
    SERVICES = "policy.services"
    ADMIN_POLICIES = "policy.admin"
    HOST_ENDPOINTS = "host.endpoints"
    APPLY_ON_FORWARD = "host.apply-on-forward"
    PRE_DNAT = "host.pre-dnat"
    DO_NOT_TRACK = "host.do-not-track"
    NAT_OUTGOING = "host.nat-outgoing"
    TUNNELS = "host.tunnels"
    L7_HTTP = "l7.http"


@dataclass(frozen=True, slots=True)
class Trait:
    """What a capability means, how much it counts, and the oldest kernel that can do it, if one cannot."""

    means: str
    level: Level
    min_kernel: str | None = None

    @property
    def default(self) -> bool:
        """Whether a dataplane that inherits its declaration from Dataplane has it."""
        return self.level == "core"


TRAITS: Final[Mapping[Capability, Trait]] = {
    Capability.IPV4: Trait("flows of IPv4", "core"),
    Capability.IPV6: Trait("flows of IPv6", "core"),
    Capability.IPV6_SUPPORT: Trait("IPv6 left alone on a node whose settings say so", "extended"),
    Capability.TCP: Trait("flows and rules of TCP, with ports", "core"),
    Capability.UDP: Trait("flows and rules of UDP, with ports", "core"),
    Capability.SCTP: Trait("flows and rules of SCTP, with ports", "core"),
    Capability.ICMP: Trait("ICMP and ICMPv6, with types and codes", "core"),
    Capability.OTHER_PROTOCOLS: Trait("any other protocol number", "extended"),
    Capability.TIERS: Trait("tiers besides `default`", "core"),
    Capability.PROFILES: Trait("profiles with rules of their own", "core"),
    Capability.NAMED_PORTS: Trait("sets of address, protocol and port", "core"),
    Capability.NETWORK_SETS: Trait("sets of networks", "core"),
    Capability.LIVE_UPDATE: Trait("a policy in place of another one", "core"),
    Capability.WORKLOADS_CHANGE: Trait(
        "workloads that come and go: an interface that no workload of the snapshot has is cut off", "extended"
    ),
    Capability.CONNECTIONS: Trait(
        "what belongs to a connection that was let through passes by its state: answers, later packets, ICMP errors",
        "extended",
    ),
    Capability.OWN_SOURCE: Trait("packets of a workload dropped that bear another address than its own", "extended"),
    Capability.SERVICES: Trait("rules that match the endpoints of a service", "extended"),
    Capability.ADMIN_POLICIES: Trait(
        "AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy: the tiers around `default`", "extended"
    ),
    Capability.HOST_ENDPOINTS: Trait(
        "policy for what begins or ends on a node, failsafe ports, the endpoint-to-host action", "extended"
    ),
    Capability.APPLY_ON_FORWARD: Trait("host endpoints' policy for what passes through a node", "extended"),
    Capability.PRE_DNAT: Trait("policy ahead of destination NAT", "extended"),
    Capability.DO_NOT_TRACK: Trait("policy ahead of connection tracking", "extended"),
    Capability.NAT_OUTGOING: Trait("masquerade of what leaves a pool", "extended"),
    Capability.TUNNELS: Trait("VXLAN between nodes let through, and taken from nobody else", "extended"),
    Capability.L7_HTTP: Trait(
        "requests judged by `http` matches: of the lab's sidecars, which serve every dataplane, whatever it declares",
        "extended",
    ),
}
OLDEST_KERNEL: Final = "5.10"
"""What is held to, and tried, on all kernels since; plugins may need a newer one."""
DEFAULT_CAPABILITIES: Final = frozenset(each for each, trait in TRAITS.items() if trait.default)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How verdicts came about: counters by name, the ruleset in force as the kernel tells it, and facts.

    A counter only grows between two calls of ``apply``. A fact is what is neither a number nor a rule, by name:
    ``{"eth0.xdp": "native"}``.
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    ruleset: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """What an accelerator would do with one part of a snapshot.

    ``what`` names it as its user does ("GlobalNetworkPolicy block rule 0 on eth0"), ``because`` says why, above all
    why not.
    """

    what: str
    accelerated: bool
    because: str


class Dataplane(Protocol):
    """Enforces snapshots on one node.

    ``apply`` is atomic in verdicts: either the whole snapshot is in force when it returns, or it raises
    DataplaneError and the previous one still is. For a new or untracked flow there is no moment at which one
    that both snapshots deny gets through, nor one that both allow is cut. Established tracked flows are not
    cut by a policy change. Before the first ``apply`` and after ``stop`` the plugin has no say in any verdict.
    ``stop`` takes away all that the plugin installed and nothing else, also after a failed ``apply``; so does the
    ``stop`` of the next instance, where an earlier one was killed. Until that one's first ``apply`` what was in force
    stays so.
    """

    name: ClassVar[str]
    api_version: ClassVar[int]
    """The API_VERSION that the plugin was made for, as a number."""
    capabilities: ClassVar[frozenset[Capability]] = DEFAULT_CAPABILITIES
    """What it is held to; a class that does not inherit this must say it."""
    known_broken: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Ids of expectations, or globs of them, with the reason why it fails them; passing one is a failure.

    May be left out.
    """
    min_kernel: ClassVar[str] = OLDEST_KERNEL
    """The oldest kernel on which it does what it declares, as ``5.14``; may be left out.

    On an older one it is skipped. That it cannot be run on a newer one is a failure in the kernel matrix.
    """

    def __init__(self, node: Node) -> None: ...

    def start(self) -> None:
        """Check that the node has what the plugin needs; raises HostError naming the missing tool.

        What a run of the same plugin has left that was killed stays in force; the first ``apply`` takes its place as
        it would that of any snapshot before, without a moment between the two.
        """
        ...

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Put a snapshot in force, in place of the one before.

        ``delta`` says what is different from the snapshot of the last ``apply`` that returned:
        ``apply_delta(before, delta) == snapshot``. It only saves work: a plugin may ignore it, and must do without
        where it is None (the first time, after an ``apply`` that raised, or when nobody knows).
        A delta may be empty, and a snapshot may come again: both leave everything as it is.
        """
        ...

    def stop(self) -> None:
        """Remove everything that the plugin installed; may be called twice."""
        ...

    def evidence(self) -> Evidence:
        """Counters and ruleset as they stand now."""
        ...


class Accelerator(Protocol):
    """Takes work off whichever dataplane is on the node, and never changes a verdict.

    For each new snapshot the lab calls ``prepare``, then the dataplane's ``apply``, then ``apply``. So what is
    accelerated is at any moment at most what the snapshot in force says, and no verdict depends on which of the
    two came first. When the dataplane's ``apply`` raises, ``apply`` gets the snapshot that is still in force; at the
    very first one there is none, and nothing is called. An accelerator that raises leaves the dataplane alone to
    decide, and is a failure all the same.

    Whether it was used is proven by its ``evidence``: expectations ask for it of every accelerator that declares
    their capabilities.
    """

    name: ClassVar[str]
    api_version: ClassVar[int]
    """The API_VERSION that the plugin was made for, as a number."""
    capabilities: ClassVar[frozenset[Capability]]
    """What it accelerates; what it does not name here still gets its verdict from the dataplane alone."""
    known_broken: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """As a dataplane's; may be left out."""
    min_kernel: ClassVar[str] = OLDEST_KERNEL
    """As a dataplane's; may be left out."""

    def __init__(self, node: Node) -> None: ...

    @classmethod
    def plan(cls, snapshot: Snapshot) -> Sequence[Planned]:
        """What it would take up of a snapshot and what it would leave to the dataplane; asks no kernel."""
        ...

    def start(self) -> None:
        """Check that the node has what the plugin needs; raises HostError naming what is missing."""
        ...

    def prepare(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Give up all that the coming snapshot does not call for as well.

        When it returns, what is accelerated is at most what both the snapshot in force and the coming one say.
        ``delta`` is as in ``Dataplane.apply``.
        """
        ...

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Take up what a snapshot calls for that the dataplane has just put in force."""
        ...

    def stop(self) -> None:
        """Remove everything that the plugin installed; may be called twice."""
        ...

    def suspend(self) -> None:
        """Accelerate nothing from now on, whatever is applied, until ``resume``; may be called twice.

        The lab asks for it where acceleration would be in the way: before a fault or a capture, in a case about
        cutting flows that are established, and to learn whether a fault is the accelerator's doing.
        """
        ...

    def resume(self) -> None:
        """Accelerate again what the snapshot in force calls for; may be called twice."""
        ...

    def evidence(self) -> Evidence:
        """Counters, programs and facts as they stand now."""
        ...
