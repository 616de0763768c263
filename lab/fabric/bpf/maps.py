# SPDX-License-Identifier: Apache-2.0
"""BPF maps held by a descriptor: when the last one is closed and no program uses the map, the kernel frees it."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from lab.errors import BpfError
from lab.fabric.bpf.btf import load_value_type
from lab.fabric.bpf.syscall import ENOTSUPP, Command, address_of, bpf

__all__ = ["MAP_MMAPABLE", "MAP_NO_PREALLOC", "BpfMap", "MapDefinition", "MapKind"]

MAP_NO_PREALLOC: Final = 1 << 0
MAP_MMAPABLE: Final = 1 << 10

# map_fd, key, value or next key, flags
_ELEMENT: Final = struct.Struct("=IxxxxQQQ")
# in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
_BATCH: Final = struct.Struct("=QQQQIIQQ")
# map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node, name, map_ifindex, btf_fd, key and
# value type in it
_CREATE: Final = struct.Struct("=IIIIIII16sIIII")


class MapKind(IntEnum):
    """The kinds that the lab tells apart (enum bpf_map_type); every other is handled by its number alone."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LPM_TRIE = 11
    SOCKMAP = 15
    SOCKHASH = 18
    LRU_PERCPU_HASH = 10
    SK_STORAGE = 24


