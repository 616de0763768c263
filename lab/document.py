# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON in, plain data out, and for every value the line and column where the user wrote it.

``lab.yaml_tree`` says what is read as what; ``lab.schema.validate`` checks the data against a pydantic model.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from lab.errors import LabError, Place
from lab.yaml_tree import MAX_DEPTH, MAX_VALUES, Builder, Node, Step

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

MAX_BYTES = 64 * 1024 * 1024
"""A file of this size is not read: a policy set of 100,000 networks is about 3 MiB."""
_PIECE_BYTES = 1 << 20
_NO_WRITER_SECONDS = 5
"""How long a named pipe may have nobody at its other end."""
_SILENT_SECONDS = 60
"""How long what writes to a shell's pipe may say nothing: it may have to ask a cluster first."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One document of a file. ``value`` is plain data, not to be changed: aliases share what they name."""

    file: str
    _root: Node

    @property
    def value(self) -> Any:
        """The data: dict (keys are always text), list, str, int, float, bool; None only inside."""
        return self._root.value

    def at(self, path: Sequence[Step]) -> Any:
        """The data at ``path``, which must exist."""
        data = self._root.value
        for step in path:
            data = data[step]
        return data

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
    return Document(source, Node(value, None, 0))


def read_documents(path: Path, error: type[LabError]) -> list[Document]:
    """All documents of a YAML or JSON file that say something; a file of comments alone gives [].

    Raises ``error`` for a file that cannot be read or has MAX_BYTES or more, and for all that
    ``parse_documents`` refuses. The file is not read before its size is known to be bearable.
    """
    return parse_documents(_read(path, error), str(path), error)


def parse_documents(data: bytes | str, file: str, error: type[LabError]) -> list[Document]:
    """All documents of a text; ``file`` is the name under which errors and places speak of it.

    Raises ``error`` for what is not UTF-8 or not YAML, a key given twice, a tag other than YAML's own, a
    cycle of aliases, and more than MAX_VALUES values or MAX_DEPTH levels.
    """
    text = _decode(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"), file, error)
    builder = Builder(text, file, error)
    try:
        return [Document(file, node) for node in builder.documents() if node.value is not None]
    except yaml.YAMLError as problem:
        raise _syntax_error(problem, text, file, error) from None


def _read(path: Path, error: type[LabError]) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error("is a directory, not a file", place=str(path), next_step="name a YAML file")
        if status.st_size < MAX_BYTES:
            with FileIO(path, opener=_open_without_waiting) as stream:
                data = _read_all(stream, path, error)
            if len(data) < MAX_BYTES:
                return data
    except FileNotFoundError:
        raise error("no such file", place=str(path)) from None
    except OSError as problem:
        raise error(f"cannot be read: {problem.strerror}", place=str(path)) from None
    raise error(
        "the file is too large",
        place=str(path),
        allowed=f"less than {MAX_BYTES} bytes ({MAX_BYTES >> 20} MiB)",
        next_step="split it into several files",
    )


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe also when nobody has opened its other end."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _read_all(stream: FileIO, path: Path, error: type[LabError]) -> bytes:
    """Read to the end, or to MAX_BYTES and a little more: pipes and devices have no size beforehand."""
    data = bytearray()
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    awaits_writer = _is_named_pipe(stream)
    patience = _NO_WRITER_SECONDS if awaits_writer else _SILENT_SECONDS
    while len(data) < MAX_BYTES:
        piece = stream.read(_PIECE_BYTES)
        if piece:
            data += piece
            continue
        if piece is not None and (data or not awaits_writer):
            break
        events = poll.poll(patience * 1000)
        if not events:
            raise error(
                f"nothing was written to it for {patience} s",
                place=str(path),
                next_step="name a file, or a pipe to which something writes",
            )
        if not events[0][1] & select.POLLIN:
            break  # whoever had it open for writing has closed it
    return bytes(data)


def _is_named_pipe(stream: FileIO) -> bool:
    """Whether the end of it may only mean that nobody writes yet; a shell's own pipes have no name."""
    if not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
        return False
    return not str(Path(f"/proc/self/fd/{stream.fileno()}").readlink()).startswith("pipe:")


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
    said = getattr(problem, "problem", None) or str(problem)
    if "nesting depth" in said:  # newer parsers look ahead, and give up before our own limit is met
        return error("nested too deeply", place=place, allowed=f"at most {MAX_DEPTH} levels")
    lines = text.splitlines()
    if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return error("a tab where only blanks may stand", place=place, next_step="indent with blanks")
    return error(f"broken YAML: {said}", place=place)


def _control_character(text: str) -> int:
    """Find the first character that YAML does not allow in a stream; 0 if there is none."""
    found = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return found.start() if found else 0
