# SPDX-License-Identifier: Apache-2.0
"""Tiers and policies in the order in which they are asked, and whom each selects (semantics 1.3, 4.1 to 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from math import inf

from lab.errors import Place
from lab.oracle.admin import is_subject, judged_admin_rules
from lab.oracle.kubernetes import judged_kubernetes_rules, selects
from lab.oracle.peers import account_test, given, namespace_test
from lab.oracle.rules import JudgedRule, judged_rules
from lab.oracle.world import ACCOUNT_LABEL, NAMESPACE_LABEL, Party
from lab.policy.resources import (
    AdminPolicy,
    CalicoPolicy,
    Direction,
    KubernetesNetworkPolicy,
    Policy,
    Resources,
    Tier,
)
from lab.policy.selector import Selector, parse_selector

__all__ = ["JudgedPolicy", "JudgedTier", "judged_tiers"]

_ADMIN_TIER = "kube-admin"
_KUBERNETES_TIER = "default"
_BASELINE_TIER = "kube-baseline"
_BUILT_IN = (
    Tier(_ADMIN_TIER, 1_000, pass_by_default=True),
    Tier(_KUBERNETES_TIER, 1_000_000, pass_by_default=False),
    Tier(_BASELINE_TIER, 10_000_000, pass_by_default=True),
)
_KUBERNETES_ORDER = 1000.0

Subject = Callable[[Party], bool]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPolicy:
    """A policy ready to be asked; those with an equal ``subject`` select the same endpoints by the same words."""

    kind: str
    namespace: str | None
    name: str
    order: float
    place: Place
    subject: Hashable
    selects: Subject
    rules: Mapping[Direction, tuple[JudgedRule, ...]]
    """Only the directions that are among its types."""

    @property
    def rank(self) -> tuple[float, bytes]:
        """Order within a tier; ties go by one string, bytewise (4.1)."""
        return self.order, f"{self.name}/{self.namespace or ''}/{self.kind}".encode()


@dataclass(frozen=True, slots=True, eq=False)
class JudgedTier:
    """A tier with its policies in order. ``exists`` is false where policies name a tier that nobody defined."""

    name: str
    pass_by_default: bool
    place: Place | None
    exists: bool
    policies: tuple[JudgedPolicy, ...]


def judged_tiers(resources: Resources) -> tuple[JudgedTier, ...]:
    """All tiers in order: those that exist, then missing ones, which end in a deny (4.2)."""
    defined = {tier.name: tier for tier in (*_BUILT_IN, *resources.tiers)}
    members: dict[str, list[JudgedPolicy]] = {name: [] for name in defined}
    for policy in resources.policies:
        members.setdefault(_tier_name(policy), []).append(_judged(policy))
    tiers = [_tier(name, defined.get(name), policies) for name, policies in members.items()]
    orders = {name: inf if tier.order is None else tier.order for name, tier in defined.items()}
    return tuple(sorted(tiers, key=lambda tier: (not tier.exists, orders.get(tier.name, inf), tier.name.encode())))


def _tier(name: str, tier: Tier | None, policies: list[JudgedPolicy]) -> JudgedTier:
    ordered = tuple(sorted(policies, key=lambda policy: policy.rank))
    if tier is None:
        return JudgedTier(name, pass_by_default=False, place=None, exists=False, policies=ordered)
    return JudgedTier(name, tier.pass_by_default, tier.place, exists=True, policies=ordered)


def _tier_name(policy: Policy) -> str:
    match policy:
        case CalicoPolicy():
            return policy.tier
        case KubernetesNetworkPolicy():
            return _KUBERNETES_TIER
        case AdminPolicy():
            return _BASELINE_TIER if policy.baseline else _ADMIN_TIER


def _judged(policy: Policy) -> JudgedPolicy:
    match policy:
        case CalicoPolicy():
            return _judged_calico(policy)
        case KubernetesNetworkPolicy():
            return _judged_kubernetes(policy)
        case AdminPolicy():
            return _judged_admin(policy)


def _judged_calico(policy: CalicoPolicy) -> JudgedPolicy:
    written = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    return JudgedPolicy(
        kind=policy.kind,
        namespace=policy.namespace,
        name=policy.name,
        order=inf if policy.order is None else policy.order,
        place=policy.place,
        subject=(policy.namespace, policy.selector, policy.namespace_selector, policy.service_account_selector),
        selects=_calico_subject(policy),
        rules={direction: judged_rules(written[direction], policy.namespace) for direction in policy.types},
    )


def _judged_kubernetes(policy: KubernetesNetworkPolicy) -> JudgedPolicy:
    written = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    namespace, pods = policy.namespace, policy.pod_selector
    return JudgedPolicy(
        kind=policy.kind,
        namespace=namespace,
        name=policy.name,
        order=_KUBERNETES_ORDER,
        place=policy.place,
        subject=("pods", namespace, repr(pods)),
        selects=lambda party: party.is_pod and party.namespace == namespace and selects(pods, party.labels),
        rules={d: judged_kubernetes_rules(written[d], namespace, d) for d in policy.types},
    )


def _judged_admin(policy: AdminPolicy) -> JudgedPolicy:
    """A direction without rules is as one in which the policy selects nobody: it never isolates."""
    written = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    subject = policy.subject
    return JudgedPolicy(
        kind=policy.kind,
        namespace=None,
        name=policy.name,
        order=float(policy.priority),
        place=policy.place,
        subject=("subject", repr(subject)),
        selects=lambda party: is_subject(subject, party),
        rules={d: judged_admin_rules(rules, d) for d, rules in written.items() if rules},
    )


def _calico_subject(policy: CalicoPolicy) -> Subject:
    """Whom a Calico policy selects: all that it names must hold, in its own namespace where it has one (2.11)."""
    own, matches = policy.namespace, _own_selector(policy).matches
    accounts = given(policy.service_account_selector)
    wide = given(policy.namespace_selector)
    tests: list[Subject] = []
    if wide is not None:
        tests.append(namespace_test(wide))
    if accounts is not None:
        tests.append(account_test(accounts, everyone=own is not None))

    def subject(party: Party) -> bool:
        if own is not None and party.namespace != own:
            return False
        return matches(party.labels) and all(test(party) for test in tests)

    return subject


def _own_selector(policy: CalicoPolicy) -> Selector:
    """The policy's ``selector``; a global policy's ``all()`` shrinks by its text when it is combined (2.11).

    With a namespaceSelector it comes to mean whatever is in a namespace, otherwise with a
    serviceAccountSelector whatever has a service account. A blank selector holds no such text.
    """
    if policy.namespace is not None:
        return policy.selector
    if given(policy.namespace_selector) is not None:
        return _without_all(policy.selector, NAMESPACE_LABEL)
    if given(policy.service_account_selector) is not None:
        return _without_all(policy.selector, ACCOUNT_LABEL)
    return policy.selector


def _without_all(selector: Selector, label: str) -> Selector:
    shrunk = selector.text.replace("all()", f"has({label})")
    return selector if shrunk == selector.text else parse_selector(shrunk)
