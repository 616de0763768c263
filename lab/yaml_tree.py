# SPDX-License-Identifier: Apache-2.0
"""YAML text to a tree of plain values with their positions, stopped at the first event that goes too far.

The tree is built from the parser's events, so that nothing hostile is ever expanded and nothing recurses
deeper than ``MAX_DEPTH``. Scalars are resolved as YAML 1.2 means them: ``true``, ``false``, ``null``, decimal
numbers, and text (``22:23``, ``on``, ``012``, ``0x10`` and dates are text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Any, Protocol

import yaml

from lab.errors import LabError, Place

__all__ = ["MAX_DEPTH", "MAX_VALUES", "Builder", "Node", "Step"]

MAX_VALUES = 2_000_000
"""The most values (scalars, lists, mappings) of one file, every use of an anchor counted in full."""
MAX_DEPTH = 100
"""The deepest nesting; the deepest resource that the API knows has about 15 levels."""

Step = str | int
"""One step on the way to a value: the key in a mapping or the index in a list."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,299})")  # 300 digits: far above any field, far below int()'s own limit
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]{0,299})(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}
_TAG = "tag:yaml.org,2002:"
_TYPES_OF_TAG = {"bool": (bool,), "int": (int,), "float": (float, int), "null": (type(None),)}
_NOTHING: Mapping[Any, Any] = {}  # shared by all scalars: a million of them must stay bearable


@dataclass(slots=True)
class Node:
    """A value with its position; ``size`` and ``height`` are those of the tree with all anchors expanded.

    ``text_column`` is where the text of a scalar begins that stands on one line as it is, behind its quote.
    """

    value: Any
    line: int | None
    column: int
    size: int = 1
    height: int = 1
    children: Mapping[Step, Node] = field(default_factory=lambda: _NOTHING)
    keys: Mapping[str, tuple[int, int]] = field(default_factory=lambda: _NOTHING)
    text_column: int | None = None


class _Event(Protocol):
    """What all of the parser's events have in common, and what some have besides."""

    start_mark: Any
    anchor: str | None
    tag: str | None
    value: str
    implicit: Any


class Builder:
    """Builds the trees of one text from the parser's events."""

    def __init__(self, text: str, file: str, error: type[LabError]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._file = file
        self._error = error
        self._values = 0
        self._anchors: dict[str, Node | None] = {}  # None: still being read

    def documents(self) -> Iterator[Node]:
        """Build one tree after the other; raises the error it was made with, or yaml.YAMLError."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(self._events), 1)

    def _node(self, event: _Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refuse("nested too deeply", event, allowed=f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(1, event)
        before = self._values
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        mark = event.start_mark
        node = Node(None, mark.line, mark.column)
        if isinstance(event, yaml.ScalarEvent):
            node.value = self._scalar(event)
            node.text_column = _text_column(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._fill_mapping(node, event, depth)
        else:
            self._fill_sequence(node, event, depth)
        if node.children:
            node.size += self._values - before
            node.height += max(child.height for child in node.children.values())
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        name = event.anchor
        if name not in self._anchors:
            raise self._refuse(f"the alias *{name} has no anchor &{name} before it", event)
        target = self._anchors[name]
        if target is None:
            raise self._refuse(f"the alias *{name} stands inside what it names: a cycle", event)
        if depth + target.height - 1 > MAX_DEPTH:
            raise self._refuse("nested too deeply", event, allowed=f"at most {MAX_DEPTH} levels")
        self._count(target.size, event)
        mark = event.start_mark
        return Node(target.value, mark.line, mark.column, target.size, target.height, target.children, target.keys)

    def _count(self, values: int, event: _Event) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            allowed = f"at most {MAX_VALUES}, every alias counted in full"
            raise self._refuse("too many values", event, allowed=allowed, next_step="split it into several files")

    def _fill_sequence(self, node: Node, start: _Event, depth: int) -> None:
        self._check_tag(start, "seq")
        children: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            children.append(self._node(event, depth + 1))
        node.children = dict(enumerate(children))
        node.value = [child.value for child in children]

    def _fill_mapping(self, node: Node, start: _Event, depth: int) -> None:
        self._check_tag(start, "map")
        children: dict[Step, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, keys)
            keys[key] = (event.start_mark.line, event.start_mark.column)
            children[key] = self._node(next(self._events), depth + 1)
        node.children, node.keys = children, keys
        node.value = {key: child.value for key, child in children.items()}

    def _key(self, event: _Event, keys: Mapping[str, tuple[int, int]]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse("a key that is not plain text", event, allowed="text as the key of a mapping")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            raise self._refuse("the merge key << is not supported", event, next_step="write the keys out")
        if key in keys:
            first = keys[key][0] + 1
            raise self._refuse(f"the key {key!r} is given twice", event, next_step=f"the first one is on line {first}")
        return key

    def _check_tag(self, event: _Event, own: str) -> None:
        if event.tag not in (None, "!", _TAG + own):
            raise self._unknown_tag(event)

    def _scalar(self, event: _Event) -> str | int | float | bool | None:
        text = event.value
        if event.tag is None:
            return _resolve(text) if event.implicit[0] else text
        if event.tag in ("!", _TAG + "str"):
            return text
        types = _TYPES_OF_TAG.get(event.tag.removeprefix(_TAG))
        if types is None:
            raise self._unknown_tag(event)
        value = _resolve(text)
        if type(value) not in types:
            raise self._refuse(f"{text!r} is not what its tag says", event)
        return value

    def _unknown_tag(self, event: _Event) -> LabError:
        tag = (event.tag or "").replace(_TAG, "!!")
        return self._refuse(
            f"unknown tag {tag}", event, next_step="leave the tag out, or put text that begins with ! in quotes"
        )

    def _refuse(
        self, what: str, event: _Event, *, allowed: str | None = None, next_step: str | None = None
    ) -> LabError:
        place = Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        return self._error(what, place=place, allowed=allowed, next_step=next_step)


def _text_column(event: Any) -> int | None:
    """Find where the text of a scalar begins, if it is written on one line without an escape."""
    quote = 1 if event.style in ("'", '"') else 0
    start, end = event.start_mark, event.end_mark
    if start.line == end.line and end.column - start.column == len(event.value) + 2 * quote:
        return int(start.column) + quote
    return None


def _resolve(text: str) -> str | int | float | bool | None:
    """Read a plain scalar as YAML 1.2 means it."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not isinf(number := float(text)):
        return number
    return text
