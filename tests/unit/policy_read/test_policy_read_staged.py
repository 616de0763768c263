# SPDX-License-Identifier: Apache-2.0
"""Staged policies: read like those that they propose, and known as staged by what they would do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.policy.resources import CalicoPolicy, Direction, KubernetesNetworkPolicy, Resources, StagedAction

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]

CALICO = ["StagedNetworkPolicy", "StagedGlobalNetworkPolicy"]
ALL = [*CALICO, "StagedKubernetesNetworkPolicy"]
ACTIONS = [
    ("", StagedAction.SET),
    ("stagedAction: Set, ", StagedAction.SET),
    ("stagedAction: Delete, ", StagedAction.DELETE),
    ("stagedAction: Learn, ", StagedAction.LEARN),
    ("stagedAction: Ignore, ", StagedAction.IGNORE),
]


def policy(kind: str, spec: str) -> str:
    namespace = "" if "Global" in kind else ", namespace: x"
    return f"{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: n{namespace}}}, spec: {{{spec}}}}}"


@pytest.mark.parametrize("kind", CALICO)
@pytest.mark.parametrize(("given", "staged"), ACTIONS)
def test_staged_policy_of_calico_is_read(load: Load, kind: str, given: str, staged: StagedAction) -> None:
    (found,) = load(policy(kind, f"{given}tier: t, order: 5, selector: has(a), egress: [{{action: Deny}}]")).policies
    assert isinstance(found, CalicoPolicy)
    assert (found.kind, found.staged, found.tier, found.order) == (kind, staged, "t", 5)
    assert (found.types, len(found.egress)) == ({Direction.EGRESS}, 1)
    assert found.namespace == (None if "Global" in kind else "x")


@pytest.mark.parametrize(("given", "staged"), ACTIONS)
def test_staged_policy_of_kubernetes_is_read(load: Load, given: str, staged: StagedAction) -> None:
    spec = f"{given}podSelector: {{matchLabels: {{a: b}}}}, policyTypes: [Egress], egress: [{{ports: [{{port: 80}}]}}]"
    (found,) = load(policy("StagedKubernetesNetworkPolicy", spec)).policies
    assert isinstance(found, KubernetesNetworkPolicy)
    assert (found.kind, found.staged, found.namespace) == ("StagedKubernetesNetworkPolicy", staged, "x")
    assert (found.pod_selector.match_labels, found.types, len(found.egress)) == ({"a": "b"}, {Direction.EGRESS}, 1)


@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
def test_policy_that_is_not_staged_says_so(load: Load, kind: str) -> None:
    (found,) = load(policy(kind, "")).policies
    assert isinstance(found, CalicoPolicy)
    assert found.staged is None


@pytest.mark.parametrize("kind", ALL)
def test_wrong_staged_action_is_refused(faults: Faults, kind: str) -> None:
    (told,) = faults(policy(kind, "stagedAction: §set"))
    assert told == "spec.stagedAction is not allowed | Set, Delete, Learn, Ignore | did you mean 'Set'?"


@pytest.mark.parametrize(
    ("kind", "spec", "fault"),
    [
        ("StagedNetworkPolicy", "§namespaceSelector: has(a)", "unknown key 'namespaceSelector' in spec"),
        ("StagedNetworkPolicy", "ingress: [{action: §allow}]", "spec.ingress[0].action is not allowed"),
        ("StagedNetworkPolicy", "§podSelector: {}", "unknown key 'podSelector' in spec"),
        ("StagedGlobalNetworkPolicy", "selector: has(a§", "spec.selector is not a selector"),
        ("StagedGlobalNetworkPolicy", "types: [Ingress, §Ingress]", "spec.types[1] is given twice"),
        ("StagedKubernetesNetworkPolicy", "§selector: has(a)", "unknown key 'selector' in spec"),
        ("StagedKubernetesNetworkPolicy", "ingress: [{from: [§{}]}]", "spec.ingress[0].from[0] says nothing"),
        ("StagedKubernetesNetworkPolicy", "§order: 5", "unknown key 'order' in spec"),
    ],
)
def test_staged_policy_is_held_to_the_rules_of_what_it_proposes(
    faults: Faults, kind: str, spec: str, fault: str
) -> None:
    (told,) = faults(policy(kind, spec))
    assert told.startswith(fault)
