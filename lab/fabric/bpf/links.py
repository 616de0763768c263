# SPDX-License-Identifier: Apache-2.0
"""Programs put to work by BPF links: a link holds program and place together, and ends with its descriptor."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self

from lab.errors import BpfError
from lab.fabric.bpf.maps import BpfMap
from lab.fabric.bpf.programs import BpfProgram
from lab.fabric.bpf.syscall import ENOTSUPP, Command, bpf, info
from lab.fabric.netlink import Message, Netlink, attributes

__all__ = [
    "BpfLink",
    "Resident",
    "XdpLink",
    "XdpMode",
    "attach_cgroup",
    "attach_sockets",
    "attach_tc",
    "attach_xdp",
    "resident_xdp",
]

# prog_fd, target_fd or target_ifindex, attach_type, flags
_CREATE: Final = struct.Struct("=IIII")
# link_fd, new_prog_fd, flags, old_prog_fd
_UPDATE: Final = struct.Struct("=IIII")
# target_fd, attach_bpf_fd, attach_type, attach_flags
_ATTACH: Final = struct.Struct("=IIII")

_BPF_XDP: Final = 37
_BPF_TCX_INGRESS: Final = 46

_RTM_GETLINK: Final = 18
_IFLA_XDP: Final = 43
_IFLA_XDP_ATTACHED: Final = 2
_IFLA_XDP_PROG_ID: Final = 4


class XdpMode(Enum):
    """Where an XDP program runs: in the driver, or, much later, when a socket buffer has been made."""

    NATIVE = "native"
    GENERIC = "generic"

    @property
    def flag(self) -> int:
        """XDP_FLAGS_DRV_MODE or XDP_FLAGS_SKB_MODE (linux/if_link.h)."""
        return 1 << 2 if self is XdpMode.NATIVE else 1 << 1


class BpfLink:
    """A link; closing it takes the program off, and so does the end of the process."""

    def __init__(self, program: BpfProgram, target: int, attach_type: int, flags: int = 0) -> None:
        self._descriptor = bpf(
            Command.LINK_CREATE, bytearray(_CREATE.pack(program.descriptor, target, attach_type, flags))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the link; it is the link's own."""
        return self._descriptor

    @property
    def program_id(self) -> int:
        """The number of the program that the link has at work now."""
        (number,) = struct.unpack_from("=8xI", info(self._descriptor, 12))
        return int(number)

    def replace(self, program: BpfProgram) -> None:
        """Put another program in the place of this one: each packet meets one of the two."""
        try:
            bpf(Command.LINK_UPDATE, bytearray(_UPDATE.pack(self._descriptor, program.descriptor, 0, 0)))
        except OSError as error:
            raise BpfError(f"the BPF program {program.name} takes no other's place: {error.strerror}") from error

    def detach(self) -> None:
        """Take the program off by force, as an administrator might; the link stays, and holds nothing."""
        bpf(Command.LINK_DETACH, bytearray(struct.pack("=I", self._descriptor)))

    def close(self) -> None:
        """Give the descriptor back, which takes the program off; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class XdpLink(BpfLink):
    """An XDP program at work on an interface, and the mode in which it is."""

    def __init__(self, program: BpfProgram, ifindex: int, mode: XdpMode) -> None:
        super().__init__(program, ifindex, _BPF_XDP, mode.flag)
        self.mode = mode

    @property
    def attached(self) -> bool:
        """Whether the program is still on its interface: links can be detached by force, interfaces go."""
        # struct bpf_link_info: type, id, prog_id, padding, then xdp.ifindex
        (ifindex,) = struct.unpack_from("=16xI", info(self.descriptor, 20))
        return bool(ifindex)


@dataclass(frozen=True, slots=True)
class Resident:
    """The program that an interface has already: its number, and the mode in words."""

    number: int
    mode: str


def attach_xdp(program: BpfProgram, interface: str, mode: XdpMode | None = None) -> XdpLink:
    """Attach to an interface of this thread's namespace: in native mode, else in generic; or only in ``mode``.

    What another has attached is never replaced. Raises BpfError.
    """
    ifindex = _index(interface)
    resident = resident_xdp(interface)
    if resident:
        raise BpfError(
            f"the interface {interface} has an XDP program already: number {resident.number}, {resident.mode}",
            next_step=f"take it off if it is yours to take (bpftool prog show id {resident.number} tells whose it is)",
        )
    refusals = []
    for each in (mode,) if mode else (XdpMode.NATIVE, XdpMode.GENERIC):
        try:
            return XdpLink(program, ifindex, each)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, ENOTSUPP, errno.EINVAL):
                raise _not_attached(program, interface, f"{each.value}: {_said(error)}") from error
            refusals.append(f"{each.value}: {_said(error)}")
    raise _not_attached(program, interface, "; ".join(refusals))


def attach_tc(program: BpfProgram, interface: str) -> BpfLink:
    """Attach to what an interface of this thread's namespace receives (TCX, Linux 6.6); raises BpfError."""
    try:
        return BpfLink(program, _index(interface), _BPF_TCX_INGRESS)
    except OSError as error:
        raise _not_attached(program, interface, f"tcx: {_said(error)}") from error


def attach_cgroup(program: BpfProgram, cgroup: int) -> BpfLink:
    """Attach to a cgroup v2, given by a descriptor of its directory; raises BpfError."""
    try:
        return BpfLink(program, cgroup, program.kind.attach_type)
    except OSError as error:
        raise _not_attached(program, "the cgroup", _said(error)) from error


def attach_sockets(program: BpfProgram, sockets: BpfMap) -> None:
    """Attach to the sockets of a sockmap or sockhash; it ends with the map. Raises BpfError."""
    places = sockets.descriptor, program.descriptor, program.kind.attach_type, 0
    try:
        bpf(Command.PROG_ATTACH, bytearray(_ATTACH.pack(*places)))
    except OSError as error:
        raise _not_attached(program, f"the map {sockets.definition.name}", _said(error)) from error


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise BpfError("there is no such interface", value=interface, allowed=there) from error


def resident_xdp(interface: str) -> Resident | None:
    """The XDP program that an interface of this thread's namespace has, whoever attached it."""
    ifindex = _index(interface)
    request = Message(_RTM_GETLINK, 0, struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0), "to tell of an interface")
    with Netlink() as netlink:
        answers = netlink.ask(request)
    for answer in answers:
        xdp = dict(attributes(dict(attributes(answer, 16)).get(_IFLA_XDP, b""), 0))
        if xdp.get(_IFLA_XDP_ATTACHED, b"\0") != b"\0":
            modes = {1: "native", 2: "generic", 3: "offloaded"}
            number = int.from_bytes(xdp.get(_IFLA_XDP_PROG_ID, b"")[:4], "little")
            return Resident(number, modes.get(xdp[_IFLA_XDP_ATTACHED][0], "in several modes"))
    return None


def _said(error: OSError) -> str:
    return "not supported" if error.errno == ENOTSUPP else error.strerror or str(error)


def _not_attached(program: BpfProgram, place: str, why: str) -> BpfError:
    return BpfError(
        f"the BPF program {program.name} cannot be attached to {place}: {why}",
        next_step="run 'policylab doctor' to see what this host lacks",
    )
