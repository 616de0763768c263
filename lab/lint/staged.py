# SPDX-License-Identifier: Apache-2.0
"""Staged policies that would change a verdict, each taken alone, and for which flows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lab.lint.finding import Finding, ShownFlow
from lab.lint.scene import Scene, about
from lab.oracle import Oracle
from lab.oracle.staged import as_if_enforced, staged_action
from lab.policy.resources import Policy, StagedAction

__all__ = ["staged_changes"]


def staged_changes(scene: Scene) -> Iterator[Finding]:
    """A finding for each staged policy that would change something were it alone enforced, with all flows of which."""
    proposing = [policy for policy in scene.resources.policies if _proposes(policy)]
    for policy in proposing:
        changes = _changes(scene, policy)
        if changes:
            closed = sum(change.allowed for change in changes)
            would = [f"{verb} {count}" for verb, count in (("deny", closed), ("allow", len(changes) - closed)) if count]
            message = f"enforced, it would {' and '.join(would)} of {len(scene.flows)} flows that are "
            message += "allowed now" if closed == len(changes) else "decided otherwise now" if closed else "denied now"
            yield Finding("lint.staged-changes-verdicts", "info", policy.place, about(policy), message, changes)


def _proposes(policy: Policy) -> bool:
    return staged_action(policy) in {StagedAction.SET, StagedAction.DELETE}


def _changes(scene: Scene, policy: Policy) -> tuple[ShownFlow, ...]:
    """The flows that would be decided otherwise."""
    resources = scene.resources
    alone = tuple(each for each in resources.policies if each is policy or staged_action(each) is None)
    oracle = Oracle(scene.topology, as_if_enforced(replace(resources, policies=alone)))
    after = oracle.verdicts(scene.flows)
    return tuple(
        ShownFlow(flow, now.allowed, then.allowed)
        for flow, now, then in zip(scene.flows, scene.verdicts, after, strict=True)
        if now.allowed != then.allowed
    )
