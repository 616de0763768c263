# SPDX-License-Identifier: Apache-2.0
"""The nodes of a parsed selector: immutable, comparable, each able to print and to compile itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import PolicyError

__all__ = [
    "All",
    "And",
    "Compare",
    "Comparison",
    "Global",
    "Has",
    "Matcher",
    "Member",
    "Node",
    "Not",
    "Or",
    "SelectorSyntaxError",
    "keys_of",
    "negate",
    "nodes_of",
    "prefix_keys",
    "rewrite",
]

Matcher = Callable[[Mapping[str, str]], bool]
Comparison = Literal["==", "!=", "contains", "starts with", "ends with"]


class SelectorSyntaxError(PolicyError):
    """A selector's text cannot be read; ``offset`` counts its characters from 0 and may be its length."""

    def __init__(self, what: str, *, text: str, offset: int, expected: str) -> None:
        super().__init__(f"{what}, at character {offset + 1} of the selector", value=text, allowed=expected)
        self.offset = offset


def _quote(value: str) -> str:
    """A value as canonical text writes it: in double quotes unless it holds one."""
    return f"'{value}'" if '"' in value else f'"{value}"'


@dataclass(frozen=True, slots=True)
class All:
    """``all()``: true in itself; what it is rewritten to depends on the field in which it stands."""

    def __str__(self) -> str:
        return "all()"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        return lambda _: True


@dataclass(frozen=True, slots=True)
class Global:
    """``global()``: true in itself; it has a meaning only as a rule's whole ``namespaceSelector``."""

    def __str__(self) -> str:
        return "global()"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        return lambda _: True


@dataclass(frozen=True, slots=True)
class Has:
    """``has(key)``: the label is there, whatever its value."""

    key: str

    def __str__(self) -> str:
        return f"has({self.key})"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        key = self.key
        return lambda labels: key in labels


@dataclass(frozen=True, slots=True)
class Compare:
    """``key == "value"`` and its kin; of them only ``!=`` is true when the label is missing."""

    key: str
    comparison: Comparison
    value: str

    def __str__(self) -> str:
        return f"{self.key} {self.comparison} {_quote(self.value)}"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        key, value = self.key, self.value
        match self.comparison:
            case "==":
                return lambda labels: labels.get(key) == value
            case "!=":
                return lambda labels: labels.get(key) != value
            case "contains":
                return lambda labels: (found := labels.get(key)) is not None and value in found
            case "starts with":
                return lambda labels: (found := labels.get(key)) is not None and found.startswith(value)
            case "ends with":
                return lambda labels: (found := labels.get(key)) is not None and found.endswith(value)


@dataclass(frozen=True, slots=True)
class Member:
    """``key in {...}`` or, when ``negated``, ``key not in {...}``, which is true when the label is missing."""

    key: str
    values: frozenset[str]
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.key} {'not in' if self.negated else 'in'} {{{', '.join(map(_quote, sorted(self.values)))}}}"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        key, values = self.key, self.values
        if self.negated:
            return lambda labels: labels.get(key) not in values
        return lambda labels: labels.get(key) in values


@dataclass(frozen=True, slots=True)
class Not:
    """``!operand``; build it with :func:`negate`, which folds a double negation away."""

    operand: Node

    def __str__(self) -> str:
        return f"!{self.operand}"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        operand = self.operand.matcher()
        return lambda labels: not operand(labels)


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more operands."""

    operands: tuple[Node, ...]

    def __str__(self) -> str:
        return f"({' && '.join(map(str, self.operands))})"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        operands = tuple(operand.matcher() for operand in self.operands)

        def every(labels: Mapping[str, str]) -> bool:
            for operand in operands:  # noqa: SIM110 - a loop is quicker than all() with a generator, and shallower
                if not operand(labels):
                    return False
            return True

        return every


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more operands."""

    operands: tuple[Node, ...]

    def __str__(self) -> str:
        return f"({' || '.join(map(str, self.operands))})"

    def matcher(self) -> Matcher:
        """A function from labels to truth."""
        operands = tuple(operand.matcher() for operand in self.operands)

        def some(labels: Mapping[str, str]) -> bool:
            for operand in operands:  # noqa: SIM110 - as in And
                if operand(labels):
                    return True
            return False

        return some


Node = All | Global | Has | Compare | Member | Not | And | Or


def negate(node: Node) -> Node:
    """The opposite of a node, without a double negation."""
    return node.operand if isinstance(node, Not) else Not(node)


def rewrite(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with every node put through ``change``, operands before what holds them."""
    match node:
        case Not(operand):
            return change(negate(rewrite(operand, change)))
        case And(operands):
            return change(And(tuple(rewrite(operand, change) for operand in operands)))
        case Or(operands):
            return change(Or(tuple(rewrite(operand, change) for operand in operands)))
        case _:
            return change(node)


def prefix_keys(node: Node, prefix: str) -> Node:
    """The tree with ``prefix`` put before every label's key."""

    def prefixed(leaf: Node) -> Node:
        match leaf:
            case Has(key):
                return Has(prefix + key)
            case Compare(key, comparison, value):
                return Compare(prefix + key, comparison, value)
            case Member(key, values, negated):
                return Member(prefix + key, values, negated)
            case _:
                return leaf

    return rewrite(node, prefixed)


def nodes_of(node: Node) -> Iterator[Node]:
    """Every node of the tree, each before its operands, in the order of the text."""
    yield node
    match node:
        case Not(operand):
            yield from nodes_of(operand)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from nodes_of(operand)


def keys_of(node: Node) -> Iterator[str]:
    """Every label key that the tree tests, in the order of the text, repeated as often as it stands there."""
    return (leaf.key for leaf in nodes_of(node) if isinstance(leaf, Has | Compare | Member))
