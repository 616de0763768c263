# SPDX-License-Identifier: Apache-2.0
"""What is odd in one policy by itself: rules that its types leave out or that nothing gets to, HTTP without a proxy."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Finding, Severity
from lab.lint.scene import AnyRule, Scene, Written, about
from lab.oracle.admin import unknown_field
from lab.oracle.staged import identity, staged_action
from lab.policy.resources import (
    Action,
    AdminPolicy,
    AdminRule,
    CalicoPolicy,
    Direction,
    KubernetesRule,
    Policy,
    Profile,
    Rule,
    StagedAction,
)
from lab.schema import listing

__all__ = [
    "action_of",
    "closed_rules",
    "http_without_sidecar",
    "left_out_rules",
    "pointless_deletes",
    "unreachable",
    "unreachable_rules",
]


def left_out_rules(scene: Scene) -> Iterator[Finding]:
    """Rules of a direction that the policy's types do not name: nobody ever asks them."""
    for policy in scene.resources.policies:
        if isinstance(policy, AdminPolicy):
            continue
        for direction, rules in ((Direction.INGRESS, policy.ingress), (Direction.EGRESS, policy.egress)):
            if rules and direction not in policy.types:
                field, word = _types_field(policy), direction.value.capitalize()
                message = f"its {direction.value} rules are never asked: {field} does not hold {word}"
                yield Finding("lint.direction-not-in-types", "warning", rules[0].place, about(policy), message)


def _types_field(policy: Policy) -> str:
    return "types" if isinstance(policy, CalicoPolicy) else "policyTypes"


def unreachable(scene: Scene) -> Iterator[tuple[Written, Written]]:
    """Each rule that stands behind one of the same policy or profile that matches everything, with that one."""
    everything: Written | None = None
    for written in scene.rules():
        if everything is not None and _stand_together(everything, written):
            yield written, everything
        else:
            everything = written if _takes_everything(written) else None


def _stand_together(one: Written, other: Written) -> bool:
    return one.owner is other.owner and one.direction is other.direction


def _takes_everything(written: Written) -> bool:
    """Whether a rule decides every packet; one with http does not, where there is a proxy to ask it."""
    rule = written.rule
    if isinstance(rule, Rule):
        return rule.action is not Action.LOG and rule == Rule(rule.action, rule.place, annotations=rule.annotations)
    return isinstance(rule, KubernetesRule) and not rule.peers and not rule.ports


def unreachable_rules(scene: Scene) -> Iterator[Finding]:
    """A finding for each of them. What only allows again what is allowed already is harmless."""
    for written, before in unreachable(scene):
        severity: Severity = "info" if action_of(written.rule) is action_of(before.rule) else "warning"
        message = f"the rule is never asked: rule {before.index} ({before.rule.place}) matches everything"
        yield Finding("lint.rule-unreachable", severity, written.rule.place, written.about, message)


def action_of(rule: AnyRule) -> Action:
    """What a rule does; those of a Kubernetes NetworkPolicy allow."""
    return Action.ALLOW if isinstance(rule, KubernetesRule) else rule.action


def http_without_sidecar(scene: Scene) -> Iterator[Finding]:
    """HTTP matches that nobody evaluates: at a workload without a sidecar they allow every request."""
    for written in scene.rules():
        rule, owner = written.rule, written.owner
        if not isinstance(rule, Rule) or rule.http is None or isinstance(owner, Profile):
            continue
        selected = {party.title for party in scene.selected(owner) if party.is_pod}
        bare = [name for name in selected if scene.topology.workloads[name].sidecar is None]
        if bare:
            message = f"http is as if not there, so every request is allowed: no sidecar at {listing(sorted(bare))}"
            yield Finding("lint.http-without-sidecar", "warning", rule.place, written.about, message)


def closed_rules(scene: Scene) -> Iterator[Finding]:
    """Admin rules that deny everything, because they would deny or pass something that nobody knows."""
    for written in scene.rules():
        rule = written.rule
        if isinstance(rule, AdminRule) and rule.action is not Action.ALLOW:
            field = unknown_field(rule, written.direction)
            if field is not None:
                message = f"the rule denies everything: {field} holds a kind of entry that nobody knows"
                yield Finding("lint.rule-fails-closed", "warning", rule.place, written.about, message)


def pointless_deletes(scene: Scene) -> Iterator[Finding]:
    """Staged policies that would delete what is not there."""
    there = {identity(policy) for policy in scene.resources.policies if staged_action(policy) is None}
    for policy in scene.resources.policies:
        if staged_action(policy) is StagedAction.DELETE and identity(policy) not in there:
            kind, namespace, name = identity(policy)
            home = f"{namespace}/" if namespace else ""
            message = f"it would delete {kind} {home}{name}, which is not there"
            yield Finding("lint.staged-deletes-nothing", "warning", policy.place, about(policy), message)
