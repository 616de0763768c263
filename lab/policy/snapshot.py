# SPDX-License-Identifier: Apache-2.0
"""What one node's dataplane must enforce: frozen, comparable, and free of selectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

from lab.errors import Place
from lab.policy.resources import Action, Direction, HttpMatch, IcmpMatch, PortRange
from lab.topology import Address, Net

__all__ = [
    "EndpointPolicy",
    "FailsafePort",
    "HostPolicy",
    "IpSet",
    "MembersChange",
    "NodeSettings",
    "PolicyId",
    "PortMember",
    "RuleOrigin",
    "Snapshot",
    "SnapshotDelta",
    "SnapshotPolicy",
    "SnapshotProfile",
    "SnapshotRule",
    "SnapshotSide",
    "TierPolicies",
    "apply_delta",
]


@dataclass(frozen=True, slots=True, order=True)
class PolicyId:
    """What names a policy: unique in a snapshot. ``namespace`` is "" for a cluster-wide one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class PortMember:
    """A member of a port set: an address that serves a port of a protocol (number)."""

    address: Address
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class IpSet:
    """Addresses that a rule refers to by ``set_id``, both families together.

    ``kind`` "net" holds networks (a zero prefix never occurs: it is split into two /1), "port" holds
    PortMembers. ``about`` says what the set stands for (a selector, a named port) in comments and reports.
    """

    set_id: str
    kind: Literal["net", "port"]
    nets: frozenset[Net] = frozenset()
    ports: frozenset[PortMember] = frozenset()
    about: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RuleOrigin:
    """Where a rule comes from; for comments and reports, of no meaning for enforcement."""

    owner: str
    direction: Direction
    index: int
    place: Place | None


