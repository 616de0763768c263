# SPDX-License-Identifier: Apache-2.0
"""Policies of every kind made ready to be asked: whom each selects, with which rules, and at which rank of its tier."""

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
from lab.policy.resources import AdminPolicy, CalicoPolicy, Direction, KubernetesNetworkPolicy, Policy
from lab.policy.selector import Selector, parse_selector

__all__ = ["ADMIN_TIER", "BASELINE_TIER", "DEFAULT_TIER", "JudgedPolicy", "Subject", "judged_policy"]

ADMIN_TIER = "kube-admin"
DEFAULT_TIER = "default"
BASELINE_TIER = "kube-baseline"
_KUBERNETES_ORDER = 1000.0

Subject = Callable[[Party], bool]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPolicy:
    """A policy ready to be asked; those with an equal ``subject`` select the same endpoints by the same words.

    At which hooks of a host endpoint it is asked say ``do_not_track``, ``pre_dnat`` and ``apply_on_forward``; of a
    pod only a policy is asked that is neither untracked nor pre-DNAT.
    """

    kind: str
    namespace: str | None
    name: str
    tier: str
    order: float
    place: Place
    subject: Hashable
    selects: Subject
    rules: Mapping[Direction, tuple[JudgedRule, ...]]
    """Only the directions that are among its types."""
    do_not_track: bool = False
    pre_dnat: bool = False
    apply_on_forward: bool = False

    @property
    def rank(self) -> tuple[float, bytes]:
        """Order within a tier; ties go by one string, bytewise (Felix: calc/policy_sorter.go)."""
        return self.order, f"{self.name}/{self.namespace or ''}/{self.kind}".encode()


def judged_policy(policy: Policy) -> JudgedPolicy:
    """A policy as it would be if it were enforced, whether or not it is only staged."""
    match policy:
        case CalicoPolicy():
            return _judged_calico(policy)
        case KubernetesNetworkPolicy():
            return _judged_kubernetes(policy)
        case AdminPolicy():
            return _judged_admin(policy)


def _judged_calico(policy: CalicoPolicy) -> JudgedPolicy:
    written = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    words = (policy.namespace, policy.selector, policy.namespace_selector, policy.service_account_selector)
    return JudgedPolicy(
        kind=policy.kind,
        namespace=policy.namespace,
        name=policy.name,
        tier=policy.tier,
        order=inf if policy.order is None else policy.order,
        place=policy.place,
        subject=words,
        selects=_calico_subject(policy),
        rules={direction: judged_rules(written[direction], policy.namespace) for direction in policy.types},
        do_not_track=policy.do_not_track,
        pre_dnat=policy.pre_dnat,
        apply_on_forward=policy.apply_on_forward,
    )


def _judged_kubernetes(policy: KubernetesNetworkPolicy) -> JudgedPolicy:
    written = {Direction.INGRESS: policy.ingress, Direction.EGRESS: policy.egress}
    namespace, pods = policy.namespace, policy.pod_selector
    return JudgedPolicy(
        kind=policy.kind,
        namespace=namespace,
        name=policy.name,
        tier=DEFAULT_TIER,
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
        tier=BASELINE_TIER if policy.baseline else ADMIN_TIER,
        order=float(policy.priority),
        place=policy.place,
        subject=("subject", repr(subject)),
        selects=lambda party: is_subject(subject, party),
        rules={d: judged_admin_rules(rules, d) for d, rules in written.items() if rules},
    )


def _calico_subject(policy: CalicoPolicy) -> Subject:
    """Whom a Calico policy selects: all that it names must hold, in its own namespace where it has one."""
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
    """The policy's ``selector``; a global policy's ``all()`` shrinks by its text when it is combined.

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
