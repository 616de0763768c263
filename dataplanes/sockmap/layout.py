# SPDX-License-Identifier: Apache-2.0
"""What the BPF programs and this plugin must agree on: numbers from their header, and where the kernel has what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dataplanes.api import HostError, shipped_bpf

__all__ = ["COUNTERS", "LAYOUT", "MEMBERS", "SOURCE", "macros"]

SOURCE: Final = shipped_bpf("sockmap.c")

_DEFINITION: Final = re.compile(r"^#define (?P<name>[A-Z0-9_]+) (?P<value>\d+)", re.MULTILINE)


def _numbers() -> dict[str, int]:
    text = SOURCE.path.with_name("sockmap.h").read_text(encoding="utf-8")
    return {found["name"]: int(found["value"]) for found in _DEFINITION.finditer(text)}


LAYOUT: Final = _numbers()
"""Every number that the header defines, by name."""

COUNTERS: Final = {
    number: name.removeprefix("COUNT_").lower().replace("_", ".", 1).replace("_", "-")
    for name, number in LAYOUT.items()
    if name.startswith("COUNT_")
}
"""What is counted, as evidence calls it, by its place in the kernel's map."""

MEMBERS: Final = {
    "WRITE_SEQ": "tcp_sock.write_seq",
    "RCV_NXT": "tcp_sock.rcv_nxt",
    "COPIED_SEQ": "tcp_sock.copied_seq",
    "STATE": "sock.__sk_common.skc_state",
    "ERROR": "sock.sk_err",
    "SHUTDOWN": "sock.sk_shutdown",
    "UPPER_PROTOCOL": "inet_connection_sock.icsk_ulp_ops",
    "PROTOCOL": "sock.__sk_common.skc_prot",
    "PRESSURE": "proto.memory_pressure",
    "COOKIE": "sock.__sk_common.skc_cookie",
    "USER_DATA": "sock.sk_user_data",
    "QUEUE": "sk_psock.ingress_msg",
    "QUEUED": "sk_psock.msg_tot_len",
    "SOCKET": "sock.sk_socket",
    "LOCK_OWNED": "sock.sk_lock.owned",
    "FILE": "socket.file",
    "WAITERS": "socket.wq.wait.head",
    "FILE_FLAGS": "file.f_flags",
    "GROUP": "sock.sk_memcg",
    "GROUP_MEMORY": "mem_cgroup.memory",
    "GROUP_TCP": "mem_cgroup.tcpmem",
    "GROUP_COUNTS_TCP": "mem_cgroup.tcpmem_active",
    "COUNTED": "page_counter.usage",
    "LIMIT": "page_counter.max",
    "COUNTER_ABOVE": "page_counter.parent",
}
"""What the programs read of the kernel's own structures, by the end of the macro that tells them where it is."""

# QUEUED is newer than the oldest kernel that this works on: without it the programs count themselves. The others are
# there where the kernel is built with cgroups that limit memory, and with their first version.
_OPTIONAL: Final = frozenset(
    {"QUEUED", "GROUP", "GROUP_MEMORY", "GROUP_TCP", "GROUP_COUNTS_TCP", "COUNTED", "LIMIT", "COUNTER_ABOVE"}
)


def macros(offsets: Mapping[str, int | None]) -> tuple[tuple[str, str], ...]:
    """The macros that tell the programs where members are; raises HostError when one that they need is not there."""
    known = []
    for name, path in MEMBERS.items():
        offset = offsets[path]
        if offset is not None:
            known.append((f"MEMBER_{name}", str(offset)))
        elif name not in _OPTIONAL:
            raise HostError(
                "this kernel keeps sockets in another way than sockmap knows",
                value=f"no member {path}",
                next_step="run without the accelerator",
            )
    return tuple(known)
