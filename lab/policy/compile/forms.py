# SPDX-License-Identifier: Apache-2.0
"""One form for all kinds of policies, Calico's and those converted from Kubernetes: subjects as whole selectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lab.policy.compile.labels import NAMESPACE_LABEL
from lab.policy.resources import Direction, Rule
from lab.policy.selector import Selector
from lab.policy.selector_ast import Compare
from lab.policy.snapshot import PolicyId

__all__ = ["FormRule", "PolicyForm", "Stage", "in_namespace"]


class Stage(Enum):
    """Where on a packet's way a policy is asked; workloads have only the policies of the first two."""

    NORMAL = "normal"
    FORWARD = "normal and forwarded"
    PRE_DNAT = "before DNAT"
    UNTRACKED = "before conntrack"


@dataclass(frozen=True, slots=True)
class FormRule:
    """A rule and its number among those that the user wrote: one Kubernetes rule becomes several."""

    rule: Rule
    index: int


@dataclass(frozen=True, slots=True)
class PolicyForm:
    """A policy of any kind. ``subject`` is its whole selector; its rules belong to ``policy_id.namespace``."""

    policy_id: PolicyId
    tier: str
    order: float | None
    subject: Selector
    types: frozenset[Direction]
    ingress: tuple[FormRule, ...]
    egress: tuple[FormRule, ...]
    stage: Stage = Stage.NORMAL

    def rules(self, direction: Direction) -> tuple[FormRule, ...]:
        """The rules that count in a direction: none in one to which the policy does not apply."""
        if direction not in self.types:
            return ()
        return self.ingress if direction is Direction.INGRESS else self.egress


def in_namespace(namespace: str) -> Selector:
    """Selects what belongs to a namespace."""
    return Selector.of(Compare(NAMESPACE_LABEL, "==", namespace))
