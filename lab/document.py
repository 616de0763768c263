# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON in, plain data out, and for every value the line and column where the user wrote it.

The reader builds its own tree from the parser's events, so that a hostile file is stopped at the event that
goes too far: nothing is ever expanded, and nothing recurses deeper than ``MAX_DEPTH``. Scalars are resolved
as YAML 1.2 means them: ``true``, ``false``, ``null``, decimal numbers, and text (``22:23``, ``on``, ``012``,
``0x10`` and dates are text). ``lab.schema.validate`` checks the result against a pydantic model.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from pathlib import Path
from typing import Any, Protocol

import yaml

from lab.errors import LabError, Place

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "Document",
    "Step",
    "document_of",
    "parse_documents",
    "read_documents",
]

MAX_BYTES = 16 * 1024 * 1024
"""The largest file that is read: a policy set of 100,000 networks is about 3 MiB."""
MAX_VALUES = 1_000_000
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
class _Node:
    """A value with its position; ``size`` and ``height`` are those of the tree with all anchors expanded.

    ``text_column`` is where the text of a scalar begins that stands on one line as it is, behind its quote.
    """

    value: Any
    line: int | None
    column: int
    size: int = 1
    height: int = 1
    children: Mapping[Step, _Node] = field(default_factory=lambda: _NOTHING)
    keys: Mapping[str, tuple[int, int]] = field(default_factory=lambda: _NOTHING)
    text_column: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One document of a file. ``value`` is plain data, not to be changed: aliases share what they name."""

    file: str
    _root: _Node

    @property
    def value(self) -> Any:
        """The data: dict (keys are always text), list, str, int, float, bool; None only inside."""
        return self._root.value

    def place(self, path: Sequence[Step] = (), *, key: bool = False) -> Place:
        """Tell the place of the value at ``path``, or of its nearest ancestor that exists.

        With ``key`` it is the place of the key under which the value stands. What was written by way of an
        alias is at the alias itself, and what is below it where its anchor is.
        """
        node = self._root
        line, column = node.line, node.column
        for depth, step in enumerate(path, start=1):
            child = node.children.get(step)
            if child is None:
                break
            line, column = child.line, child.column
            if key and depth == len(path):
                line, column = node.keys.get(str(step), (line, column))
            node = child
        return Place(self.file) if line is None else Place(self.file, line + 1, column + 1)

    def text_place(self, path: Sequence[Step], offset: int) -> Place | None:
        """Tell the place of the character ``offset`` (from 0) of the text at ``path``, which must exist.

        None where the text is not written as it is on one line: folded, in a block, with escapes, by an alias.
        """
        node = self._root
        for step in path:
            node = node.children[step]
        if node.text_column is None or node.line is None:
            return None
        return Place(self.file, node.line + 1, node.text_column + offset + 1)


def document_of(value: Any, source: str) -> Document:
    """Make a document of data that no file holds, such as options; ``source`` is all that its places tell."""
    return Document(source, _Node(value, None, 0))


def read_documents(path: Path, error: type[LabError]) -> list[Document]:
    """All documents of a YAML or JSON file that say something; a file of comments alone gives [].

    Raises ``error`` for a file that cannot be read or is larger than MAX_BYTES, and for all that
    ``parse_documents`` refuses. The file is not read before its size is known to be bearable.
    """
    return parse_documents(_read(path, error), str(path), error)


def parse_documents(data: bytes | str, file: str, error: type[LabError]) -> list[Document]:
    """All documents of a text; ``file`` is the name under which errors and places speak of it.

    Raises ``error`` for what is not UTF-8 or not YAML, a key given twice, a tag other than YAML's own, a
    cycle of aliases, and more than MAX_VALUES values or MAX_DEPTH levels.
    """
    text = _decode(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"), file, error)
    builder = _Builder(text, file, error)
    try:
        return [Document(file, node) for node in builder.documents() if node.value is not None]
    except yaml.YAMLError as problem:
        raise _syntax_error(problem, text, file, error) from None


def _read(path: Path, error: type[LabError]) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error("is a directory, not a file", place=str(path), next_step="name a YAML file")
        if status.st_size <= MAX_BYTES:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)  # a pipe has no size beforehand
            if len(data) <= MAX_BYTES:
                return data
    except FileNotFoundError:
        raise error("no such file", place=str(path)) from None
    except OSError as problem:
        raise error(f"cannot be read: {problem.strerror}", place=str(path)) from None
    raise error(
        "the file is too large",
        place=str(path),
        allowed=f"at most {MAX_BYTES} bytes ({MAX_BYTES >> 20} MiB)",
        next_step="split it into several files",
    )


def _decode(data: bytes, file: str, error: type[LabError]) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        good = data[: problem.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        raise error(
            f"is not text: the byte 0x{data[problem.start]:02x} is not UTF-8",
            place=Place(file, line, column),
            allowed="YAML or JSON in UTF-8",
        ) from None


def _syntax_error(problem: yaml.YAMLError, text: str, file: str, error: type[LabError]) -> LabError:
    mark = getattr(problem, "problem_mark", None)
    if mark is None:  # only the reader's own complaint, about a control character, has no mark
        position = _control_character(text)
        line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
        what = f"is not text: it holds the control character 0x{ord(text[position]):02x}"
        return error(what, place=Place(file, line, column), allowed="YAML or JSON in UTF-8")
    place = Place(file, mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return error("a tab where only blanks may stand", place=place, next_step="indent with blanks")
    return error(f"broken YAML: {getattr(problem, 'problem', None) or problem}", place=place)


def _control_character(text: str) -> int:
    """Find the first character that YAML does not allow in a stream; 0 if there is none."""
    found = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return found.start() if found else 0


class _Event(Protocol):
    """What all of the parser's events have in common, and what some have besides."""

    start_mark: Any
    anchor: str | None
    tag: str | None
    value: str
    implicit: Any


class _Builder:
    """Builds the trees of one text from the parser's events."""

    def __init__(self, text: str, file: str, error: type[LabError]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._file = file
        self._error = error
        self._values = 0
        self._anchors: dict[str, _Node | None] = {}  # None: still being read

    def documents(self) -> Iterator[_Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(self._events), 1)

    def _node(self, event: _Event, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._refuse("nested too deeply", event, allowed=f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(1, event)
        before = self._values
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        mark = event.start_mark
        node = _Node(None, mark.line, mark.column)
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

    def _alias(self, event: Any, depth: int) -> _Node:
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
        return _Node(target.value, mark.line, mark.column, target.size, target.height, target.children, target.keys)

    def _count(self, values: int, event: _Event) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise self._refuse("too many values", event, allowed=f"at most {MAX_VALUES}, every alias counted in full")

    def _fill_sequence(self, node: _Node, start: _Event, depth: int) -> None:
        self._check_tag(start, "seq")
        children: list[_Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            children.append(self._node(event, depth + 1))
        node.children = dict(enumerate(children))
        node.value = [child.value for child in children]

    def _fill_mapping(self, node: _Node, start: _Event, depth: int) -> None:
        self._check_tag(start, "map")
        children: dict[Step, _Node] = {}
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
        return self._refuse(f"unknown tag {tag}", event, next_step="leave the tag out: only plain data is read")

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
