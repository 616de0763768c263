# SPDX-License-Identifier: Apache-2.0
"""bpf(2), which no library in the house wraps: commands, their attributes packed as linux/bpf.h lays them out."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from enum import IntEnum
from typing import Final

from lab.errors import HostError

__all__ = ["ENOTSUPP", "Command", "address_of", "bpf", "info"]

ENOTSUPP: Final = 524
"""The kernel's own number for "not supported"; it has no name in errno."""

# The number of bpf(2) by machine (asm/unistd.h); the generic table is 280.
_NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
_LIBC.syscall.restype = ctypes.c_long


class Command(IntEnum):
    """What bpf(2) is asked to do (enum bpf_cmd)."""

    MAP_CREATE = 0
    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    MAP_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_FD_BY_ID = 13
    MAP_FD_BY_ID = 14
    INFO_BY_FD = 15
    BTF_LOAD = 18
    MAP_UPDATE_BATCH = 26
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_FD_BY_ID = 30
    LINK_NEXT_ID = 31
    LINK_DETACH = 34


def bpf(command: Command, attributes: bytearray) -> int:
    """Ask the kernel; what it writes back stands in ``attributes``. Raises OSError as it refuses."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise HostError(f"bpf(2) has no known number on {platform.machine()}", allowed=", ".join(_NUMBERS))
    result: int = _LIBC.syscall(number, command, address_of(attributes), len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def address_of(buffer: bytearray) -> int:
    """Where a buffer lies; it must neither grow nor go while the kernel may look there."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0


def info(descriptor: int, size: int) -> bytearray:
    """The first ``size`` bytes of what the kernel tells of a map, program or link."""
    answer = bytearray(size)
    bpf(Command.INFO_BY_FD, bytearray(struct.pack("=IIQ", descriptor, size, address_of(answer))))
    return answer
