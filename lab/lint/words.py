# SPDX-License-Identifier: Apache-2.0
"""What selectors ask of labels, and what they could have meant: the labels that are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lab.policy.resources import LabelSelector
from lab.policy.selector import Selector
from lab.policy.selector_ast import And, Compare, Has, Member, Node, Not, Or
from lab.schema import listing, suggestion

__all__ = ["Term", "Vocabulary", "meant", "terms"]


@dataclass(frozen=True, slots=True)
class Term:
    """One test of a label. ``wanted``: it must be there, with one of ``values`` unless that is empty."""

    key: str
    values: frozenset[str]
    wanted: bool


def terms(selector: Selector | LabelSelector) -> Iterator[Term]:
    """Every test that a selector makes, in the order of its text."""
    if isinstance(selector, Selector):
        yield from _of_node(selector.node, wanted=True)
        return
    for key, value in selector.match_labels.items():
        yield Term(key, frozenset({value}), wanted=True)
    for each in selector.match_expressions:
        yield Term(each.key, frozenset(each.values), wanted=each.operator in {"In", "Exists"})


def _of_node(node: Node, *, wanted: bool) -> Iterator[Term]:
    match node:
        case Not(operand):
            yield from _of_node(operand, wanted=not wanted)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from _of_node(operand, wanted=wanted)
        case Has(key):
            yield Term(key, frozenset(), wanted)
        case Member(key, values, negated):
            yield Term(key, values, wanted is not negated)
        case Compare(key, "==", value):
            yield Term(key, frozenset({value}), wanted)
        case Compare(key, "!=", value):
            yield Term(key, frozenset({value}), not wanted)
        case Compare(key, _, _):
            yield Term(key, frozenset(), wanted)


class Vocabulary:
    """The labels of somebody, with all values that they have."""

    def __init__(self, labels: Iterable[Mapping[str, str]]) -> None:
        self.values: dict[str, set[str]] = {}
        for one in labels:
            for key, value in one.items():
                self.values.setdefault(key, set()).add(value)

    def near(self, key: str) -> str | None:
        """The label that was perhaps meant, as "did you mean 'app'?"."""
        return suggestion(key, self.values)

    def missing(self, selector: Selector | LabelSelector) -> str:
        """Why nobody passes a selector, as far as one label alone can tell."""
        for term in terms(selector):
            there = self.values.get(term.key)
            if term.wanted and there is None:
                return meant(f"nobody carries the label {term.key!r}", self.near(term.key))
            if term.wanted and term.values and there is not None and there.isdisjoint(term.values):
                value = min(term.values)
                what = f"nobody's {term.key!r} is {' or '.join(map(repr, sorted(term.values)))}"
                return meant(f"{what} (there are: {listing(sorted(there))})", suggestion(value, there))
        return "nobody's labels meet all of it at once"


def meant(what: str, hint: str | None) -> str:
    """A sentence with its hint, if there is one."""
    return what if hint is None else f"{what}; {hint}"
