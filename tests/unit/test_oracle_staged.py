# SPDX-License-Identifier: Apache-2.0
"""Staged policies: never enforced, told by explain, and what would be if they were, by hand."""

from __future__ import annotations

import pytest
from oracle_lab import Document, Judge, Lab, calico, gnp, knp, lab, np

from lab.oracle import RuleDecision, explanation_text
from lab.oracle.explain import AskedStaged
from lab.topology import Flow

__all__ = ["lab"]

ALLOW, DENY, PASS = ({"action": action} for action in ("Allow", "Deny", "Pass"))
B_TO_A = Flow("x/b", "x/a", 6, 80, 4)


def onto_a(*rules: Document, **more: object) -> Document:
    return {"selector": "pod == 'a'", "types": ["Ingress"], "ingress": list(rules), **more}


def staged(*rules: Document, action: str = "Set", name: str = "p", **more: object) -> Document:
    return calico("StagedGlobalNetworkPolicy", name, {**onto_a(*rules, **more), "stagedAction": action})


def deleted(name: str = "p") -> Document:
    return calico("StagedGlobalNetworkPolicy", name, {"stagedAction": "Delete"})


def staged_knp(**spec: object) -> Document:
    return calico("StagedKubernetesNetworkPolicy", "p", {"podSelector": {}, **spec}, "x")


def tier(name: str) -> Document:
    return calico("Tier", name, {"order": 1})


def told(judge: Judge) -> list[AskedStaged]:
    return [asked for direction in judge.oracle.explain(B_TO_A).directions for asked in direction.staged]


# Documents; the verdict; the verdict as if enforced.
VERDICTS: list[tuple[list[Document], bool, bool]] = [
    ([staged(DENY)], True, False),
    ([staged(ALLOW)], True, True),
    ([staged()], True, False),
    ([tier("t"), staged(name="t.p", tier="t")], True, False),
    ([gnp(onto_a(DENY)), staged(ALLOW)], False, True),
    ([gnp(onto_a(DENY)), staged(ALLOW, name="z")], False, False),
    ([gnp(onto_a(DENY, order=5)), staged(ALLOW, name="z", order=4)], False, True),
    ([gnp(onto_a(DENY, order=5)), staged(ALLOW, name="z", order=6)], False, False),
    ([gnp(onto_a(DENY)), staged(ALLOW, selector="pod == 'b'")], False, True),
    ([gnp(onto_a(DENY)), deleted()], False, True),
    ([gnp(onto_a(DENY)), deleted("other")], False, False),
    ([gnp(onto_a(DENY)), staged(ALLOW, action="Learn")], False, False),
    ([gnp(onto_a(DENY)), staged(ALLOW, action="Ignore")], False, False),
    ([np(onto_a(DENY, order=1)), staged(ALLOW)], False, False),  # of another kind: it replaces nothing
    ([np(onto_a(DENY)), calico("StagedNetworkPolicy", "p", onto_a(ALLOW), "x")], False, True),
    ([np(onto_a(DENY)), calico("StagedNetworkPolicy", "p", onto_a(ALLOW), "y")], False, False),
    ([knp({"podSelector": {}}), staged_knp(ingress=[{}])], False, True),
    ([staged_knp()], True, False),
    ([gnp(onto_a(DENY)), deleted(), staged_knp()], False, False),
]


@pytest.mark.parametrize(("documents", "allowed", "as_if"), VERDICTS)
def test_staged_policy_is_not_enforced_and_would_be(
    lab: Lab, documents: list[Document], allowed: bool, as_if: bool
) -> None:
    judge = lab(*documents)
    assert judge.allows("x/b", "x/a") is allowed
    assert judge.oracle.staged_verdict(B_TO_A).allowed is as_if


def test_tier_with_staged_policies_only_is_as_if_absent(lab: Lab) -> None:
    judge = lab(tier("t"), staged(name="t.p", tier="t"), gnp(onto_a(ALLOW)))
    assert judge.rule("x/b", "x/a") == ("default", "p", 0)
    outcomes = [asked.outcome for asked in judge.oracle.explain(B_TO_A).directions[1].tiers]
    assert outcomes[0] == "no policy applies"


def test_staged_policy_decides_under_its_enforced_name_at_its_own_place(lab: Lab) -> None:
    decision = lab(staged(DENY)).oracle.staged_verdict(B_TO_A).decided_by
    assert isinstance(decision, RuleDecision)
    assert (decision.kind, decision.name) == ("GlobalNetworkPolicy", "p")
    assert decision.place is not None


def test_explanation_tells_what_each_staged_policy_alone_would_do(lab: Lab) -> None:
    judge = lab(gnp(onto_a(DENY)), staged(ALLOW), staged(DENY, name="q"), staged(PASS, name="r", order=1))
    by_name = {asked.name: asked for asked in told(judge)}
    assert {name: (asked.verdict.allowed, asked.changes) for name, asked in by_name.items()} == {
        "p": (True, True),
        "q": (False, False),
        "r": (True, True),
    }
    assert by_name["q"].rules is None  # the enforced policy decides before it
    assert [rule.matched for rule in by_name["r"].rules or ()] == [True]


def test_explanation_of_deletion_is_the_verdict_without_the_enforced_policy(lab: Lab) -> None:
    (asked,) = told(lab(gnp(onto_a(DENY)), deleted()))
    assert (asked.action.value, asked.verdict.allowed, asked.changes, asked.rules) == ("Delete", True, True, None)


@pytest.mark.parametrize("action", ["Learn", "Ignore"])
def test_explanation_of_policy_that_proposes_nothing_changes_nothing(lab: Lab, action: str) -> None:
    (asked,) = told(lab(gnp(onto_a(DENY)), staged(ALLOW, action=action)))
    assert (asked.verdict.allowed, asked.changes, asked.rules) == (False, False, None)


def test_explanation_leaves_out_staged_policies_of_others(lab: Lab) -> None:
    assert told(lab(staged(DENY, selector="pod == 'c'"), deleted("nobody"))) == []


def test_explanation_as_text_marks_what_is_only_staged(lab: Lab) -> None:
    text = explanation_text(lab(staged(DENY)).oracle.explain(B_TO_A))
    assert "StagedGlobalNetworkPolicy p (" in text
    assert ", only staged: Set in tier default" in text
    assert "    enforced, another verdict: deny, decided by rule 0 of GlobalNetworkPolicy p in tier default" in text


@pytest.mark.parametrize("early", ["doNotTrack", "preDNAT"])
def test_staged_policy_for_hosts_alone_is_not_told_of_workloads(lab: Lab, early: str) -> None:
    assert told(lab(staged(DENY, **{early: True, "applyOnForward": True}))) == []
