# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers on the wire (proto3), as far as Felix's messages need them: numbers, text, messages, maps of text.

A message is a mapping by field name; what is absent has its default. Fields that a schema lacks are passed over, as a
newer sender's must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dataplanes.api import DataplaneError

__all__ = ["Field", "Message", "Schema", "decode", "encode"]

Message = Mapping[str, Any]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message: ``kind`` is "number", "text", "map" (of text by text) or the name of a message."""

    number: int
    name: str
    kind: str
    repeated: bool = False


Schema = Mapping[str, Sequence[Field]]
"""The fields of each message by its name."""


def encode(schema: Schema, kind: str, message: Message) -> bytes:
    """A message in bytes; whatever stands in the mapping is written, also what is a default."""
    fields = {field.name: field for field in schema[kind]}
    return b"".join(
        _written(schema, fields[name], each)
        for name, value in message.items()
        for each in (value if fields[name].repeated else [value])
    )


def _written(schema: Schema, field: Field, value: Any) -> bytes:
    if field.kind == "number":
        return _varint(field.number << 3 | _VARINT) + _varint(int(value) & (1 << 64) - 1)
    if field.kind == "map":
        entries = (_block(1, key.encode()) + _block(2, each.encode()) for key, each in value.items())
        return b"".join(_block(field.number, entry) for entry in entries)
    return _block(field.number, value.encode() if field.kind == "text" else encode(schema, field.kind, value))


def _block(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def decode(schema: Schema, kind: str, data: bytes) -> dict[str, Any]:
    """A message from bytes; raises DataplaneError for bytes that are none."""
    fields = {field.number: field for field in schema[kind]}
    message: dict[str, Any] = {}
    try:
        for number, value in _pieces(data):
            if number in fields:
                _put(schema, fields[number], value, message)
    except (IndexError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise DataplaneError(f"this is no {kind}", value=data[:40].hex(), allowed="protocol buffers") from error
    return message


def _put(schema: Schema, field: Field, value: int | bytes, message: dict[str, Any]) -> None:
    if field.kind == "map":
        entry = dict(_pieces(_bytes(value)))
        key, text = (_bytes(entry.get(number, b"")).decode() for number in (1, 2))
        message.setdefault(field.name, {})[key] = text
        return
    read: Any = value
    if field.kind == "number":
        read = int(value) if isinstance(value, int) else list(_packed(value))
    elif field.kind == "text":
        read = _bytes(value).decode()
    else:
        read = decode(schema, field.kind, _bytes(value))
    if field.repeated:
        message.setdefault(field.name, []).extend(read if isinstance(read, list) else [read])
    else:
        message[field.name] = read


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where bytes should be")
    return value


def _pieces(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values, in their order."""
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _read_varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _read_varint(data, place)
        else:
            length = _FIXED.get(kind, len(data))  # a kind that proto3 does not have takes more than there is
        if place + length > len(data):
            raise IndexError(place)
        yield number, data[place : place + length]
        place += length


def _packed(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _read_varint(data, place)
        yield value


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(_LONGEST_VARINT):
        byte = data[place + shift]
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise IndexError(place)
