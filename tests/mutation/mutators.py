# SPDX-License-Identifier: Apache-2.0
"""Small mistakes that somebody could make in a module: each changes one thing, and most change what it does.

Texts stay as they are (they are messages, names of fields, documentation), and so do annotations and decorators.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants", "mutated"]

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_NAMES = {"all": "any", "any": "all", "min": "max", "max": "min"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """The ``index``-th mistake of a module, and where and what it is."""

    index: int
    line: int
    what: str


def mutants(tree: ast.Module) -> list[Mutant]:
    """All mistakes that can be made in a module; the tree is left alone."""
    mutator = _Mutator(wanted=None)
    mutator.visit(tree)
    return mutator.found


def mutated(tree: ast.Module, index: int) -> ast.Module:
    """The module with one of its mistakes made; the tree is used up."""
    changed = _Mutator(wanted=index).visit(tree)
    return ast.fix_missing_locations(changed)  # type: ignore[no-any-return]


class _Mutator(ast.NodeTransformer):
    """Meets every place of a tree in the same order, whether it is to list them or to change one."""

    def __init__(self, wanted: int | None) -> None:
        self.found: list[Mutant] = []
        self._wanted = wanted

    def _chosen(self, node: ast.AST, what: str) -> bool:
        index = len(self.found)
        self.found.append(Mutant(index, getattr(node, "lineno", 0), what))
        return index == self._wanted

    # -- what is left alone -----------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.body = self._visited(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.body = self._visited(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return node
        if any(isinstance(each, ast.Attribute) for each in ast.walk(node.value)) or not _is_alias(node):
            node.value = self.visit(node.value)
        return node

    def _visited(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return [self.visit(statement) for statement in statements]

    # -- what is changed --------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        for position, operator in enumerate(node.ops):
            other = _COMPARISONS[type(operator)]
            if self._chosen(node, f"{type(operator).__name__} becomes {other.__name__}"):
                node.ops[position] = other()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        self.generic_visit(node)
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        if self._chosen(node, f"{type(node.op).__name__} becomes {other.__name__}"):
            node.op = other()
        for position in range(len(node.values)):
            if len(node.values) > 1 and self._chosen(node, f"term {position} is left out"):
                rest = [value for place, value in enumerate(node.values) if place != position]
                return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.USub) and self._chosen(node, f"{type(node.op).__name__} is left out"):
            return node.operand
        return node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        other = _OPERATORS.get(type(node.op))
        if other is not None and self._chosen(node, f"{type(node.op).__name__} becomes {other.__name__}"):
            node.op = other()
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if self._chosen(node, "assignment instead of addition"):
            return ast.Assign([node.target], node.value, lineno=node.lineno)
        return node

    def visit_Constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, bool):
            return ast.Constant(not value) if self._chosen(node, f"{value} becomes {not value}") else node
        if isinstance(value, int) and self._chosen(node, f"{value} becomes {value + 1}"):
            return ast.Constant(value + 1)
        return node

    def visit_Name(self, node: ast.Name) -> Any:
        other = _NAMES.get(node.id)
        if other is not None and self._chosen(node, f"{node.id} becomes {other}"):
            return ast.Name(other, node.ctx)
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        for value in (True, False):
            if self._chosen(node, f"the condition is always {value}"):
                node.test = ast.Constant(value)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        if self._chosen(node, "always the first branch"):
            return node.body
        return node.orelse if self._chosen(node, "always the second branch") else node

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        self.generic_visit(node)
        if node.ifs and self._chosen(node.ifs[0], "the filter is left out"):
            node.ifs = node.ifs[1:]
        return node

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Constant):
            return node
        self.generic_visit(node)
        yields = isinstance(node.value, ast.Yield | ast.YieldFrom)
        if self._chosen(node, "the statement is left out"):
            # A generator must stay one.
            return ast.Expr(ast.YieldFrom(ast.Tuple([], ast.Load()))) if yields else ast.Pass()
        return node

    def visit_Break(self, node: ast.Break) -> Any:
        return ast.Continue() if self._chosen(node, "break becomes continue") else node

    def visit_Continue(self, node: ast.Continue) -> Any:
        return ast.Break() if self._chosen(node, "continue becomes break") else node


def _is_alias(node: ast.Assign) -> bool:
    """Whether a statement names a type: unions of types are no arithmetic."""
    return (
        len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.BinOp)
        and isinstance(node.value.op, ast.BitOr)
    )
