# SPDX-License-Identifier: Apache-2.0
"""Where packets get lost without any policy's doing: such a loss must never read as a denial."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from lab.fabric.node import Node
from lab.traffic.observation import Reason

__all__ = ["ConntrackDrops", "LossMeter", "backlog_drops"]

_NETLINK_NETFILTER: Final = 12
_GET_STATS_CPU: Final = 1 << 8 | 4
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS_CPU."""
_DUMP_REQUEST: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST: Final = struct.pack("=IHHIIBBH", 20, _GET_STATS_CPU, _DUMP_REQUEST, 1, 0, 0, 0, 0)
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NFGENMSG: Final = 4
_LOSSES: Final = frozenset({9, 10})
"""CTA_STATS_INSERT_FAILED and CTA_STATS_DROP: both mean that conntrack itself dropped a packet."""
_ANSWER_ROOM: Final = 1 << 16

_SOFTNET: Final = Path("/proc/net/softnet_stat")
_SOFTNET_DROPPED, _SOFTNET_CPU = 1, 12
"""Columns: packets dropped because the backlog was full, and the CPU's number (since Linux 5.10)."""


class ConntrackDrops:
    """Reads how many packets conntrack has dropped on a node, over ctnetlink."""

    def __init__(self, node: Node) -> None:
        self._socket = node.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)

    def read(self) -> int:
        """Drops on all CPUs since the node was made; 0 where the kernel does not tell."""
        self._socket.send(_REQUEST)
        return sum(self._answers())

    def backlog(self) -> int:
        """Nothing of its own: the node's CPUs are those of this kernel, which are looked at as such."""
        return 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _answers(self) -> Iterator[int]:
        while True:
            answer = self._socket.recv(_ANSWER_ROOM)
            for kind, body in _messages(answer):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return
                yield sum(int.from_bytes(value, "big") for name, value in _attributes(body) if name in _LOSSES)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[length + 3 & ~3 :]


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    data = body[_NFGENMSG:]
    while len(data) >= _ATTRIBUTE.size:
        length, name = _ATTRIBUTE.unpack_from(data)
        yield name, data[_ATTRIBUTE.size : length]
        data = data[length + 3 & ~3 :]


def backlog_drops(cpu: int) -> int:
    """How many packets this CPU had no room for between an interface and the stack; 0 for a CPU that is not there."""
    rows = (line.split() for line in _SOFTNET.read_text().splitlines())
    return sum(int(row[_SOFTNET_DROPPED], 16) for row in rows if int(row[_SOFTNET_CPU], 16) == cpu)


class NodeDrops(Protocol):
    """Where a node loses packets."""

    def read(self) -> int:
        """What its conntrack has dropped so far."""
        ...

    def backlog(self) -> int:
        """What its own CPU had no room for, where it has one; else 0."""
        ...


class LossMeter:
    """What was lost on the way between two looks, by cause; ``elsewhere`` tells of losses beside nodes, by place."""

    def __init__(
        self, nodes: Mapping[str, NodeDrops], cpu: int, elsewhere: Callable[[], Mapping[str, int]] = dict
    ) -> None:
        self._nodes = nodes
        self._cpu = cpu
        self._elsewhere = elsewhere
        self._before = self._look()

    def _look(self) -> dict[tuple[Reason, str], int]:
        found = {(Reason.CONNTRACK, name): drops.read() for name, drops in self._nodes.items()}
        found |= {(Reason.BACKLOG, name): drops.backlog() for name, drops in self._nodes.items()}
        found |= {(Reason.BACKLOG, place): count for place, count in self._elsewhere().items()}
        return found | {(Reason.BACKLOG, f"CPU {self._cpu}"): backlog_drops(self._cpu)}

    def losses(self) -> tuple[Reason, str] | None:
        """The first cause for which packets were lost since the meter was made, and how many; None when none were."""
        for cause, count in self._look().items():
            if count > self._before[cause]:
                reason, place = cause
                return reason, f"{count - self._before[cause]} on {place}"
        return None
