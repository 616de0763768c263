# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' label selectors and port lists in Calico's terms, as all kinds of Kubernetes policies use them.

Source: libcalico-go/lib/backend/k8s/conversion, calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.policy.compile.labels import ORCHESTRATOR_LABEL
from lab.policy.resources import LabelRequirement, LabelSelector, PortRange
from lab.policy.selector import Selector
from lab.policy.selector_ast import Compare, Has, Member, Node, Not

__all__ = ["PODS", "label_terms", "merged"]

PODS = Selector.of(Compare(ORCHESTRATOR_LABEL, "==", "k8s"))
"""Selects what Kubernetes runs: no policy of its kinds speaks of anything else."""


def label_terms(selector: LabelSelector) -> Iterator[Selector]:
    """A label selector's requirements, all of which must hold."""
    for key, value in sorted(selector.match_labels.items()):
        yield Selector.of(Compare(key, "==", value))
    for requirement in selector.match_expressions:
        yield Selector.of(_requirement(requirement))


def _requirement(requirement: LabelRequirement) -> Node:
    match requirement.operator:
        case "In":
            return Member(requirement.key, frozenset(requirement.values))
        case "NotIn":
            return Member(requirement.key, frozenset(requirement.values), negated=True)
        case "Exists":
            return Has(requirement.key)
        case "DoesNotExist":
            return Not(Has(requirement.key))


def merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Ranges in ascending order, those that touch or overlap made one."""
    found: list[PortRange] = []
    for ports in sorted(ranges, key=lambda ports: (ports.first, ports.last)):
        if found and ports.first <= found[-1].last + 1:
            found[-1] = PortRange(found[-1].first, max(found[-1].last, ports.last))
        else:
            found.append(ports)
    return tuple(found)
