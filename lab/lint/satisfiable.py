# SPDX-License-Identifier: Apache-2.0
"""Whether any labels at all could pass a selector."""

from __future__ import annotations

from itertools import product
from math import prod

from lab.policy.selector import Selector
from lab.policy.selector_ast import Compare, Has, Member, nodes_of

__all__ = ["is_satisfiable"]

_MOST_TRIALS = 4096
"""Beyond that many combinations of values nobody writes selectors, and the answer is "perhaps"."""
_OTHER = "\x01"
"""A value that no text of a selector holds; with it a value can be made to equal none of those that are named."""


def is_satisfiable(selector: Selector) -> bool:
    """False when no labels pass; tried with every value that the selector names, with another one, and without.

    A substring is tried by the values that can be put together from all that is named.
    """
    candidates = _candidates(selector)
    if prod(map(len, candidates.values())) > _MOST_TRIALS:
        return True
    trials = product(*candidates.values())
    return any(
        selector.matches({key: value for key, value in zip(candidates, trial, strict=True) if value is not None})
        for trial in trials
    )


def _candidates(selector: Selector) -> dict[str, list[str | None]]:
    named: dict[str, dict[str, set[str]]] = {}
    for node in nodes_of(selector.node):
        match node:
            case Has(key):
                named.setdefault(key, {})
            case Compare(key, comparison, value):
                named.setdefault(key, {}).setdefault(comparison, set()).add(value)
            case Member(key, values, _):
                named.setdefault(key, {}).setdefault("==", set()).update(values)
    return {key: [None, *sorted(_values(by_comparison))] for key, by_comparison in named.items()}


def _values(named: dict[str, set[str]]) -> set[str]:
    """Values to try for one label: each that is named, and beginnings, middles and ends put together."""
    middle = _OTHER.join(sorted(named.get("contains", ())))
    built = {
        text
        for begin in ("", *named.get("starts with", ()))
        for end in ("", *named.get("ends with", ()))
        for text in (begin + middle + end, begin + _OTHER + middle + _OTHER + end)
    }
    return built.union(*named.values(), {_OTHER})