@dataclass(frozen=True, slots=True)
class SnapshotSide:
    """Source or destination of a rule: all that is given must hold; within a field see each.

    ``nets``: in any of them. ``not_nets``: in none of them. ``sets``: in every one of them.
    ``not_sets``: in none of them. ``ports`` and ``port_sets``: in any range or any set of both fields together.
    ``not_ports`` and ``not_port_sets``: in none. ``by_account``: service accounts are part of what the sets stand for,
    so that a sidecar demands of a peer that can prove who it is to be one of theirs.
    """

    nets: tuple[Net, ...] = ()
    not_nets: tuple[Net, ...] = ()
    sets: tuple[str, ...] = ()
    not_sets: tuple[str, ...] = ()
    ports: tuple[PortRange, ...] = ()
    port_sets: tuple[str, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    not_port_sets: tuple[str, ...] = ()
    by_account: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRule:
    """A flat rule: every field that is given must hold. ``ip_version`` None means both families.

    ``http`` is for sidecars alone: what decides on packets meets the rule as if it were not there.
    """

    action: Action
    ip_version: Literal[4, 6] | None = None
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: IcmpMatch | None = None
    not_icmp: IcmpMatch | None = None
    source: SnapshotSide = SnapshotSide()
    destination: SnapshotSide = SnapshotSide()
    origin: RuleOrigin | None = field(default=None, compare=False)
    http: HttpMatch | None = None


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """A policy's rules; those of a direction that it does not apply to are absent."""

    policy_id: PolicyId
    tier: str
    ingress: tuple[SnapshotRule, ...]
    egress: tuple[SnapshotRule, ...]


@dataclass(frozen=True, slots=True)
class SnapshotProfile:
    """A profile's rules."""

    name: str
    ingress: tuple[SnapshotRule, ...]
    egress: tuple[SnapshotRule, ...]


@dataclass(frozen=True, slots=True)
class TierPolicies:
    """The policies of one tier that apply to an endpoint, in order.

    A direction without policies skips the tier. ``pass_by_default``: what happens to a packet that none of
    them decided (True: next tier, False: drop).
    """

    name: str
    ingress: tuple[PolicyId, ...]
    egress: tuple[PolicyId, ...]
    pass_by_default: bool


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """A local workload: its interface on the node, its addresses, and what holds for it, in order.

    After the last tier the profiles are asked in order; a packet that none of them decides is dropped. A
    profile that the snapshot does not hold drops everything that reaches it. ``sidecar``: an Envoy stands before it.
    """

    interface: str
    workload: str
    addresses: tuple[Address, ...]
    tiers: tuple[TierPolicies, ...]
    profiles: tuple[str, ...]
    sidecar: bool = False


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """A host endpoint of this node, on one of its interfaces, or on every one without its own (``interface`` "*").

    Four lists of tiers, for four stages of a packet's way: ``tiers`` for what begins or ends on the node
    (filter INPUT and OUTPUT; profiles after them, and failsafe ports before), ``forward_tiers`` for what passes
    through (no failsafes, no profiles), ``pre_dnat_tiers`` before DNAT (ingress only) and ``untracked_tiers`` before
    conntrack. The last two pass what none of their policies decided; "*" has no untracked policy.
    """

    interface: str
    name: str
    tiers: tuple[TierPolicies, ...]
    profiles: tuple[str, ...]
    forward_tiers: tuple[TierPolicies, ...]
    pre_dnat_tiers: tuple[TierPolicies, ...]
    untracked_tiers: tuple[TierPolicies, ...]


@dataclass(frozen=True, slots=True)
class FailsafePort:
    """A port of the node that no policy of a host endpoint closes; ``net`` limits the other side, None does not."""

    protocol: int
    port: int
    net: Net | None = None


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What holds for the whole node, defaults filled in."""

    endpoint_to_host_action: Literal["drop", "return", "accept"] = "drop"
    failsafe_inbound: tuple[FailsafePort, ...] = ()
    failsafe_outbound: tuple[FailsafePort, ...] = ()
    allow_vxlan_from_workloads: bool = False
    allow_ipip_from_workloads: bool = False
    vxlan_port: int = 4789
    drop_invalid: bool = False
    """Drop packets that conntrack calls INVALID ahead of policy; False leaves them to the policy."""
    ipv6: bool = True
    """False: the dataplane has nothing to do with IPv6, whatever is in the snapshot."""
    tunnel_peers: tuple[Address, ...] = ()
    """Nodes that speak VXLAN with this one, itself among them. Ahead of every host endpoint, UDP port 4789 is open
    between them and closed to everybody else. Empty where there are no tunnels: then the port is like any other."""
    masquerade: tuple[Net, ...] = ()
    """Pools whose packets leave with the node's address when their destination is in none of ``pools``."""
    pools: tuple[Net, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one node enforces; keys: interface name, policy id, profile name, set id."""

    node: str
    endpoints: Mapping[str, EndpointPolicy]
    policies: Mapping[PolicyId, SnapshotPolicy]
    profiles: Mapping[str, SnapshotProfile]
    ip_sets: Mapping[str, IpSet]
    host_endpoints: Mapping[str, HostPolicy] = field(default_factory=dict)
    """By interface name; "*" is one."""
    settings: NodeSettings = NodeSettings()


@dataclass(frozen=True, slots=True)
class MembersChange:
    """What comes to and goes from a set: networks of a "net" set, PortMembers of a "port" set."""

    added: frozenset[Net | PortMember]
    removed: frozenset[Net | PortMember]


@dataclass(frozen=True, slots=True)
class SnapshotDelta:
    """What leads from one snapshot of a node to the next: values that are new or other, keys that are gone.

    A set that stays and only changes its members stands in ``members``, and not in ``ip_sets``. What a policy or
    profile refers to is in the snapshot before it or in the same delta. ``settings`` None: they stay.
    """

    node: str
    endpoints: Mapping[str, EndpointPolicy] = field(default_factory=dict)
    policies: Mapping[PolicyId, SnapshotPolicy] = field(default_factory=dict)
    profiles: Mapping[str, SnapshotProfile] = field(default_factory=dict)
    ip_sets: Mapping[str, IpSet] = field(default_factory=dict)
    members: Mapping[str, MembersChange] = field(default_factory=dict)
    host_endpoints: Mapping[str, HostPolicy] = field(default_factory=dict)
    settings: NodeSettings | None = None
    removed_endpoints: frozenset[str] = frozenset()
    removed_policies: frozenset[PolicyId] = frozenset()
    removed_profiles: frozenset[str] = frozenset()
    removed_ip_sets: frozenset[str] = frozenset()
    removed_host_endpoints: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return self == SnapshotDelta(self.node)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def apply_delta(snapshot: Snapshot, delta: SnapshotDelta) -> Snapshot:
    """The snapshot that follows; the one given stays as it is."""
    ip_sets = _patched(snapshot.ip_sets, delta.ip_sets, delta.removed_ip_sets)
    ip_sets.update((set_id, _with_members(ip_sets[set_id], change)) for set_id, change in delta.members.items())
    return Snapshot(
        snapshot.node,
        _patched(snapshot.endpoints, delta.endpoints, delta.removed_endpoints),
        _patched(snapshot.policies, delta.policies, delta.removed_policies),
        _patched(snapshot.profiles, delta.profiles, delta.removed_profiles),
        ip_sets,
        _patched(snapshot.host_endpoints, delta.host_endpoints, delta.removed_host_endpoints),
        snapshot.settings if delta.settings is None else delta.settings,
    )


def _patched(
    old: Mapping[_Key, _Value], changed: Mapping[_Key, _Value], removed: frozenset[_Key]
) -> dict[_Key, _Value]:
    patched = {**old, **changed}
    for key in removed:
        del patched[key]
    return patched


def _with_members(ip_set: IpSet, change: MembersChange) -> IpSet:
    if ip_set.kind == "net":
        nets = cast("frozenset[Net]", (ip_set.nets - change.removed) | change.added)
        return IpSet(ip_set.set_id, "net", nets=nets, about=ip_set.about)
    ports = cast("frozenset[PortMember]", (ip_set.ports - change.removed) | change.added)
    return IpSet(ip_set.set_id, "port", ports=ports, about=ip_set.about)