_PER_CPU: Final = (MapKind.PERCPU_HASH, MapKind.PERCPU_ARRAY, MapKind.LRU_PERCPU_HASH)


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """What a map is made of; sizes in bytes, ``kind`` a number of enum bpf_map_type."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


class BpfMap:
    """One map. Keys and values are bytes as the kernel sees them; a per-CPU map has one value for each CPU."""

    def __init__(self, definition: MapDefinition) -> None:
        self.definition = definition
        self._descriptor = _create(definition)
        self._cpus = _possible_cpus() if definition.kind in _PER_CPU else 0
        # A per-CPU map's values are padded to eight bytes each.
        each = definition.value_size + 7 & ~7
        self._value_size = each * self._cpus if self._cpus else definition.value_size

    def __repr__(self) -> str:
        return f"BpfMap({self.definition.name!r})"

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the map; it is the map's own."""
        return self._descriptor

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None; of a per-CPU map the values of all CPUs in a row."""
        value = bytearray(self._value_size)
        found = self._element(Command.MAP_LOOKUP, key, value, absent_is_fine=True)
        return bytes(value) if found else None

    def per_cpu(self, key: bytes) -> list[bytes]:
        """The value of each CPU; an empty list where the key is absent."""
        value = self.get(key)
        if value is None:
            return []
        each = len(value) // self._cpus
        return [value[place : place + self.definition.value_size] for place in range(0, len(value), each)]

    def set(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set the value of a key; raises BpfError, for instance when the map is full."""
        self._element(Command.MAP_UPDATE, key, bytearray(value), flags)

    def delete(self, key: bytes) -> bool:
        """Remove a key, and tell whether it was there."""
        return self._element(Command.MAP_DELETE, key, bytearray(), absent_is_fine=True)

    def keys(self) -> Iterator[bytes]:
        """All keys; keys that come or go meanwhile may be missed or met again."""
        key = bytearray(self.definition.key_size)
        following = bytearray(self.definition.key_size)
        at = 0  # no key at all: the first one is wanted
        while True:
            request = bytearray(_ELEMENT.pack(self._descriptor, at, address_of(following), 0))
            try:
                bpf(Command.MAP_NEXT_KEY, request)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise self._refused("its next key", error) from error
            yield bytes(following)
            key[:] = following
            at = address_of(key)

    def set_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Set many keys in one system call; raises BpfError telling how many were set before it failed.

        Where the kernel cannot do that with this kind of map (tries before Linux 5.14), one after another.
        """
        if not keys:
            return
        all_keys, all_values = bytearray(b"".join(keys)), bytearray(b"".join(values))
        places = 0, 0, address_of(all_keys), address_of(all_values)
        request = bytearray(_BATCH.pack(*places, len(keys), self._descriptor, 0, 0))
        try:
            bpf(Command.MAP_UPDATE_BATCH, request)
        except OSError as error:
            if error.errno == ENOTSUPP:
                for key, value in zip(keys, values, strict=True):
                    self.set(key, value)
                return
            done = _BATCH.unpack(request)[4]
            raise self._refused(f"{len(keys)} keys at once, after {done} of them", error) from error

    def memory(self) -> mmap.mmap:
        """The values of an array that is mmapable, as memory shared with the kernel; the caller closes it."""
        size = (self.definition.value_size + 7 & ~7) * self.definition.max_entries
        page = mmap.PAGESIZE
        try:
            return mmap.mmap(self._descriptor, size + page - 1 & -page)
        except OSError as error:
            raise self._refused("to be mapped into memory", error) from error

    def _element(
        self, command: Command, key: bytes, value: bytearray, flags: int = 0, *, absent_is_fine: bool = False
    ) -> bool:
        self._check(key, value, command)
        held = bytearray(key)
        request = bytearray(_ELEMENT.pack(self._descriptor, address_of(held), address_of(value), flags))
        try:
            bpf(command, request)
        except OSError as error:
            if absent_is_fine and error.errno == errno.ENOENT:
                return False
            raise self._refused(f"the key {key.hex()}", error) from error
        return True

    def _check(self, key: bytes, value: bytearray, command: Command) -> None:
        """The kernel reads as many bytes as the map says, whatever was given."""
        if len(key) != self.definition.key_size:
            self._wrong_size("key", len(key), self.definition.key_size)
        if command is Command.MAP_UPDATE and len(value) != self._value_size:
            self._wrong_size("value", len(value), self._value_size)

    def _wrong_size(self, what: str, given: int, allowed: int) -> None:
        name = self.definition.name
        raise BpfError(f"a {what} of the BPF map {name} has the wrong size", value=given, allowed=f"{allowed} bytes")

    def _refused(self, what: str, error: OSError) -> BpfError:
        definition = self.definition
        step = (
            f"it holds at most {definition.max_entries} entries" if error.errno in (errno.E2BIG, errno.ENOSPC) else None
        )
        return BpfError(f"the BPF map {definition.name} refuses {what}: {error.strerror}", next_step=step)


def _create(definition: MapDefinition) -> int:
    """Make the map, with room for locked memory where the kernel still counts it (before 5.11)."""
    try:
        return _create_once(definition)
    except PermissionError:
        _lift_memory_limit()
    except OSError as error:
        raise _not_made(definition, error) from error
    try:
        return _create_once(definition)
    except OSError as error:
        raise _not_made(definition, error) from error


def _create_once(definition: MapDefinition) -> int:
    name = definition.name.encode()[:15]
    sizes = definition.kind, definition.key_size, definition.value_size, definition.max_entries, definition.flags
    if definition.kind != MapKind.SK_STORAGE:
        return bpf(Command.MAP_CREATE, bytearray(_CREATE.pack(*sizes, 0, 0, name, 0, 0, 0, 0)))
    # What is kept with sockets is the one kind of map that the kernel makes only with types.
    types = load_value_type(definition.value_size)
    try:
        return bpf(Command.MAP_CREATE, bytearray(_CREATE.pack(*sizes, 0, 0, name, 0, types, 1, 2)))
    finally:
        os.close(types)


def _lift_memory_limit() -> None:
    """This process's own limit; root may lift it, and for others bpf(2) is out of reach anyway."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        return  # then what the map itself is refused with says enough


def _not_made(definition: MapDefinition, error: OSError) -> BpfError:
    steps = {
        errno.EPERM: "run the command as root (sudo)",
        errno.ENOMEM: "free some memory, or use a smaller list",
        errno.E2BIG: "use Linux 6.0 or later, which takes values of more than 4 MB, or a smaller list",
        errno.EINVAL: "run 'policylab doctor' to see what this kernel lacks",
    }
    return BpfError(
        f"the kernel makes no BPF map {definition.name} of kind {definition.kind}: {error.strerror}",
        value=definition,
        next_step=steps.get(error.errno or 0),
    )


def _possible_cpus() -> int:
    """How many values a per-CPU map has; the kernel counts CPUs that could be, not those that are."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(text.strip().replace("-", ",").split(",")[-1]) + 1
