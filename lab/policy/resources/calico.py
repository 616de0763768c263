# SPDX-License-Identifier: Apache-2.0
"""Calico's policies, and what they stand in and speak of: tiers, profiles and network sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources.common import Direction, StagedAction
from lab.policy.resources.rules import Rule
from lab.policy.selector import Selector
from lab.topology import Net

__all__ = ["CalicoPolicy", "CalicoPolicyKind", "NetworkSet", "Profile", "Tier"]

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
