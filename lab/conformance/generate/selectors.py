# SPDX-License-Identifier: Apache-2.0
"""Selectors over the labels of a topology, in Calico's language and in that of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from hypothesis import strategies as st

from lab.conformance.generate.facts import Labels
from lab.conformance.generate.picks import pick

__all__ = ["label_selectors", "selectors"]

_FORMS = ("{0}", "{0}", "{0}", "{0}", "!({0})", "{0} && {1}", "{0} || {1}", "!{0} || {1}")


def selectors(draw: st.DrawFn, labels: Labels) -> str:
    """A Calico selector: one test as a rule, at times two of them joined or one negated."""
    tests = _tests(tuple(labels.items()))
    form = pick(draw, _FORMS)
    return form.format(pick(draw, tests), pick(draw, tests) if "{1}" in form else "")


@cache
def _tests(labels: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    """Every kind of test over every key and value, the plainest first."""
    plain = [f"{key} == {value!r}" for key, values in labels for value in values]
    return ("all()", *plain, *(test for key, values in labels for test in _other_tests(key, values)))


def _other_tests(key: str, values: tuple[str, ...]) -> Iterator[str]:
    yield f"has({key})"
    yield f"!has({key})"
    yield from (f"{key} != {value!r}" for value in values)
    listed = ", ".join(map(repr, values[:2]))
    yield f"{key} in {{{listed}}}"
    yield f"{key} not in {{{listed}}}"
    yield f"{key} contains {values[0][1:2]!r}"
    yield f"{key} starts with {values[0][:1]!r}"
    yield f"{key} ends with {values[0][-1:]!r}"


def label_selectors(draw: st.DrawFn, labels: Labels) -> dict[str, object]:
    """Kubernetes label selectors: empty, one label, or one expression, at times both."""
    key = pick(draw, tuple(labels))
    value = pick(draw, labels[key])
    expressions: tuple[dict[str, object], ...] = (
        {"key": key, "operator": "In", "values": [value]},
        {"key": key, "operator": "NotIn", "values": [value]},
        {"key": key, "operator": "Exists"},
        {"key": key, "operator": "DoesNotExist"},
    )
    match_labels: dict[str, object] = {"matchLabels": {key: value}}
    one_each: list[dict[str, object]] = [{"matchExpressions": [expression]} for expression in expressions]
    choices: tuple[dict[str, object], ...] = (
        {},
        match_labels,
        match_labels,
        *one_each,
        {**match_labels, "matchExpressions": [expressions[0]]},
    )
    return pick(draw, choices)
