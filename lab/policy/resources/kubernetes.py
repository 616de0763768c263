# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes NetworkPolicy, and the label selectors of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources.common import Direction, StagedAction
from lab.topology import Net

__all__ = [
    "IpBlock",
    "KubernetesNetworkPolicy",
    "KubernetesPeer",
    "KubernetesPort",
    "KubernetesRule",
    "LabelRequirement",
    "LabelSelector",
]


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
