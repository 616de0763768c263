# SPDX-License-Identifier: Apache-2.0
"""Where members are, from type information written by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric.bpf import member_offsets

NAMES = b"\0u32\0inner\0outer\0first\0second\0bits\0alias\0"
INT, STRUCT, UNION, TYPEDEF = 1, 4, 5, 8


def name(text: str) -> int:
    return NAMES.index(b"\0" + text.encode() + b"\0") + 1 if text else 0


def kind(text: str, number: int, size: int, members: int = 0, *, flag: bool = False) -> bytes:
    return struct.pack("=III", name(text), number << 24 | members | flag << 31, size)


def member(text: str, number: int, bits: int) -> bytes:
    return struct.pack("=III", name(text), number, bits)


TYPES = b"".join(
    (
        kind("u32", INT, 4) + struct.pack("=I", 32),  # 1
        kind("inner", STRUCT, 8, 2) + member("first", 1, 0) + member("second", 1, 32),  # 2
        kind("", UNION, 8, 1) + member("first", 2, 0),  # 3: without a name
        kind("alias", TYPEDEF, 2),  # 4: of 2
        kind("outer", STRUCT, 28, 3, flag=True)  # 5: with bit fields
        + member("", 3, 64)
        + member("second", 4, 128)
        + member("bits", 1, 3 << 24 | 195),
    )
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(TYPES), len(TYPES), len(NAMES))
    path = tmp_path / "types"
    path.write_bytes(header + TYPES + NAMES)
    return path


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("inner.first", 0),
        ("inner.second", 4),
        ("outer.first.second", 12),  # through a member that has no name
        ("outer.second.second", 20),  # through a typedef
        ("outer.bits", 24),
        ("outer.third", None),
        ("outer.bits.first", None),
        ("nothing.first", None),
        ("alias.first", None),  # not a struct
    ],
)
def test_a_member_is_found_or_is_told_to_be_absent(file: Path, path: str, offset: int | None) -> None:
    assert member_offsets([path], file) == {path: offset}


def test_a_kernel_without_type_information_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="BTF"):
        member_offsets(["inner.first"], tmp_path / "none")
