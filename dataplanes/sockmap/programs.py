# SPDX-License-Identifier: Apache-2.0
"""The programs of one node in the kernel: loaded, switched, filled, counted, and let go without hurting a socket."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Final

from dataplanes.api import BpfMap, BpfSource, Node, ProgramKind
from dataplanes.sockmap.layout import COUNTERS, LAYOUT

__all__ = ["QUEUE_BYTES", "Programs"]

QUEUE_BYTES: Final = 8 << 20
"""As many bytes may wait at one socket, and then TCP with its own flow control takes over."""

_ONLY: Final = bytes(4)
_KINDS: Final = {"join": ProgramKind.SOCK_OPS, "send": ProgramKind.SK_MSG}
_DEEPEST: Final = "queue.deepest"
_OPTIONS: Final = struct.Struct("=II")


class Programs:
    """What is in the kernel for one node; ``close`` lets it go."""

    def __init__(self, node: Node, source: BpfSource, sockets: int) -> None:
        self._setting = LAYOUT["SWITCH_OFF"]
        with ExitStack() as stack:
            loaded = node.load_bpf(source, _KINDS, sizes={"sockets": sockets, "notes": sockets})
            stack.callback(loaded.close)
            self._maps: Mapping[str, BpfMap] = loaded.maps
            self.switch(self._setting)
            link = node.attach_sockets(loaded.programs["join"], loaded.programs["send"], loaded.maps["sockets"])
            stack.callback(link.close)
            self._stack = stack.pop_all()

    def switch(self, setting: int) -> None:
        """Set the switch: one of the numbers SWITCH_... of the layout."""
        self._setting = setting
        self._maps["options"].set(_ONLY, _OPTIONS.pack(setting, QUEUE_BYTES))

    @property
    def setting(self) -> int:
        """How the switch stands."""
        return self._setting

    def admit(self, cookies: Iterable[int]) -> None:
        """Let new sockets of these namespaces join, and of no others."""
        members = self._maps["members"]
        wanted = {cookie.to_bytes(8, "little") for cookie in cookies}
        present = set(members.keys())
        for key in present - wanted:
            members.delete(key)
        for key in wanted - present:
            members.set(key, _ONLY)

    def counters(self) -> dict[str, int]:
        """All that was counted, over all CPUs."""
        each = [struct.unpack(f"={len(COUNTERS)}Q", values) for values in self._maps["counts"].per_cpu(_ONLY)]
        return {
            name: max(values) if name == _DEEPEST else sum(values)
            for name, values in ((name, [cpu[place] for cpu in each]) for place, name in COUNTERS.items())
        }

    def known(self) -> int:
        """How many sockets are in the map now, or noted, whichever is more."""
        return max(len(list(self._maps[name].keys())) for name in ("sockets", "notes"))

    def close(self) -> None:
        """Redirect nothing more and let no socket join; those that are in the map stay there until they close.

        Taken out of the map, a socket would lose what is queued at it; so program and map live as long as the sockets
        that hold them, switched off.
        """
        self.switch(LAYOUT["SWITCH_OFF"])
        self._stack.close()
