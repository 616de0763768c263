# SPDX-License-Identifier: Apache-2.0
"""Which of many labelled things each watched selector matches, kept up as things come, change and go.

A set of things is one integer, bit N standing for the thing in slot N. A selector that is new is answered for all
things at once: a test of a label costs a look-up, a connective one machine operation for every 30 things. A thing
whose labels change asks only those selectors again that test for the very values that came or went.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Generic, TypeVar

from lab.policy.selector import Selector
from lab.policy.selector_ast import All, And, Compare, Global, Has, Member, Node, Not, Or, nodes_of

__all__ = ["SelectorIndex", "Slots", "members"]

_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda found, wanted: wanted in found,
    "starts with": str.startswith,
    "ends with": str.endswith,
}
_NO_LABELS: Mapping[str, str] = {}
_Key = TypeVar("_Key", bound=Hashable)
# What makes a test of a label worth asking again: its key with a value, with None for "there at all", or alone.
_Trigger = tuple[str, str | None] | str


def members(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class Slots(Generic[_Key]):
    """Small numbers for keys, given out again when their key is gone."""

    def __init__(self) -> None:
        self._slots: dict[_Key, int] = {}
        self._keys: dict[int, _Key] = {}
        self._free: list[int] = []

    def __contains__(self, key: _Key) -> bool:
        return key in self._slots

    def slot(self, key: _Key) -> int:
        """The number of a key, a new one if it has none."""
        found = self._slots.get(key)
        if found is None:
            found = self._free.pop() if self._free else len(self._slots)
            self._slots[key] = found
            self._keys[found] = key
        return found

    def release(self, key: _Key) -> None:
        """Take the number from a key."""
        slot = self._slots.pop(key)
        del self._keys[slot]
        self._free.append(slot)

    def keys(self, bits: int) -> Iterator[_Key]:
        """The keys of the numbers whose bits are set."""
        return (self._keys[slot] for slot in members(bits))


@dataclass(slots=True)
class _Watched:
    """A selector that somebody watches, whom it matches, and how many watch it."""

    selector: Selector
    bits: int
    watchers: int = 0


class SelectorIndex(Generic[_Key]):
    """Things by key with their labels, and selectors that are watched over them."""

    def __init__(self) -> None:
        self._slots: Slots[_Key] = Slots()
        self._labels: dict[_Key, Mapping[str, str]] = {}
        self._by_label: dict[str, dict[str, int]] = {}
        self._everything = 0
        self._watched: dict[str, _Watched] = {}
        self._triggered: dict[_Trigger, set[str]] = {}
        self._by_default: set[str] = set()

    def put(self, key: _Key, labels: Mapping[str, str]) -> list[tuple[str, bool]]:
        """Give a new or known thing these labels.

        Returns:
            The canonical text of every watched selector that it begins (True) or ceases (False) to match.
        """
        known = key in self._slots
        bit = 1 << self._slots.slot(key)
        before = self._labels.get(key, _NO_LABELS)
        self._labels[key] = labels
        self._everything |= bit
        asked: set[str] = set() if known else set(self._by_default)
        for name in before.keys() | labels.keys():
            old, new = before.get(name), labels.get(name)
            if old != new:
                self._relabel(name, old, new, bit)
                asked.update(*(self._triggered.get(trigger, ()) for trigger in ((name, old), (name, new), name)))
        return [moved for canonical in asked for moved in self._moved(canonical, labels, bit)]

    def _moved(self, canonical: str, labels: Mapping[str, str], bit: int) -> Iterator[tuple[str, bool]]:
        watched = self._watched[canonical]
        matches = watched.selector.matches(labels)
        if matches != bool(watched.bits & bit):
            watched.bits ^= bit
            yield canonical, matches

    def remove(self, key: _Key) -> list[str]:
        """Forget a thing; returns the canonical texts of the selectors that matched it."""
        bit = 1 << self._slots.slot(key)
        labels = self._labels.pop(key)
        asked = set(self._by_default)
        for name, value in labels.items():
            self._relabel(name, value, None, bit)
            asked.update(*(self._triggered.get(trigger, ()) for trigger in ((name, value), (name, None), name)))
        self._everything ^= bit
        self._slots.release(key)
        left = [canonical for canonical in asked if self._watched[canonical].bits & bit]
        for canonical in left:
            self._watched[canonical].bits ^= bit
        return left

    def _relabel(self, name: str, old: str | None, new: str | None, bit: int) -> None:
        values = self._by_label.setdefault(name, {})
        if old is not None:
            values[old] ^= bit
            if not values[old]:
                del values[old]
        if new is not None:
            values[new] = values.get(new, 0) | bit

    def watch(self, selector: Selector) -> None:
        """Watch a selector, once more if it is watched already."""
        watched = self._watched.get(selector.canonical)
        if watched is None:
            watched = self._watched[selector.canonical] = _Watched(selector, self._evaluate(selector.node))
            for trigger in _triggers(selector):
                self._triggered.setdefault(trigger, set()).add(selector.canonical)
            if selector.matches(_NO_LABELS):
                self._by_default.add(selector.canonical)
        watched.watchers += 1

    def unwatch(self, selector: Selector) -> None:
        """Take back one ``watch``."""
        watched = self._watched[selector.canonical]
        watched.watchers -= 1
        if not watched.watchers:
            del self._watched[selector.canonical]
            self._by_default.discard(selector.canonical)
            for trigger in _triggers(selector):
                self._triggered[trigger].discard(selector.canonical)
                if not self._triggered[trigger]:
                    del self._triggered[trigger]

    def matching(self, selector: Selector) -> Iterator[_Key]:
        """The things that a watched selector matches."""
        return self._slots.keys(self._watched[selector.canonical].bits)

    def _evaluate(self, node: Node) -> int:
        match node:
            case All() | Global():
                return self._everything
            case Has() | Compare() | Member():
                return self._test(node)
            case Not(operand):
                return self._everything & ~self._evaluate(operand)
            case And(operands):
                return reduce(and_, map(self._evaluate, operands))
            case Or(operands):
                return reduce(or_, map(self._evaluate, operands))

    def _test(self, node: Has | Compare | Member) -> int:
        match node:
            case Has(key):
                return reduce(or_, self._by_label.get(key, {}).values(), 0)
            case Compare(key, comparison, value):
                return self._compare(key, comparison, value)
            case Member(key, values, negated):
                found = self._with_any(key, values)
                return self._everything & ~found if negated else found

    def _with_any(self, key: str, values: Iterable[str]) -> int:
        by_value = self._by_label.get(key, {})
        return reduce(or_, (by_value.get(value, 0) for value in values), 0)

    def _compare(self, key: str, comparison: str, wanted: str) -> int:
        """A missing label fails every comparison but ``!=``, which it passes."""
        if comparison == "==":
            return self._with_any(key, (wanted,))
        if comparison == "!=":
            return self._everything & ~self._with_any(key, (wanted,))
        test = _TESTS[comparison]
        return self._with_any(key, [value for value in self._by_label.get(key, {}) if test(value, wanted)])


def _triggers(selector: Selector) -> set[_Trigger]:
    """What has to change about a thing's labels for the selector's answer to be able to change."""
    found: set[_Trigger] = set()
    for node in nodes_of(selector.node):
        match node:
            case Has(key):
                found.add((key, None))
            case Compare(key, "==" | "!=", value):
                found.add((key, value))
            case Compare(key):
                found.add(key)
            case Member(key, values):
                found.update((key, value) for value in values)
            case _:
                continue
    return found
