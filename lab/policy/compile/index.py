# SPDX-License-Identifier: Apache-2.0
"""Which of many labelled things a selector matches, each distinct selector evaluated once for all of them.

A set of things is one integer, bit N standing for the Nth thing, so that a test of a label costs a
look-up and a connective one machine operation for every 30 things, whatever the selector is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import and_, or_

from lab.policy.selector import Selector
from lab.policy.selector_ast import All, And, Compare, Global, Has, Member, Node, Not, Or

__all__ = ["LabelIndex", "members"]

_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda found, wanted: wanted in found,
    "starts with": str.startswith,
    "ends with": str.endswith,
}


def members(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class LabelIndex:
    """Answers for a fixed sequence of label mappings which of them a selector matches."""

    def __init__(self, label_sets: Iterable[Mapping[str, str]]) -> None:
        self._by_key: dict[str, dict[str, int]] = {}
        count = 0
        for count, labels in enumerate(label_sets, start=1):
            bit = 1 << (count - 1)
            for key, value in labels.items():
                values = self._by_key.setdefault(key, {})
                values[value] = values.get(value, 0) | bit
        self.everything = (1 << count) - 1
        self._answers: dict[str, int] = {}

    def matching(self, selector: Selector) -> int:
        """The set of things that the selector matches."""
        answer = self._answers.get(selector.canonical)
        if answer is None:
            answer = self._answers[selector.canonical] = self._evaluate(selector.node)
        return answer

    def _evaluate(self, node: Node) -> int:
        match node:
            case All() | Global():
                return self.everything
            case Has() | Compare() | Member():
                return self._test(node)
            case Not(operand):
                return self.everything & ~self._evaluate(operand)
            case And(operands):
                return reduce(and_, map(self._evaluate, operands))
            case Or(operands):
                return reduce(or_, map(self._evaluate, operands))

    def _test(self, node: Has | Compare | Member) -> int:
        match node:
            case Has(key):
                return reduce(or_, self._by_key.get(key, {}).values(), 0)
            case Compare(key, comparison, value):
                return self._compare(key, comparison, value)
            case Member(key, values, negated):
                found = self._with_any(key, values)
                return self.everything & ~found if negated else found

    def _with_any(self, key: str, values: Iterable[str]) -> int:
        by_value = self._by_key.get(key, {})
        return reduce(or_, (by_value.get(value, 0) for value in values), 0)

    def _compare(self, key: str, comparison: str, wanted: str) -> int:
        """A missing label fails every comparison but ``!=``, which it passes."""
        if comparison == "==":
            return self._with_any(key, (wanted,))
        if comparison == "!=":
            return self.everything & ~self._with_any(key, (wanted,))
        test = _TESTS[comparison]
        return self._with_any(key, [value for value in self._by_key.get(key, {}) if test(value, wanted)])
