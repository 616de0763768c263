# SPDX-License-Identifier: Apache-2.0
"""The resource types that compiler and oracle share: what the YAML says, checked and typed, nothing resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from lab.errors import Place
from lab.policy.selector import Selector
from lab.topology import Net

__all__ = [
    "Action",
    "CalicoPolicy",
    "Direction",
    "EntityRule",
    "HttpMatch",
    "HttpPath",
    "IcmpMatch",
    "IpBlock",
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
    "ServiceAccountMatch",
    "Tier",
]


class Action(Enum):
    """What a rule does with a packet that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"
    LOG = "Log"


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
class EntityRule:
    """One side of a Calico rule; everything given must hold. None and () mean: not given."""

    nets: tuple[Net, ...] = ()
    not_nets: tuple[Net, ...] = ()
    selector: Selector | None = None
    not_selector: Selector | None = None
    namespace_selector: Selector | None = None
    service_accounts: ServiceAccountMatch | None = None
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


@dataclass(frozen=True, slots=True)
class CalicoPolicy:
    """A NetworkPolicy (``namespace`` set) or GlobalNetworkPolicy (``namespace`` None) of projectcalico.org/v3."""

    kind: Literal["NetworkPolicy", "GlobalNetworkPolicy"]
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

    @property
    def kind(self) -> str:
        """The kind under which results speak of it, to tell it from Calico's NetworkPolicy."""
        return "KubernetesNetworkPolicy"


Policy = CalicoPolicy | KubernetesNetworkPolicy


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
class Resources:
    """All resources of one run, in the order in which they were read; the built-in tiers are not among them."""

    policies: tuple[Policy, ...] = ()
    tiers: tuple[Tier, ...] = ()
    profiles: tuple[Profile, ...] = ()
    network_sets: tuple[NetworkSet, ...] = ()
