# SPDX-License-Identifier: Apache-2.0
"""What an administrator might do to an XDP program behind its owner's back, by the numbers that the kernel gives it.

For checks of what its owner then says and does; whoever owns a program has better means.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from typing import Final

from lab.fabric.bpf.links import resident_xdp
from lab.fabric.bpf.maps import MapKind
from lab.fabric.bpf.syscall import Command, address_of, bpf, info

__all__ = ["detach_xdp", "empty_maps"]

# struct bpf_prog_info: number of map ids, and where they are to be written.
_MAP_IDS: Final = struct.Struct("=52xIQ")
_MOST_MAPS: Final = 64
_TAMPERED: Final = (MapKind.HASH, MapKind.LPM_TRIE)


def detach_xdp(interface: str) -> int:
    """Take the XDP program off an interface of this thread's namespace by force; tells how many links it had there."""
    detached = 0
    resident = resident_xdp(interface)
    for number in _links() if resident else ():
        with _opened(Command.LINK_FD_BY_ID, number) as link:
            (program,) = struct.unpack_from("=8xI", info(link, 12))
            if resident and program == resident.number:
                bpf(Command.LINK_DETACH, bytearray(struct.pack("=I", link)))
                detached += 1
    return detached


def empty_maps(interface: str) -> int:
    """Take all entries out of the hashes and tries of an interface's XDP program; tells how many there were."""
    resident = resident_xdp(interface)
    return sum(map(_emptied, _maps(resident.number))) if resident else 0


def _emptied(number: int) -> int:
    with _opened(Command.MAP_FD_BY_ID, number) as held:
        kind, key_size = struct.unpack_from("=I4xI", info(held, 12))
        removed = 0
        key = bytearray(key_size)
        while kind in _TAMPERED and _done(Command.MAP_NEXT_KEY, struct.pack("=I4xQQ", held, 0, address_of(key))):
            bpf(Command.MAP_DELETE, bytearray(struct.pack("=I4xQ", held, address_of(key))))
            removed += 1
        return removed


def _maps(program: int) -> tuple[int, ...]:
    """The numbers of the maps that a program uses."""
    numbers = bytearray(4 * _MOST_MAPS)
    told = bytearray(_MAP_IDS.pack(_MOST_MAPS, address_of(numbers)))
    with _opened(Command.PROG_FD_BY_ID, program) as descriptor:
        bpf(Command.INFO_BY_FD, bytearray(struct.pack("=IIQ", descriptor, len(told), address_of(told))))
    count, _ = _MAP_IDS.unpack(told)
    return struct.unpack_from(f"={min(count, _MOST_MAPS)}I", numbers)


def _links() -> Iterator[int]:
    """The numbers of all links of this kernel."""
    asked = bytearray(struct.pack("=III", 0, 0, 0))
    while _done(Command.LINK_NEXT_ID, asked):
        (number,) = struct.unpack_from("=4xI", asked)
        yield number
        asked = bytearray(struct.pack("=III", number, 0, 0))


def _done(command: Command, attributes: bytes | bytearray) -> bool:
    """Whether there was another one."""
    try:
        bpf(command, attributes if isinstance(attributes, bytearray) else bytearray(attributes))
    except OSError as error:
        if error.errno == ENOENT:
            return False
        raise
    return True


@contextmanager
def _opened(command: Command, number: int) -> Iterator[int]:
    descriptor = bpf(command, bytearray(struct.pack("=III", number, 0, 0)))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
