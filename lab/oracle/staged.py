# SPDX-License-Identifier: Apache-2.0
"""Staged policies: never enforced, and what they say should be.

A staged policy that says Set stands for the enforced one of the same kind, namespace and name, or for a new
one; Delete for the absence of that one; Learn and Ignore for nothing.
"""

from __future__ import annotations

from dataclasses import replace

from lab.policy.resources import AdminPolicy, CalicoPolicy, Policy, Resources, StagedAction

__all__ = ["Identity", "as_if_enforced", "enforced", "identity", "staged_action", "unstaged"]

Identity = tuple[str, str | None, str]
"""Kind as enforced, namespace, name: what a staged policy shares with the one that it is about."""


def staged_action(policy: Policy) -> StagedAction | None:
    """What a policy proposes, or None for one that is enforced."""
    return None if isinstance(policy, AdminPolicy) else policy.staged


def enforced(resources: Resources) -> Resources:
    """The resources without what is only staged."""
    return replace(resources, policies=tuple(p for p in resources.policies if staged_action(p) is None))


def as_if_enforced(resources: Resources) -> Resources:
    """The resources as they would be if everything staged were enforced."""
    policies = {identity(policy): policy for policy in enforced(resources).policies}
    for policy in resources.policies:
        action = staged_action(policy)
        if action is StagedAction.SET:
            policies[identity(policy)] = unstaged(policy)
        elif action is StagedAction.DELETE:
            policies.pop(identity(policy), None)
    return replace(resources, policies=tuple(policies.values()))


def identity(policy: Policy) -> Identity:
    """What names a policy, the same for a staged one and the one that it is about."""
    return policy.kind.removeprefix("Staged"), policy.namespace, policy.name


def unstaged(policy: Policy) -> Policy:
    """A staged policy as it would be enforced; any other one itself."""
    match policy:
        case CalicoPolicy(kind="StagedNetworkPolicy"):
            return replace(policy, kind="NetworkPolicy", staged=None)
        case CalicoPolicy(kind="StagedGlobalNetworkPolicy"):
            return replace(policy, kind="GlobalNetworkPolicy", staged=None)
        case AdminPolicy():
            return policy
        case _:
            return replace(policy, staged=None)
