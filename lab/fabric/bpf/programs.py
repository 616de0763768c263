# SPDX-License-Identifier: Apache-2.0
"""BPF programs held by a descriptor, and single runs of them on packets that are nobody's."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lab.errors import BpfError
from lab.fabric.bpf.syscall import Command, address_of, bpf, info
from lab.fabric.bpf.verifier import VerifierError

__all__ = ["BpfProgram", "ProgramKind", "Ran", "run_live"]

# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name,
# prog_ifindex, expected_attach_type
_LOAD: Final = struct.Struct("=IIQQIIQII16sII")
# prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, ctx_size_out,
# ctx_in, ctx_out, flags, cpu, batch_size
_TEST_RUN: Final = struct.Struct("=IIIIQQIIIIQQIII")
_LIVE_FRAMES: Final = 1 << 1
_LOG_SIZE: Final = 16 << 20

# How much a packet may grow in a test run, and the least that the kernel takes as a packet (ETH_HLEN).
_SPARE: Final = 512
SMALLEST_PACKET: Final = 14


class ProgramKind(Enum):
    """What a program is for: its type and, where that says not enough, what it attaches to (enum bpf_attach_type)."""

    SCHED_CLS = (3, 0)
    XDP = (6, 0)
    CGROUP_SKB_INGRESS = (8, 0)
    CGROUP_SKB_EGRESS = (8, 1)
    SOCK_OPS = (13, 3)
    SK_SKB_PARSER = (14, 4)
    SK_SKB_VERDICT = (14, 5)
    SK_MSG = (16, 7)

    @property
    def type(self) -> int:
        """The kernel's number of the program type."""
        return self.value[0]

    @property
    def attach_type(self) -> int:
        """The kernel's number of what it attaches to."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a test run: the program's return value, the packet as it left it, nanoseconds a run."""

    returned: int
    packet: bytes
    nanoseconds: int


class BpfProgram:
    """One verified program; ``code`` has its maps' descriptors in place.

    Raises VerifierError when the verifier refuses it, BpfError for every other refusal.
    """

    def __init__(self, name: str, kind: ProgramKind, code: bytes, licence: str) -> None:
        self.name = name
        self.kind = kind
        self._descriptor = _load(name, kind, code, licence)

    def __repr__(self) -> str:
        return f"BpfProgram({self.name!r})"

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the program; it is the program's own."""
        return self._descriptor

    @property
    def id(self) -> int:
        """The number by which the kernel tells programs apart."""
        (number,) = struct.unpack_from("=4xI", info(self._descriptor, 8))
        return int(number)

    def close(self) -> None:
        """Give the descriptor back; may be called twice. Links keep the program alive."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def run(self, packet: bytes, *, repeat: int = 1) -> Ran:
        """Run it on a packet that no interface has seen (BPF_PROG_TEST_RUN); at least 14 bytes, at most a page."""
        data, left = bytearray(packet), bytearray(len(packet) + _SPARE)
        places = address_of(data), address_of(left)
        request = bytearray(
            _TEST_RUN.pack(self._descriptor, 0, len(data), len(left), *places, repeat, 0, 0, 0, 0, 0, 0, 0, 0)
        )
        try:
            bpf(Command.PROG_TEST_RUN, request)
        except OSError as error:
            raise BpfError(
                f"no test run of the BPF program {self.name}: {error.strerror}", value=packet.hex()
            ) from error
        _, returned, _, size, _, _, _, nanoseconds, *_ = _TEST_RUN.unpack(request)
        return Ran(returned, bytes(left[:size]), nanoseconds)

    def returns(self, packets: Sequence[bytes]) -> list[int]:
        """The return value for each of many packets: the same as ``run``, without what it costs in between."""
        largest = max(map(len, packets), default=SMALLEST_PACKET)
        data = bytearray(largest)
        request = bytearray(_TEST_RUN.pack(self._descriptor, 0, 0, 0, address_of(data), 0, 1, *([0] * 8)))
        verdicts = []
        for packet in packets:
            data[: len(packet)] = packet
            struct.pack_into("=II", request, 8, len(packet), 0)  # the kernel has written the second one
            try:
                bpf(Command.PROG_TEST_RUN, request)
            except OSError as error:
                raise BpfError(f"no test run of {self.name}: {error.strerror}", value=packet.hex()) from error
            verdicts.append(struct.unpack_from("=I", request, 4)[0])
        return verdicts


def run_live(program: BpfProgram, packet: bytes, *, ifindex: int, repeat: int, batch: int) -> int:
    """Run an XDP program on ``repeat`` copies of a packet and do with each as it says; tells the nanoseconds of one.

    The copies are live (Linux 5.18): what is answered XDP_TX leaves by the interface, which is one of this thread's
    namespace. The program may change each of them. Raises BpfError.
    """
    data = bytearray(packet)
    # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    context = bytearray(struct.pack("=IIIIII", 0, len(data), 0, ifindex, 0, 0))
    request = bytearray(
        _TEST_RUN.pack(
            program.descriptor, 0, len(data), 0, address_of(data), 0, repeat, 0,
            len(context), 0, address_of(context), 0, _LIVE_FRAMES, 0, batch,
        )
    )  # fmt: skip
    try:
        bpf(Command.PROG_TEST_RUN, request)
    except OSError as error:
        raise BpfError(f"no live run of the BPF program {program.name}: {error.strerror}") from error
    return int(_TEST_RUN.unpack(request)[7])


def _load(name: str, kind: ProgramKind, code: bytes, licence: str) -> int:
    """Load without a log, and once more with one where the verifier refuses: a log costs time and may not fit."""
    held = bytearray(code)
    terms = ctypes.create_string_buffer(licence.encode())

    def once(log: bytearray) -> int:
        logging = (1, len(log), address_of(log)) if log else (0, 0, 0)
        places = address_of(held), ctypes.addressof(terms)
        named = name.encode()[:15]
        request = _LOAD.pack(kind.type, len(code) // 8, *places, *logging, 0, 0, named, 0, kind.attach_type)
        return bpf(Command.PROG_LOAD, bytearray(request))

    try:
        return once(bytearray())
    except OSError as error:
        refusal = error
    log = bytearray(_LOG_SIZE)
    try:
        return once(log)
    except OSError:
        text = log.partition(b"\0")[0].decode(errors="replace")
    if text:
        raise VerifierError(name, text)
    step = "run the command as root (sudo)" if refusal.errno == errno.EPERM else "run 'policylab doctor'"
    raise BpfError(f"the kernel refuses the BPF program {name}: {refusal.strerror}", next_step=step) from refusal
