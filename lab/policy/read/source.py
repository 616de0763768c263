# SPDX-License-Identifier: Apache-2.0
"""One resource of a document while it is being read: where its parts stand, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from lab.document import Document, Step
from lab.errors import LabError, LabErrors, Place, PolicyError
from lab.policy.selector import Selector, SelectorSyntaxError, parse_selector
from lab.policy.selector_ast import Global, nodes_of
from lab.schema import listing, suggestion, validate
from lab.topology import Topology

__all__ = ["Path", "Refusal", "Source"]

Path = tuple[Step, ...]
Model = TypeVar("Model", bound=BaseModel)
Given = TypeVar("Given")
Read = TypeVar("Read")

_MAX_SELECTOR = 1024
_SHOWN = 80
_GLOBAL = "global() alone, and only as the namespaceSelector of a rule"


class Refusal(Exception):
    """What a reader of one value raises when the value cannot be; ``what`` follows the name of the field."""

    def __init__(self, what: str, *, allowed: str | None = None, next_step: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Source:
    """A resource at the path ``at`` of a document, to be used in a topology.

    Errors are gathered in ``errors``; paths count from ``at``. What Calico passes over without leaving the whole
    resource out goes to ``passed_over``.
    """

    document: Document
    at: Path
    errors: list[LabError]
    passed_over: list[LabError]
    topology: Topology

    def value(self, path: Sequence[Step] = ()) -> Any:
        """The data at a path as it was read, before any model has seen it; None where there is none."""
        data = self.document.value
        for step in (*self.at, *path):
            try:
                data = data[step]
            except (KeyError, IndexError, TypeError):
                return None
        return data

    def place(self, path: Sequence[Step] = (), *, key: bool = False) -> Place:
        """Tell the place of a value of this resource, or of its key."""
        return self.document.place((*self.at, *path), key=key)

    def check(self, model: type[Model], path: Sequence[Step] = ()) -> Model | None:
        """Check the resource, or a part of it, against a model; None when it fails, which is then among the errors."""
        try:
            return validate(model, self.document, PolicyError, (*self.at, *path))
        except LabErrors as several:
            self.errors.extend(several.errors)
        except LabError as one:
            self.errors.append(one)
        return None

    def refuse(
        self,
        path: Sequence[Step],
        what: str,
        *,
        key: bool = False,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        """Note an error at a path; ``what`` follows the name of the field, and what stands there is shown."""
        self.errors.append(
            PolicyError(
                f"{self._name(path)} {what}",
                place=self.place(path, key=key),
                value=self._shown(path),
                allowed=allowed,
                next_step=next_step,
            )
        )

    def read(self, path: Sequence[Step], reader: Callable[[Given], Read], value: Given) -> Read | None:
        """Read one value; None when the reader refuses it, which is then among the errors."""
        try:
            return reader(value)
        except Refusal as refusal:
            self.refuse(path, refusal.what, allowed=refusal.allowed, next_step=refusal.next_step)
            return None

    def read_all(
        self, path: Sequence[Step], reader: Callable[[Given], Read], values: Iterable[Given]
    ) -> tuple[Read, ...]:
        """Read every value of a list, leaving out those that were refused."""
        read = (self.read((*path, index), reader, value) for index, value in enumerate(values))
        return tuple(value for value in read if value is not None)

    def known(self, path: Sequence[Step], name: str, what: str, names: Collection[str]) -> None:
        """Refuse a name that the topology does not have; ``what`` is "a node"."""
        if name not in names:
            self.refuse(
                path,
                f"is not {what} of the topology",
                allowed=listing(names),
                next_step=suggestion(name, names),
            )

    def limit(self, path: Sequence[Step], values: Sequence[object], most: int) -> None:
        """Refuse a list that is longer than the API takes."""
        if len(values) > most:
            self.refuse(path, f"has {len(values)} entries", key=True, allowed=f"at most {most}")

    def selector(self, path: Sequence[Step], text: str, *, global_alone: bool = False) -> Selector | None:
        """Read a selector; with ``global_alone`` it may be ``global()``, which nothing else may contain."""
        if len(text) > _MAX_SELECTOR:
            self.refuse(path, f"has {len(text)} characters", allowed=f"at most {_MAX_SELECTOR}")
            return None
        try:
            selector = parse_selector(text)
        except SelectorSyntaxError as error:
            self._wrong_selector(path, text, error)
            return None
        alone = global_alone and isinstance(selector.node, Global)
        if not alone and any(isinstance(node, Global) for node in nodes_of(selector.node)):
            self.refuse(path, "cannot hold global() here", allowed=_GLOBAL)
            return None
        return selector

    def _wrong_selector(self, path: Sequence[Step], text: str, error: SelectorSyntaxError) -> None:
        """Note a selector's syntax error at the character that is wrong, where the file has it on one line."""
        place = self.document.text_place((*self.at, *path), error.offset) or self.place(path)
        what = f"{self._name(path)} is not a selector: {error.what}"
        given = text if len(text) <= _SHOWN else text[max(0, error.offset - _SHOWN // 2) :][:_SHOWN] + "..."
        self.errors.append(PolicyError(what, place=place, value=given, allowed=error.allowed))

    def _shown(self, path: Sequence[Step]) -> object:
        """What an error shows of the value at a path: single values, and long text cut."""
        value = self.value(path)
        if isinstance(value, str) and len(value) > _SHOWN:
            return value[:_SHOWN] + "..."
        return value if isinstance(value, str | int | float) else None

    def _name(self, path: Sequence[Step]) -> str:
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*self.at, *path))
        return steps.removeprefix(".") or "the document"
