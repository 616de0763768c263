# SPDX-License-Identifier: Apache-2.0
"""From a C file to verified programs and their maps, all held by descriptors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Final, Self

from lab.errors import BpfError, LabError
from lab.fabric.bpf.compiler import BpfSource, Code, Compiled, compiled, verifier_log
from lab.fabric.bpf.maps import BpfMap
from lab.fabric.bpf.programs import BpfProgram, ProgramKind
from lab.fabric.bpf.verifier import VerifierError

__all__ = ["BpfObject", "Constants", "load"]

Constants = Mapping[int, int | str]
"""What stands in a program for ``bpf_pseudo_fd(2, number)``: a number of 64 bits, or the address of a map's value."""

# In the second of an instruction's bytes, above the register: the number is a map's descriptor, its value is meant.
_MAP_VALUE: Final = 2 << 4


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
    constants: Constants = MappingProxyType({}),
) -> BpfObject:
    """Compile the source, or take what was kept of it, make its maps, and load the programs that ``kinds`` names.

    Args:
        source: the C file.
        kinds: what each of its functions is.
        sizes: how many entries a map has, where the source does not say it for good.
        shared: maps of other objects to use in place of own ones, by the name in this source.
        constants: by number, what is known only now. An array that is one of them has all its entries in one value:
            only of such a one can a program have the address.

    Raises BpfError when it does not compile, VerifierError when the verifier refuses a program, HostError when bcc or
    headers are missing; nothing is left then.
    """
    known = compiled(source)
    _check_names(source, known, {**dict.fromkeys(sizes, "map"), **dict.fromkeys(shared, "map")})
    _check_names(source, known, dict.fromkeys(kinds, "program"))
    whole = {each for each in constants.values() if isinstance(each, str)}
    with ExitStack() as stack:
        maps = dict(shared)
        for definition in known.maps:
            if definition.name not in shared:
                entries = sizes.get(definition.name, definition.max_entries)
                sized = replace(definition, max_entries=entries)
                if definition.name in whole:
                    sized = replace(definition, max_entries=1, value_size=definition.value_size * entries)
                maps[definition.name] = made = BpfMap(sized)
                stack.callback(made.close)
        programs = {}
        for name, kind in kinds.items():
            code = _relocated(known.programs[name], maps, constants)
            try:
                programs[name] = program = BpfProgram(name, kind, code, known.licence)
            except VerifierError as error:
                raise VerifierError(name, _log(source, known, name, kind) or error.log, source.path) from None
            stack.callback(program.close)
        return BpfObject(maps, programs, stack.pop_all())
    raise AssertionError  # the block above returns or raises


def _check_names(source: BpfSource, known: Compiled, wanted: Mapping[str, str]) -> None:
    allowed = {"map": {each.name for each in known.maps}, "program": set(known.programs)}
    for name, what in wanted.items():
        if name not in allowed[what]:
            names = ", ".join(sorted(allowed[what])) or "none"
            raise BpfError(f"there is no BPF {what} {name}", place=str(source.path), allowed=names)


def _relocated(code: Code, maps: Mapping[str, BpfMap], constants: Constants) -> bytes:
    """The instructions with the maps' descriptors and the constants where they belong."""
    instructions = bytearray(code.instructions)
    for offset, name in code.relocations:
        struct.pack_into("=i", instructions, offset + 4, maps[name].descriptor)
    for offset, number in code.constants:
        if number not in constants:
            raise BpfError(f"the constant {number} of a BPF program has no value")
        value = constants[number]
        register = instructions[offset + 1] & 15
        known = value if isinstance(value, int) else maps[value].descriptor
        instructions[offset + 1] = register if isinstance(value, int) else register | _MAP_VALUE
        # The instruction takes two places, with half of the number in each.
        struct.pack_into("=I", instructions, offset + 4, known & 0xFFFFFFFF)
        struct.pack_into("=I", instructions, offset + 12, known >> 32)
    return bytes(instructions)


def _log(source: BpfSource, known: Compiled, name: str, kind: ProgramKind) -> str:
    """The verifier's log with lines of the source, which only bcc can make; empty where it cannot be had.

    bcc loads the program itself for that: it cannot where there are constants, of which it knows nothing.
    """
    if known.programs[name].constants:
        return ""
    try:
        return verifier_log(source, name, kind)
    except LabError:
        return ""
