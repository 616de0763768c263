# SPDX-License-Identifier: Apache-2.0
"""The label index answers as the selector itself does, for every operator and for missing labels."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lab.policy.compile.index import SelectorIndex
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


def index_of(label_sets):
    index = SelectorIndex()
    for number, labels in enumerate(label_sets):
        index.put(number, labels)
    return index


@given(LABELS, SELECTORS)
def test_index_agrees_with_matching_one_by_one(label_sets, text):
    selector, index = parse_selector(text), index_of(label_sets)
    index.watch(selector)
    assert set(index.matching(selector)) == {n for n, labels in enumerate(label_sets) if selector.matches(labels)}


@given(LABELS, LABELS, SELECTORS, st.sets(st.integers(0, 5)))
def test_index_follows_things_that_change_and_go(before, after, text, gone):
    selector, index = parse_selector(text), index_of(before)
    index.watch(selector)
    matched = set(index.matching(selector))
    for number, labels in enumerate(after):
        for canonical, entered in index.put(number, labels):
            assert canonical == selector.canonical
            (matched.add if entered else matched.remove)(number)
    now = dict(enumerate(before)) | dict(enumerate(after))
    for number in gone & now.keys():
        matched.difference_update(number for _ in index.remove(number))
        del now[number]
    assert set(index.matching(selector)) == matched
    assert matched == {number for number, labels in now.items() if selector.matches(labels)}


def counted(selector, asked):
    """The selector, noting every time that it is asked of one thing."""

    def matches(labels):
        asked.append(selector.canonical)
        return selector.matches(labels)

    return replace(selector, matches=matches)


def test_label_that_changes_asks_only_selectors_that_test_for_its_values():
    asked = []
    index = index_of([{"app": "a1", "tier": "t"}])
    for number in range(100):
        index.watch(counted(parse_selector(f"app == 'a{number}' && tier == 't'"), asked))
    asked.clear()
    moved = index.put(0, {"app": "a2", "tier": "t"})
    assert sorted(asked) == ['(app == "a1" && tier == "t")', '(app == "a2" && tier == "t")']
    assert sorted(moved) == [(asked_of, "a2" in asked_of) for asked_of in sorted(asked)]


def test_thing_that_comes_asks_only_selectors_that_test_for_its_labels_or_want_none():
    asked = []
    index = index_of([])
    for text in ("app == 'a1'", "app == 'a2'", "!has(app)"):
        index.watch(counted(parse_selector(text), asked))
    asked.clear()
    assert index.put(0, {"app": "a1"}) == [('app == "a1"', True)]
    assert sorted(asked) == ["!has(app)", 'app == "a1"']


def test_selector_watched_twice_is_forgotten_with_its_second_watcher():
    index, selector = index_of([{"a": "x"}]), parse_selector("has(a) && has(a)")
    index.watch(selector)
    index.watch(selector)
    index.unwatch(selector)
    assert index.put(0, {}) == [(selector.canonical, False)]
    index.unwatch(selector)
    assert index.put(0, {"a": "x"}) == []
