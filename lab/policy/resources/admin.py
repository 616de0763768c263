# SPDX-License-Identifier: Apache-2.0
"""AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources.common import Action, PortRange
from lab.policy.resources.kubernetes import LabelSelector
from lab.topology import Net

__all__ = ["AdminPeer", "AdminPolicy", "AdminPolicyKind", "AdminPort", "AdminRule"]


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
