# SPDX-License-Identifier: Apache-2.0
"""Selector text to tree. Imported at the first parse only, because lark takes a tenth of a second to load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from lab.policy.selector_ast import (
    All,
    And,
    Compare,
    Comparison,
    Global,
    Has,
    Member,
    Node,
    Not,
    Or,
    SelectorSyntaxError,
    negate,
)

__all__ = ["MAX_DEPTH", "parse_tree"]

MAX_DEPTH = 200
"""Nots, Ands and Ors within one another. What walks the tree takes two frames for each and must stay well below
Python's limit of 1,000; a selector of the 1,024 characters that the API takes can hardly nest so deep."""

_PARENTHESES = re.compile(r"""[()]|"[^"]*"|'[^']*'""")
_OPERATOR = "an operator (==, !=, in, not in, contains, starts with, ends with)"
_TEST = "a test (label, has(label), all(), global(), ! or an opening parenthesis)"
# What a message calls each terminal of the grammar. A label alone is expected only inside has().
_TERMINALS = {
    **dict.fromkeys(("EQUALS", "DIFFERS", "CONTAINS", "STARTS_WITH", "ENDS_WITH", "IN", "NOT_IN"), _OPERATOR),
    **dict.fromkeys(("BANG", "HAS", "ALL", "GLOBAL", "LPAR"), _TEST),
    "LABEL": "a label",
    "STRING": "a value in quotes",
    "LBRACE": "{",
    "RBRACE": "}",
    "COMMA": ",",
    "RPAR": ")",
    "_OR": "||",
    "_AND": "&&",
    "$END": "the end",
}


@v_args(inline=True)
class _TreeBuilder(Transformer[Token, Node]):
    """Makes a node of each reduction, so that no second walk over a tree of lark's is needed."""

    def everything(self, *_: Token) -> Node:
        return All()

    def global_(self, _: Token) -> Node:
        return Global()

    def has(self, _: Token, key: Token) -> Node:
        return Has(str(key))

    def compare(self, key: Token, comparison: Token, value: Token) -> Node:
        # The blanks between the words of an operator are free: "startswith", "starts   with".
        words = {"STARTS_WITH": "starts with", "ENDS_WITH": "ends with"}.get(comparison.type, str(comparison))
        return Compare(str(key), cast("Comparison", words), str(value[1:-1]))

    def set(self, *values: Token) -> frozenset[str]:
        return frozenset(str(value[1:-1]) for value in values)

    def member(self, key: Token, operator: Token, values: frozenset[str]) -> Node:
        return Member(str(key), values, negated=operator.type == "NOT_IN")

    def negation(self, operand: Node) -> Node:
        return negate(operand)

    def conjunction(self, *operands: Node) -> Node:
        return And(operands)

    def disjunction(self, *operands: Node) -> Node:
        return Or(operands)


_GRAMMAR = files("lab.policy").joinpath("selector.lark").read_text(encoding="utf-8")
_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_TreeBuilder(), maybe_placeholders=False)


def parse_tree(text: str) -> Node:
    """The tree of a selector's text.

    Raises:
        SelectorSyntaxError: the text is not a selector, or nests too deep.
    """
    try:
        # With a transformer, lark returns what the transformer made of the start rule; its type says Tree.
        tree: Any = _PARSER.parse(text)
    except UnexpectedCharacters as error:
        raise _syntax_error(text, error.pos_in_stream or 0, error.allowed or set()) from None
    except UnexpectedToken as error:
        at_end = error.token.type == "$END"
        raise _syntax_error(text, len(text) if at_end else error.pos_in_stream or 0, error.expected) from None
    _check_depth(text, tree)
    return cast("Node", tree)


def _check_depth(text: str, tree: Node) -> None:
    """Refuse a tree that is deeper than the functions that walk it can go; this one does not recurse."""
    depth, level = 0, [tree]
    while level := [operand for node in level for operand in _operands(node)]:
        depth += 1
        if depth > MAX_DEPTH:
            allowed = f"at most {MAX_DEPTH} of !, && and || within one another"
            raise SelectorSyntaxError("nested too deep", text=text, offset=_deepest(text), expected=allowed)


def _operands(node: Node) -> tuple[Node, ...]:
    match node:
        case Not(operand):
            return (operand,)
        case And(operands) | Or(operands):
            return operands
        case _:
            return ()


def _open_parentheses(text: str) -> Iterator[tuple[int, int]]:
    """How many parentheses are open behind each parenthesis or value, and the offset where that stands."""
    depth = 0
    for token in _PARENTHESES.finditer(text):
        depth += {"(": 1, ")": -1}.get(token.group(), 0)
        yield depth, token.start()


def _deepest(text: str) -> int:
    """The offset of the first parenthesis of the deepest level."""
    return -max((depth, -offset) for depth, offset in _open_parentheses(text))[1]


def _syntax_error(text: str, offset: int, terminals: set[str]) -> SelectorSyntaxError:
    """The error for an unexpected character or token, saying what may stand there instead."""
    named = set(terminals)
    if "BANG" not in named and named & {"_AND", "$END"}:
        # Behind a test; the parser's states do not tell whether a parenthesis is open.
        *_, (depth, _) = [(0, 0), *_open_parentheses(text[:offset])]
        named = {"_AND", "_OR", "RPAR" if depth else "$END"}
    if "BANG" in named:  # before a test, of which a label is one
        named -= {"LABEL"}
    expected = sorted({_TERMINALS[terminal] for terminal in named})
    return SelectorSyntaxError(_found(text, offset), text=text, offset=offset, expected=" or ".join(expected))


def _found(text: str, offset: int) -> str:
    """What stands where the text goes wrong."""
    if offset >= len(text):
        return "the selector ends too early"
    character = text[offset]
    if character in "\r\n":
        return "a line break cannot stand in a selector"
    if character in "\"'" and character not in text[offset + 1 :]:
        return f"the quote {character} is never closed"
    return f"unexpected {character!r}"
