# SPDX-License-Identifier: Apache-2.0
"""The resource types that compiler and oracle share: what the YAML says, checked and typed, nothing resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from lab.errors import Place
from lab.policy.selector import Selector
from lab.topology import Address, Net, Port

__all__ = [
    "Action",
    "AdminPeer",
    "AdminPolicy",
    "AdminPolicyKind",
    "AdminPort",
    "AdminRule",
    "CalicoPolicy",
    "CalicoPolicyKind",
    "Direction",
    "EndpointSlice",
    "EntityRule",
    "Failsafe",
    "FelixConfiguration",
    "HostEndpoint",
    "HttpMatch",
    "HttpPath",
    "IcmpMatch",
    "IpBlock",
    "IpPool",
    "KubernetesNetworkPolicy",
    "KubernetesPeer",
    "KubernetesPort",
    "KubernetesRule",
    "LabelRequirement",
    "LabelSelector",
    "NetworkSet",
    "Policy",
    "PortMatch",
    "PortRange",
    "Profile",
    "ProtocolMatch",
    "Resources",
    "Rule",
    "Service",
    "ServiceAccountMatch",
    "ServiceMatch",
    "ServicePort",
    "StagedAction",
    "Tier",
]


class Action(Enum):
    """What a rule does with a packet that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"
    LOG = "Log"


class StagedAction(Enum):
    """What a staged policy proposes."""

    SET = "Set"
    DELETE = "Delete"
    LEARN = "Learn"
    IGNORE = "Ignore"


class Direction(Enum):
    """Seen from the endpoint that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class ProtocolMatch:
    """A protocol number and whether the file wrote it as a name: only names imply an IP version."""

    number: int
    by_name: bool


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports ``first`` to ``last``, both included."""

    first: int
    last: int


PortMatch = PortRange | str
"""A range of numbers, or the name of a port."""


@dataclass(frozen=True, slots=True)
class IcmpMatch:
    """An ICMP type, and a code or None for any."""

    type: int
    code: int | None


@dataclass(frozen=True, slots=True)
class HttpPath:
    """One path of an ``http`` match."""

    how: Literal["exact", "prefix"]
    path: str


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """Methods and paths of an HTTP rule; an L4 flow meets the rule as if this were not there."""

    methods: tuple[str, ...]
    paths: tuple[HttpPath, ...]


@dataclass(frozen=True, slots=True)
class ServiceAccountMatch:
    """``serviceAccounts``: names and selector, both of which must hold when given."""

    names: tuple[str, ...]
    selector: Selector | None


@dataclass(frozen=True, slots=True)
class ServiceMatch:
    """``services``: the endpoints of one service, by its EndpointSlices; ``namespace`` None as the file has it."""

    name: str
    namespace: str | None


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One side of a Calico rule; everything given must hold. None and () mean: not given."""

    nets: tuple[Net, ...] = ()
    not_nets: tuple[Net, ...] = ()
    selector: Selector | None = None
    not_selector: Selector | None = None
    namespace_selector: Selector | None = None
    service_accounts: ServiceAccountMatch | None = None
    services: ServiceMatch | None = None
    ports: tuple[PortMatch, ...] = ()
    not_ports: tuple[PortMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a Calico policy or profile, as written."""

    action: Action
    place: Place
    ip_version: Literal[4, 6] | None = None
    protocol: ProtocolMatch | None = None
    not_protocol: ProtocolMatch | None = None
    icmp: IcmpMatch | None = None
    not_icmp: IcmpMatch | None = None
    source: EntityRule = EntityRule()
    destination: EntityRule = EntityRule()
    http: HttpMatch | None = None
    annotations: Mapping[str, str] | None = None


CalicoPolicyKind = Literal["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"]


@dataclass(frozen=True, slots=True)
class CalicoPolicy:
    """A NetworkPolicy (``namespace`` set) or GlobalNetworkPolicy (``namespace`` None) of projectcalico.org/v3.

    ``staged`` ones (their kinds begin with Staged) are never enforced; a staged policy that says Delete or Ignore
    has no rules that could ever be.
    """

    kind: CalicoPolicyKind
    name: str
    namespace: str | None
    tier: str
    order: float | None
    selector: Selector
    namespace_selector: Selector | None
    service_account_selector: Selector | None
    types: frozenset[Direction]
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]
    place: Place
    staged: StagedAction | None = None
    do_not_track: bool = False
    pre_dnat: bool = False
    apply_on_forward: bool = False


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One ``matchExpressions`` entry."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A Kubernetes label selector; the empty one selects everything."""

    match_labels: Mapping[str, str]
    match_expressions: tuple[LabelRequirement, ...]


@dataclass(frozen=True, slots=True)
class IpBlock:
    """``cidr`` less every one of ``except_``."""

    cidr: Net
    except_: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class KubernetesPeer:
    """One peer; an absent selector (None) and an empty one mean different things."""

    pod_selector: LabelSelector | None
    namespace_selector: LabelSelector | None
    ip_block: IpBlock | None


@dataclass(frozen=True, slots=True)
class KubernetesPort:
    """One port entry; ``port`` None means every port of the protocol."""

    protocol: int
    port: int | str | None
    end_port: int | None


