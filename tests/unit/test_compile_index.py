# SPDX-License-Identifier: Apache-2.0
"""The label index answers as the selector itself does, for every operator and for missing labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.policy.compile.index import LabelIndex, members
from lab.policy.selector import parse_selector

KEYS = ("a", "b")
VALUES = ("", "x", "xy", "yx")
LABELS = st.lists(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=6)


def comparison(key, operator, value):
    return f"{key} {operator} '{value}'"


OPERATORS = st.sampled_from(["==", "!=", "contains", "starts with", "ends with"])
SETS = st.lists(st.sampled_from(VALUES), max_size=3).map(lambda values: "{" + ", ".join(f"'{v}'" for v in values) + "}")
LEAVES = st.one_of(
    st.sampled_from(["all()", "has(a)", "has(b)"]),
    st.builds(comparison, st.sampled_from(KEYS), OPERATORS, st.sampled_from(VALUES)),
    st.builds("{} {} {}".format, st.sampled_from(KEYS), st.sampled_from(["in", "not in"]), SETS),
)
SELECTORS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map("!({})".format),
        st.builds("({}) && ({})".format, inner, inner),
        st.builds("({}) || ({})".format, inner, inner),
    ),
    max_leaves=6,
)


@given(LABELS, SELECTORS)
def test_index_agrees_with_matching_one_by_one(label_sets, text):
    selector = parse_selector(text)
    found = set(members(LabelIndex(label_sets).matching(selector)))
    assert found == {number for number, labels in enumerate(label_sets) if selector.matches(labels)}
