# SPDX-License-Identifier: Apache-2.0
"""Compiles one C file with bcc, in a process of its own (``python -m lab.fabric.bpf.bcc_process``).

bcc brings 100 MB of compiler into the process, lets clang write to its standard error, changes its directory for a
while and makes the maps that the file declares; all that ends with the process. A request comes on standard input,
the answer goes to standard output, both JSON; what the compiler says goes to standard error.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
import json
import os
import struct
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, Final

__all__ = ["BCC_FOLDER", "main"]

# Debian's packages of Python modules; a virtual environment does not look there.
BCC_FOLDER: Final = "/usr/lib/python3/dist-packages"

# An instruction that loads a map takes two places: opcode BPF_LD | BPF_IMM | BPF_DW, source BPF_PSEUDO_MAP_FD.
_INSTRUCTION: Final = struct.Struct("=BBhi")
_LOAD_64: Final = 0x18
_PSEUDO_MAP: Final = 1
# Of the same form, for bcc a number like any other: what the loader puts in place of it (bpf_pseudo_fd(2, number)).
_PSEUDO_VALUE: Final = 2
_LOG_SIZE: Final = 16 << 20
# A function that is not there would become a call to nowhere, which the verifier explains badly.
_FLAGS: Final = ("-Werror=implicit-function-declaration",)


class BccFinder:
    """Finds the package bcc where Debian puts it, and no other of the packages that lie there."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The place of the module ``bcc``; of every other, nothing."""
        del path, target
        return PathFinder.find_spec(name, [BCC_FOLDER]) if name == "bcc" else None


def main() -> None:
    """Answer the request: instructions, maps and relocations, or the verifier's log of one program."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # clang also writes to standard output
    request = json.load(sys.stdin)
    sys.meta_path.append(BccFinder)
    module = _Module(request["text"], [*request["flags"], *_FLAGS])
    with answers:
        json.dump(module.refusal(**request["verify"]) if "verify" in request else module.compiled(), answers)


class _Module:
    """A C text compiled; ends the process when it does not compile, after clang has said why."""

    def __init__(self, text: str, flags: list[str]) -> None:
        self._lib = lib = _library()
        array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        self._module = lib.bpf_module_create_c_from_string(text.encode(), 0, array, len(flags), True, None)
        if not self._module:
            sys.exit(1)

    def compiled(self) -> dict[str, Any]:
        """All that is needed to load the programs without bcc."""
        lib, module = self._lib, self._module
        maps = [self._map(place) for place in range(lib.bpf_num_tables(module))]
        names = [lib.bpf_function_name(module, place) for place in range(lib.bpf_num_functions(module))]
        programs = {name.decode(): self._program(name, {each["fd"]: each["name"] for each in maps}) for name in names}
        definitions = [{key: value for key, value in each.items() if key != "fd"} for each in maps]
        return {"licence": (lib.bpf_module_license(module) or b"").decode(), "maps": definitions, "programs": programs}

    def refusal(self, program: str, kind: int, attach_type: int) -> str:
        """What the verifier says of one program, with the lines of the source in it."""
        lib, module, name = self._lib, self._module, program.encode()
        log = ctypes.create_string_buffer(_LOG_SIZE)
        start, size = lib.bpf_function_start(module, name), lib.bpf_function_size(module, name)
        licence = lib.bpf_module_license(module)
        lib.bcc_func_load(module, kind, name, start, size, licence, 0, 1, log, _LOG_SIZE, None, 0, attach_type)
        return log.value.decode(errors="replace")

    def _map(self, place: int) -> dict[str, Any]:
        lib, module = self._lib, self._module
        return {
            "fd": lib.bpf_table_fd_id(module, place),
            "name": lib.bpf_table_name(module, place).decode(),
            "kind": lib.bpf_table_type_id(module, place),
            "key_size": lib.bpf_table_key_size_id(module, place),
            "value_size": lib.bpf_table_leaf_size_id(module, place),
            "max_entries": lib.bpf_table_max_entries_id(module, place),
            "flags": lib.bpf_table_flags_id(module, place),
        }

    def _program(self, name: bytes, maps: dict[int, str]) -> dict[str, Any]:
        """The instructions with the descriptors of maps taken out, and where they and the constants' numbers were."""
        start, size = self._lib.bpf_function_start(self._module, name), self._lib.bpf_function_size(self._module, name)
        code = bytearray(ctypes.string_at(start, size))
        relocations, constants = [], []
        for offset in range(0, size, _INSTRUCTION.size):
            opcode, registers, zero, value = _INSTRUCTION.unpack_from(code, offset)
            if opcode == _LOAD_64 and registers >> 4 == _PSEUDO_MAP:
                relocations.append([offset, maps[value]])
                _INSTRUCTION.pack_into(code, offset, opcode, registers, zero, 0)
            elif opcode == _LOAD_64 and registers >> 4 == _PSEUDO_VALUE:
                constants.append([offset, value])
        return {"code": base64.b64encode(code).decode(), "relocations": relocations, "constants": constants}


def _library() -> Any:
    """The library with the signatures that its Python side leaves out."""
    lib = importlib.import_module("bcc.libbcc").lib
    sizes = ctypes.c_ulonglong
    for name, result in (
        ("bpf_num_tables", sizes), ("bpf_table_name", ctypes.c_char_p), ("bpf_table_fd_id", ctypes.c_int),
        ("bpf_table_key_size_id", sizes), ("bpf_table_leaf_size_id", sizes), ("bpf_table_flags_id", ctypes.c_int),
    ):  # fmt: skip
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = [ctypes.c_void_p] if name == "bpf_num_tables" else [ctypes.c_void_p, sizes]
    return lib


if __name__ == "__main__":
    main()
