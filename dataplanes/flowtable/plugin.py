# SPDX-License-Identifier: Apache-2.0
"""The accelerator: one nftables table of its own, with a flowtable and the rule that hands flows over to it.

The rule stands behind all filters of the node, so that a flow is handed over by a packet that they let through. From
then on its packets are forwarded where they come in, ahead of all rules: right for as long as every dataplane would
accept them because their flow is established, and no longer. So whenever an interface may no longer take part, the
table goes, and with it the flows in it; they go on on the ordinary way.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from dataplanes.api import (
    Capability,
    Completed,
    DataplaneError,
    Evidence,
    HostError,
    Node,
    Planned,
    Snapshot,
    SnapshotDelta,
)
from dataplanes.flowtable.devices import devices_of, plan_of

__all__ = ["FlowtableAccelerator"]

TABLE: Final = "policylab-flowtable"
"""Of family inet; nothing outside of it is ever touched."""

_HOME: Final = {"family": "inet", "table": TABLE}
_FLOWS: Final = "established"
_CHAIN: Final = "handed-over"
# Behind the filters of all others, which have priority 0.
_BEHIND_FILTERS: Final = 10
# What "-" means to nft is /dev/stdin, which a machine without udev has not.
_STDIN: Final = "/proc/self/fd/0"
_TCP_UDP: Final = ["tcp", "udp"]
_OFFLOADED: Final = re.compile(r"\[(?:HW_)?OFFLOAD\]")

_Command = dict[str, Any]


class FlowtableAccelerator:
    """Forwards established TCP and UDP flows of a node by a flowtable."""

    name: ClassVar[str] = "flowtable"
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.IPV4, Capability.IPV6, Capability.TCP, Capability.UDP}
    )

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wanted: frozenset[str] = frozenset()
        self._devices: frozenset[str] = frozenset()
        self._suspended = False

    @classmethod
    def plan(cls, snapshot: Snapshot) -> Sequence[Planned]:
        """Which interfaces take part."""
        return plan_of(snapshot)

    def start(self) -> None:
        """Make a table and take it away: then the kernel has flowtables, and nothing of an earlier run is left."""
        try:
            self._commit([*_removed(), *_made(frozenset({"lo"}))])
            self.stop()
        except DataplaneError as error:
            raise HostError(
                "this kernel has no flowtables",
                place=f"node {self._node.name}",
                value=str(error),
                next_step="load nf_flow_table_inet and nft_flow_offload, or use a kernel that has them",
            ) from error

    def prepare(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - interfaces are few
        """Let go of the flows if an interface may no longer take part."""
        kept = self._wanted & devices_of(snapshot, self._wanted)
        if kept != self._wanted:
            self._wanted = kept
            self._follow()

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - interfaces are few
        """Have all interfaces take part that may."""
        self._wanted = devices_of(snapshot, self._present())
        self._follow()

    def stop(self) -> None:
        """Take the table away, and with it the flows in it."""
        self._wanted = self._devices = frozenset()
        self._commit(_removed())

    def suspend(self) -> None:
        """Let go of all flows until ``resume``."""
        self._suspended = True
        self._follow()

    def resume(self) -> None:
        """Take flows up again."""
        self._suspended = False
        self._follow()

    def evidence(self) -> Evidence:
        """Packets that handed a flow over, and how many flows are in the flowtable now."""
        ruleset = self._run(("nft", "list", "table", "inet", TABLE)).stdout if self._devices else ""
        counted = re.search(r"counter packets (\d+)", ruleset)
        known = self._node.run(("cat", "/proc/net/nf_conntrack")).stdout
        return Evidence(
            {"flows.handed-over": int(counted[1]) if counted else 0},
            ruleset,
            {"interfaces": " ".join(sorted(self._devices)), "flows": str(len(_OFFLOADED.findall(known)))},
        )

    def _follow(self) -> None:
        """Have the kernel's table be as it is wanted; a table that is made anew holds no flow."""
        devices = frozenset() if self._suspended else self._wanted
        if devices == self._devices:
            return
        self._commit([*_removed(), *(_made(devices) if devices else ())])
        self._devices = devices

    def _present(self) -> list[str]:
        return [link["ifname"] for link in json.loads(self._run(("ip", "-json", "link", "show")).stdout)]

    def _commit(self, commands: Sequence[_Command]) -> None:
        self._run(("nft", "-j", "-f", _STDIN), json.dumps({"nftables": list(commands)}))

    def _run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        try:
            done = self._node.run(argv, stdin=stdin)
        except HostError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise
            package = "nftables" if argv[0] == "nft" else "iproute2"
            raise HostError(
                error.what, place=f"node {self._node.name}", value=argv[0], next_step=f"apt-get install {package}"
            ) from error
        if done.returncode != 0:
            message = done.stderr.strip() or f"exit status {done.returncode}"
            raise DataplaneError(f"{' '.join(argv)} failed: {message}", place=f"node {self._node.name}")
        return done


def _removed() -> list[_Command]:
    """What takes the table away, be it there or not."""
    table = {"table": {"family": "inet", "name": TABLE}}
    return [{"add": table}, {"delete": table}]


def _made(devices: frozenset[str]) -> list[_Command]:
    """The table, for flows that come in by these interfaces."""
    established = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}
    with_ports = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": _TCP_UDP}}}
    handed_over = [established, with_ports, {"flow": {"op": "add", "flowtable": f"@{_FLOWS}"}}, {"counter": None}]
    hooked = {"type": "filter", "hook": "forward", "prio": _BEHIND_FILTERS, "policy": "accept"}
    flows = {"name": _FLOWS, "hook": "ingress", "prio": 0, "dev": sorted(devices)}
    rule = {"chain": _CHAIN, "expr": handed_over, "comment": "forwarded ahead of all rules from now on"}
    return [
        {"add": {"table": {"family": "inet", "name": TABLE}}},
        {"add": {"flowtable": {**_HOME, **flows}}},
        {"add": {"chain": {**_HOME, "name": _CHAIN, **hooked}}},
        {"add": {"rule": {**_HOME, **rule}}},
    ]
