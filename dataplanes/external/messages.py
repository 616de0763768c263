# SPDX-License-Identifier: Apache-2.0
"""Messages as JSON, each behind its length: what goes to a program, and how snapshots are spelled there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from dataplanes.api import DataplaneError, MembersChange, PolicyId

__all__ = ["MAX_LENGTH", "VERSION", "Reader", "frame", "plain"]

VERSION: Final = 1
"""Of the protocol; a program that answers with another one is refused."""
MAX_LENGTH: Final = 1 << 28
"""Bytes of one message; what claims to be longer is no message."""
_MAX_DIGITS: Final = len(str(MAX_LENGTH))


def frame(message: Mapping[str, object]) -> bytes:
    """A message as it is sent: the number of its bytes, a line feed, and the bytes."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return b"%d\n%b" % (len(body), body)


def plain(value: Any) -> Any:
    """A snapshot, a delta or any part of them as JSON holds it: addresses, ids and places as text, mappings as lists.

    What is in a mapping says itself under which key it is there.
    """
    if is_dataclass(value) and not isinstance(value, type | PolicyId):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value) if each.name != "origin"}
    if isinstance(value, Mapping | frozenset | tuple):
        return _collection(value)
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _collection(value: Mapping[Any, Any] | frozenset[Any] | tuple[Any, ...]) -> Any:
    if isinstance(value, frozenset):
        return sorted((plain(each) for each in value), key=json.dumps)
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if any(isinstance(each, MembersChange) for each in value.values()):  # which does not say of which set it is
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value.values()]


class Reader:
    """Takes bytes as they come and gives the messages in them; raises DataplaneError for what is no message."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterable[Mapping[str, Any]]:
        """The messages that are whole now."""
        self._rest += data
        while True:
            digits, line_feed, body = self._rest.partition(b"\n")
            if not line_feed and len(digits) <= _MAX_DIGITS:
                return
            if not (line_feed and digits.isdigit() and int(digits) <= MAX_LENGTH):
                raise DataplaneError("this is no message", value=self._rest[:80], allowed="LENGTH, a line feed, JSON")
            if len(body) < int(digits):
                return
            text, self._rest = body[: int(digits)], body[int(digits) :]
            yield _object(text)


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise DataplaneError("this is no message", value=text[:200], allowed="a JSON object with a type")
    return message
