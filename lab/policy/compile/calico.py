# SPDX-License-Identifier: Apache-2.0
"""Calico's policies in the one form, and what their selectors mean where they stand.

Source: libcalico-go/lib/backend/syncersv1/updateprocessors (rules.go and the policies' processors), calico v3.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.policy.compile.forms import FormRule, PolicyForm, Stage, in_namespace
from lab.policy.compile.labels import (
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    SERVICE_ACCOUNT_LABEL,
    SERVICE_ACCOUNT_PREFIX,
)
from lab.policy.resources import CalicoPolicy, EntityRule, Rule
from lab.policy.selector import Selector, all_of, parse_selector
from lab.policy.selector_ast import All, Global, Has, Member, Node, Not
from lab.policy.snapshot import PolicyId

__all__ = ["calico_form", "given", "numbered", "positive_selector"]


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
        _stage(policy),
    )


def _stage(policy: CalicoPolicy) -> Stage:
    """Source: felix/calc/event_sequencer.go, which shares a host endpoint's policies out in this order."""
    if policy.do_not_track:
        return Stage.UNTRACKED
    if policy.pre_dnat:
        return Stage.PRE_DNAT
    return Stage.FORWARD if policy.apply_on_forward else Stage.NORMAL


def given(selector: Selector | None) -> Selector | None:
    """The selector, or None where the file leaves it out or writes the empty text, which is the same."""
    return selector if selector is not None and selector.text else None


def _instead_of_all(selector: Selector, key: str) -> Selector:
    """The selector with ``has(key)`` for every ``all()``."""

    def change(node: Node) -> Node:
        return Has(key) if isinstance(node, All) else node

    return selector.rewrite(change)


def _subject(policy: CalicoPolicy) -> Selector:
    """What a policy applies to: all that it names, in its own namespace where it has one."""
    own = given(policy.selector)
    namespaces = given(policy.namespace_selector)
    accounts = given(policy.service_account_selector)
    if policy.namespace is not None:
        parts = [in_namespace(policy.namespace), own, accounts and accounts.prefixed(SERVICE_ACCOUNT_PREFIX)]
        return all_of(*filter(None, parts))
    if namespaces is not None:
        own = _narrowed(own, namespaces.prefixed(NAMESPACE_PREFIX), NAMESPACE_LABEL)
    if accounts is not None:
        own = _narrowed(own, accounts.prefixed(SERVICE_ACCOUNT_PREFIX), SERVICE_ACCOUNT_LABEL)
    return own or all_of()


def _narrowed(selector: Selector | None, further: Selector, key: str) -> Selector:
    """Both selectors of a global policy; Calico writes ``has(key)`` over ``all()`` wherever the text has it."""
    narrow = _instead_of_all(further, key)
    if selector is None:
        return narrow
    rewritten = selector.text.replace("all()", f"has({key})")
    return all_of(selector if rewritten == selector.text else parse_selector(rewritten), narrow)


def positive_selector(side: EntityRule, namespace: str) -> Selector | None:
    """The selector that one side of a rule must match, or None when the side is not about known endpoints.

    Any selector in a namespaced policy's rule limits the side to that namespace unless a namespaceSelector
    says otherwise, even a ``notSelector`` alone. A ``notSelector`` beside a positive one is folded into it.
    """
    asked = [selector for selector in (*_in_service_accounts(side), given(side.selector)) if selector]
    negative = given(side.not_selector)
    namespaces = given(side.namespace_selector)
    if namespaces is not None:
        asked.insert(0, _in_namespaces(namespaces))
    elif namespace and (asked or negative):
        asked.insert(0, in_namespace(namespace))
    if not asked:
        return None
    return all_of(*asked) if negative is None else all_of(*asked, negative.negated())


def _in_namespaces(selector: Selector) -> Selector:
    """A rule's ``namespaceSelector``: of namespaces' labels; ``global()`` means what is in no namespace."""
    if isinstance(selector.node, Global):
        return Selector.of(Not(Has(NAMESPACE_LABEL)))
    return _instead_of_all(selector.prefixed(NAMESPACE_PREFIX), NAMESPACE_LABEL)


def _in_service_accounts(side: EntityRule) -> Iterator[Selector]:
    if side.service_accounts is None:
        return
    if side.service_accounts.names:
        yield Selector.of(Member(SERVICE_ACCOUNT_LABEL, frozenset(side.service_accounts.names)))
    selector = given(side.service_accounts.selector)
    if selector is not None:
        yield selector.prefixed(SERVICE_ACCOUNT_PREFIX)
