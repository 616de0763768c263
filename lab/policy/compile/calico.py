# SPDX-License-Identifier: Apache-2.0
"""Calico's policies in the one form, and what their selectors mean where they stand.

Source: libcalico-go/lib/backend/syncersv1/updateprocessors (rules.go and the policies' processors), calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.policy.compile.forms import FormRule, PolicyForm, in_namespace
from lab.policy.compile.labels import (
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    SERVICE_ACCOUNT_LABEL,
    SERVICE_ACCOUNT_PREFIX,
)
from lab.policy.resources import CalicoPolicy, EntityRule, Rule, ServiceAccountMatch
from lab.policy.selector import Selector, all_of
from lab.policy.selector_ast import All, Global, Has, Member, Node, Not
from lab.policy.snapshot import PolicyId

__all__ = ["calico_form", "numbered", "positive_selector"]


def numbered(rules: Iterable[Rule]) -> tuple[FormRule, ...]:
    """Rules with their numbers, from 0."""
    return tuple(FormRule(rule, index) for index, rule in enumerate(rules))


def calico_form(policy: CalicoPolicy) -> PolicyForm:
    """A Calico policy in the one form."""
    return PolicyForm(
        PolicyId(policy.kind, policy.namespace or "", policy.name),
        policy.tier,
        policy.order,
        _subject(policy),
        policy.types,
        numbered(policy.ingress),
        numbered(policy.egress),
    )


def _instead_of_all(selector: Selector, key: str) -> Selector:
    """Calico writes ``has(key)`` over every ``all()`` of a text, wherever in it that stands."""

    def change(node: Node) -> Node:
        return Has(key) if isinstance(node, All) else node

    return selector.rewrite(change)


def _subject(policy: CalicoPolicy) -> Selector:
    """What a policy applies to.

    In a global policy a namespaceSelector or serviceAccountSelector rewrites the ``all()`` of what it is
    joined to as well; a selector that is not given has no such text to rewrite.
    """
    parts = [policy.selector] if policy.selector.text.strip() else []
    if policy.namespace is not None:
        parts.insert(0, in_namespace(policy.namespace))
    if policy.namespace_selector is not None:
        joined = all_of(*parts, policy.namespace_selector.prefixed(NAMESPACE_PREFIX))
        parts = [_instead_of_all(joined, NAMESPACE_LABEL)]
    if policy.service_account_selector is not None:
        joined = all_of(*parts, policy.service_account_selector.prefixed(SERVICE_ACCOUNT_PREFIX))
        parts = [joined if policy.namespace is not None else _instead_of_all(joined, SERVICE_ACCOUNT_LABEL)]
    return all_of(*parts)


def positive_selector(side: EntityRule, namespace: str) -> Selector | None:
    """The selector that one side of a rule must match, or None when the side is not about known endpoints.

    Any selector in a namespaced policy's rule limits the side to that namespace unless a namespaceSelector
    says otherwise, even a ``notSelector`` alone. A ``notSelector`` beside a positive one is folded into it.
    """
    parts: list[Selector] = []
    if side.namespace_selector is not None:
        parts.append(_in_namespaces(side.namespace_selector))
    elif namespace and (side.selector or side.not_selector or side.service_accounts):
        parts.append(in_namespace(namespace))
    if side.service_accounts is not None:
        parts.extend(_in_service_accounts(side.service_accounts))
    if side.selector is not None:
        parts.append(side.selector)
    if not parts:
        return None
    if side.not_selector is not None:
        parts.append(side.not_selector.negated())
    return all_of(*parts)


def _in_namespaces(selector: Selector) -> Selector:
    """A rule's ``namespaceSelector``: of namespaces' labels; ``global()`` means what is in no namespace."""
    if isinstance(selector.node, Global):
        return Selector.of(Not(Has(NAMESPACE_LABEL)))
    return _instead_of_all(selector.prefixed(NAMESPACE_PREFIX), NAMESPACE_LABEL)


def _in_service_accounts(match: ServiceAccountMatch) -> list[Selector]:
    parts = [Selector.of(Member(SERVICE_ACCOUNT_LABEL, frozenset(match.names)))] if match.names else []
    if match.selector is not None:
        parts.append(match.selector.prefixed(SERVICE_ACCOUNT_PREFIX))
    return parts
