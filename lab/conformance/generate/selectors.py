# SPDX-License-Identifier: Apache-2.0
"""Selectors over the labels of a topology, in Calico's language and in that of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from lab.conformance.generate.facts import Labels

__all__ = ["label_selectors", "selectors"]


def selectors(labels: Labels) -> st.SearchStrategy[str]:
    """Calico selectors: one test as a rule, at times two of them joined or one negated."""
    return _selector(tuple(_tests(labels)))


@st.composite
def _selector(draw: st.DrawFn, tests: tuple[str, ...]) -> str:
    first = draw(st.sampled_from(tests))
    form = draw(st.sampled_from(("{0}", "{0}", "{0}", "{0}", "!({0})", "{0} && {1}", "{0} || {1}", "!{0} || {1}")))
    return form.format(first, draw(st.sampled_from(tests)) if "{1}" in form else "")


def _tests(labels: Labels) -> Iterator[str]:
    """Every kind of test over every key and value, the plainest first."""
    yield "all()"
    for key, values in labels.items():
        yield from (f"{key} == {value!r}" for value in values)
    for key, values in labels.items():
        yield f"has({key})"
        yield f"!has({key})"
        yield from (f"{key} != {value!r}" for value in values)
        yield f"{key} in {{{', '.join(map(repr, values[:2]))}}}"
        yield f"{key} not in {{{', '.join(map(repr, values[:2]))}}}"
        yield f"{key} contains {values[0][1:2]!r}"
        yield f"{key} starts with {values[0][:1]!r}"
        yield f"{key} ends with {values[0][-1:]!r}"


@st.composite
def label_selectors(draw: st.DrawFn, labels: Labels) -> dict[str, object]:
    """Kubernetes label selectors: empty, one label, or one expression, at times both."""
    key = draw(st.sampled_from(tuple(labels)))
    value = draw(st.sampled_from(labels[key]))
    expressions: tuple[dict[str, object], ...] = (
        {"key": key, "operator": "In", "values": [value]},
        {"key": key, "operator": "NotIn", "values": [value]},
        {"key": key, "operator": "Exists"},
        {"key": key, "operator": "DoesNotExist"},
    )
    match_labels: dict[str, object] = {"matchLabels": {key: value}}
    choices: tuple[dict[str, object], ...] = (
        {},
        match_labels,
        match_labels,
        *({"matchExpressions": [expression]} for expression in expressions),
        {**match_labels, "matchExpressions": [expressions[0]]},
    )
    return draw(st.sampled_from(choices))
