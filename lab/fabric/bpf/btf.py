# SPDX-License-Identifier: Apache-2.0
"""Type information (BTF): where the running kernel has its members, and what some maps must be told of their values."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from lab.errors import HostError
from lab.fabric.bpf.syscall import Command, address_of, bpf

__all__ = ["KERNEL_TYPES", "load_value_type", "member_offsets"]

KERNEL_TYPES: Final = Path("/sys/kernel/btf/vmlinux")
"""Where the running kernel tells of its types."""

# magic, version, flags, length of the header, types: offset and length, strings: offset and length
_HEADER: Final = struct.Struct("=HBBIIIII")
_MAGIC: Final = 0xEB9F
# name, kind and number of members, size or type
_TYPE: Final = struct.Struct("=III")
# name, type, offset in bits
_MEMBER: Final = struct.Struct("=III")

_INT, _ARRAY, _STRUCT, _UNION = 1, 3, 4, 5
_QUALIFIERS: Final = (8, 9, 10, 11)  # typedef, volatile, const, restrict
# Bytes that follow a type: as many for each kind, and so many for each of its members.
_BEHIND: Final = {_INT: 4, _ARRAY: 12, 14: 4, 17: 4}
_BEHIND_EACH: Final = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}


@dataclass(frozen=True, slots=True)
class _Type:
    name: int
    kind: int
    members: int
    flag: bool
    size: int
    place: int


def member_offsets(paths: Iterable[str], source: Path = KERNEL_TYPES) -> Mapping[str, int | None]:
    """Where members are, in bytes, each given as ``struct.member.member``; None for one that this kernel has not.

    Raises HostError when the kernel tells nothing of its types.
    """
    types = _Types.read(source)
    return {path: types.offset(path) for path in paths}


def load_value_type(size: int) -> int:
    """Tell the kernel of a type of so many bytes (a multiple of 4) and one for keys of 4 bytes.

    Returns a descriptor of both; key and value have the numbers 1 and 2 in it. The caller closes it.
    """
    names = b"\0word\0"
    word = _TYPE.pack(1, _INT << 24, 4) + struct.pack("=I", 32)
    words = _TYPE.pack(0, _ARRAY << 24, 0) + struct.pack("=III", 1, 1, size // 4)
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(word + words), len(word + words), len(names))
    whole = bytearray(header + word + words + names)
    return bpf(Command.BTF_LOAD, bytearray(struct.pack("=QQII", address_of(whole), 0, len(whole), 0)))


class _Types:
    """All types of a file."""

    def __init__(self, data: bytes) -> None:
        _, _, _, length, types, types_length, names, names_length = _HEADER.unpack_from(data)
        self._types = data[length + types : length + types + types_length]
        self._names = data[length + names : length + names + names_length]
        self._places = [0]  # of each type by its number; numbers begin with 1
        self._structs: dict[int, int] = {}  # places by name
        self._walk()

    @staticmethod
    @cache
    def read(source: Path) -> _Types:
        """The file's types, read once a process."""
        try:
            data = source.read_bytes()
        except OSError as error:
            raise HostError(
                f"the kernel does not tell how its structures are laid out: {error.strerror}",
                place=str(source),
                next_step="use a kernel that has BTF (CONFIG_DEBUG_INFO_BTF)",
            ) from error
        return _Types(data)

    def offset(self, path: str) -> int | None:
        """Where a member is, in bytes."""
        first, *names = path.split(".")
        place = self._structs.get(self._names.find(b"\0" + first.encode() + b"\0") + 1)
        kind = None if place is None else self._at(place)
        bits = 0
        for name in names:
            found = kind and self._member(kind, name.encode())
            if not found:
                return None
            bits += found[0]
            kind = found[1]
        return bits // 8

    def _member(self, kind: _Type, name: bytes) -> tuple[int, _Type] | None:
        """The offset in bits and the type of a member, also of one inside a member without a name."""
        for place in range(kind.place, kind.place + kind.members * _MEMBER.size, _MEMBER.size):
            named, number, bits = _MEMBER.unpack_from(self._types, place)
            bits = bits & 0xFFFFFF if kind.flag else bits
            if named and self._name(named) == name:
                return bits, self._plain(number)
            if not named and (inside := self._plain(number)).kind in (_STRUCT, _UNION):
                found = self._member(inside, name)
                if found:
                    return bits + found[0], found[1]
        return None

    def _plain(self, number: int) -> _Type:
        """A type without typedefs and qualifiers."""
        kind = self._at(self._places[number])
        while kind.kind in _QUALIFIERS:
            kind = self._at(self._places[kind.size])
        return kind

    def _at(self, place: int) -> _Type:
        name, told, size = _TYPE.unpack_from(self._types, place)
        return _Type(name, told >> 24 & 31, told & 0xFFFF, bool(told >> 31), size, place + _TYPE.size)

    def _walk(self) -> None:
        """Find where each type begins: a hundred thousand steps, so nothing is made on the way."""
        data, unpack, places = self._types, _TYPE.unpack_from, self._places
        sizes = [(_TYPE.size + _BEHIND.get(kind, 0), _BEHIND_EACH.get(kind, 0)) for kind in range(32)]
        place = 0
        while place < len(data):
            places.append(place)
            name, told, _ = unpack(data, place)
            kind = told >> 24 & 31
            if kind == _STRUCT:
                self._structs[name] = place
            size, each = sizes[kind]
            place += size + each * (told & 0xFFFF)

    def _name(self, place: int) -> bytes:
        return self._names[place : self._names.index(b"\0", place)]