@dataclass(frozen=True, slots=True)
class KubernetesRule:
    """One allow rule; empty ``peers`` mean everyone, empty ``ports`` every packet."""

    peers: tuple[KubernetesPeer, ...]
    ports: tuple[KubernetesPort, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class KubernetesNetworkPolicy:
    """A NetworkPolicy of networking.k8s.io/v1, with ``types`` as the API server would have stored them."""

    name: str
    namespace: str
    pod_selector: LabelSelector
    types: frozenset[Direction]
    ingress: tuple[KubernetesRule, ...]
    egress: tuple[KubernetesRule, ...]
    place: Place
    staged: StagedAction | None = None

    @property
    def kind(self) -> str:
        """The kind under which results speak of it, to tell it from Calico's NetworkPolicy."""
        return "KubernetesNetworkPolicy" if self.staged is None else "StagedKubernetesNetworkPolicy"


@dataclass(frozen=True, slots=True)
class AdminPeer:
    """One peer of an admin rule; exactly one field is given, or none for a kind of peer that nobody knows."""

    namespaces: LabelSelector | None = None
    pods: tuple[LabelSelector, LabelSelector] | None = None
    """``namespaceSelector`` and ``podSelector``."""
    networks: tuple[Net, ...] | None = None
    nodes: LabelSelector | None = None
    domain_names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class AdminPort:
    """One entry of ``ports`` or ``protocols``.

    ``name`` matches whatever protocol a pod declares under it; otherwise ``protocol`` with ``ports``, None for
    all of them. Neither: a kind of entry that nobody knows.
    """

    protocol: int | None = None
    ports: PortRange | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AdminRule:
    """A rule of an admin policy; () for ``ports`` means every packet. Peers and ports are ORed."""

    name: str
    action: Action
    peers: tuple[AdminPeer, ...]
    ports: tuple[AdminPort, ...]
    place: Place


AdminPolicyKind = Literal["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"]


@dataclass(frozen=True, slots=True)
class AdminPolicy:
    """AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy (policy.networking.k8s.io).

    ``baseline`` places it after the NetworkPolicies; ``priority`` counts among those of its place, lower first
    (0 for the one BaselineAdminNetworkPolicy). ``subject`` is that of ``AdminPeer``: namespaces or pods.
    """

    kind: AdminPolicyKind
    name: str
    baseline: bool
    priority: int
    subject: AdminPeer
    ingress: tuple[AdminRule, ...]
    egress: tuple[AdminRule, ...]
    place: Place

    @property
    def namespace(self) -> None:
        """None: they are cluster-wide."""
        return


Policy = CalicoPolicy | KubernetesNetworkPolicy | AdminPolicy


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier; ``order`` None comes last; ``pass_by_default`` is defaultAction Pass."""

    name: str
    order: float | None
    pass_by_default: bool
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with its rules and the labels that its endpoints inherit."""

    name: str
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]
    labels_to_apply: Mapping[str, str]
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """A NetworkSet (``namespace`` set) or GlobalNetworkSet (``namespace`` None)."""

    name: str
    namespace: str | None
    labels: Mapping[str, str]
    nets: tuple[Net, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class HostEndpoint:
    """An interface of a node under policy; ``interface`` "*" is all that have no endpoint of their own.

    None for ``interface``: the one that holds one of ``expected_ips``.
    """

    name: str
    node: str
    interface: str | None
    expected_ips: tuple[Address, ...]
    labels: Mapping[str, str]
    profiles: tuple[str, ...]
    ports: tuple[Port, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; ``protocol`` is a number, ``target`` a port's number or name."""

    name: str
    protocol: int
    port: int
    target: int | str
    node_port: int | None


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service; only its node ports concern the lab, and who is behind it say its EndpointSlices."""

    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Addresses behind a service; ``service`` is the value of the label kubernetes.io/service-name.

    ``ports`` hold name, protocol number and port; endpoints that are not ready are not among ``addresses``.
    """

    name: str
    namespace: str
    service: str
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class IpPool:
    """An address pool; what leaves a ``nat_outgoing`` pool for no pool is masqueraded by its node.

    A pool that only load balancers draw from is no pool in this sense, and never among the resources.
    """

    name: str
    cidr: Net
    nat_outgoing: bool
    disabled: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Failsafe:
    """A failsafe port; ``net`` limits the remote side, None does not."""

    protocol: int
    port: int
    net: Net | None = None


@dataclass(frozen=True, slots=True)
class FelixConfiguration:
    """The fields that change a verdict; None where the file does not say (then Felix's default holds).

    ``node`` None is the global one (named ``default``); ``node.NAME`` speaks for that node, field by field.
    """

    node: str | None
    endpoint_to_host_action: Literal["Drop", "Return", "Accept"] | None
    failsafe_inbound: tuple[Failsafe, ...] | None
    failsafe_outbound: tuple[Failsafe, ...] | None
    allow_vxlan_from_workloads: bool | None
    allow_ipip_from_workloads: bool | None
    vxlan_port: int | None
    drop_invalid: bool | None
    """Whether packets that conntrack calls invalid are dropped ahead of policy (``disableConntrackInvalidCheck``
    false, said in so many words); not said, policy alone decides on them."""
    place: Place
    ip_forwarding: bool | None = None
    """Whether the node passes anything on (``ipForwarding``)."""
    ipv6_support: bool | None = None

    @property
    def name(self) -> str:
        """The name that tells Felix for whom it is."""
        return "default" if self.node is None else f"node.{self.node}"


@dataclass(frozen=True, slots=True)
class Resources:
    """All resources of one run, in the order in which they were read; the built-in tiers are not among them."""

    policies: tuple[Policy, ...] = ()
    tiers: tuple[Tier, ...] = ()
    profiles: tuple[Profile, ...] = ()
    network_sets: tuple[NetworkSet, ...] = ()
    host_endpoints: tuple[HostEndpoint, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    ip_pools: tuple[IpPool, ...] = ()
    felix_configurations: tuple[FelixConfiguration, ...] = ()
