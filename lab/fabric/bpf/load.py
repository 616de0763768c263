# SPDX-License-Identifier: Apache-2.0
"""From a C file to verified programs and their maps, all held by descriptors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Self

from lab.errors import BpfError, LabError
from lab.fabric.bpf.compiler import BpfSource, Code, Compiled, compiled, verifier_log
from lab.fabric.bpf.maps import BpfMap
from lab.fabric.bpf.programs import BpfProgram, ProgramKind
from lab.fabric.bpf.verifier import VerifierError

__all__ = ["BpfObject", "load"]


class BpfObject:
    """Programs by their function's name and maps by theirs; closing it lets go of both.

    What is attached keeps its program, and a program its maps. ``maps`` has the shared ones too; they stay open.
    """

    def __init__(self, maps: Mapping[str, BpfMap], programs: Mapping[str, BpfProgram], stack: ExitStack) -> None:
        self.maps = MappingProxyType(dict(maps))
        self.programs = MappingProxyType(dict(programs))
        self._stack = stack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back; may be called twice."""
        self._stack.close()


def load(
    source: BpfSource,
    kinds: Mapping[str, ProgramKind],
    *,
    sizes: Mapping[str, int] = MappingProxyType({}),
    shared: Mapping[str, BpfMap] = MappingProxyType({}),
) -> BpfObject:
    """Compile the source, or take what was kept of it, make its maps, and load the programs that ``kinds`` names.

    Args:
        source: the C file.
        kinds: what each of its functions is.
        sizes: how many entries a map has, where the source does not say it for good.
        shared: maps of other objects to use in place of own ones, by the name in this source.

    Raises BpfError when it does not compile, VerifierError when the verifier refuses a program, HostError when bcc or
    headers are missing; nothing is left then.
    """
    known = compiled(source)
    _check_names(source, known, {**dict.fromkeys(sizes, "map"), **dict.fromkeys(shared, "map")})
    _check_names(source, known, dict.fromkeys(kinds, "program"))
    with ExitStack() as stack:
        maps = dict(shared)
        for definition in known.maps:
            if definition.name not in shared:
                entries = sizes.get(definition.name, definition.max_entries)
                maps[definition.name] = made = BpfMap(replace(definition, max_entries=entries))
                stack.callback(made.close)
        programs = {}
        for name, kind in kinds.items():
            programs[name] = program = _program(source, known, name, kind, maps)
            stack.callback(program.close)
        return BpfObject(maps, programs, stack.pop_all())
    raise AssertionError  # the block above returns or raises


def _check_names(source: BpfSource, known: Compiled, wanted: Mapping[str, str]) -> None:
    allowed = {"map": {each.name for each in known.maps}, "program": set(known.programs)}
    for name, what in wanted.items():
        if name not in allowed[what]:
            names = ", ".join(sorted(allowed[what])) or "none"
            raise BpfError(f"there is no BPF {what} {name}", place=str(source.path), allowed=names)


def _program(
    source: BpfSource, known: Compiled, name: str, kind: ProgramKind, maps: Mapping[str, BpfMap]
) -> BpfProgram:
    try:
        return BpfProgram(name, kind, _relocated(known.programs[name], maps), known.licence)
    except VerifierError as error:
        raise VerifierError(name, _annotated(source, name, kind) or error.log, source.path) from None


def _relocated(code: Code, maps: Mapping[str, BpfMap]) -> bytes:
    """The instructions with the maps' descriptors where they belong."""
    instructions = bytearray(code.instructions)
    for offset, name in code.relocations:
        struct.pack_into("=i", instructions, offset + 4, maps[name].descriptor)
    return bytes(instructions)


def _annotated(source: BpfSource, name: str, kind: ProgramKind) -> str:
    """The verifier's log with lines of the source, which only bcc can make; empty where it cannot be had."""
    try:
        return verifier_log(source, name, kind)
    except LabError:
        return ""
