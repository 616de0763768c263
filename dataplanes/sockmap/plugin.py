# SPDX-License-Identifier: Apache-2.0
"""The accelerator's contract: who is accelerated, when it is switched off, what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from dataplanes.api import (
    BpfSource,
    Capability,
    DataplaneError,
    EndpointPolicy,
    Evidence,
    Node,
    Planned,
    Snapshot,
    SnapshotDelta,
)
from dataplanes.sockmap.known import KNOWN_BROKEN
from dataplanes.sockmap.layout import LAYOUT, MEMBERS, SOURCE, macros
from dataplanes.sockmap.programs import Programs

__all__ = ["SockmapAccelerator"]

_BECAUSE = "it has a sidecar: TCP with it, and with other such workloads and their sidecars on this node"
_NOT_BECAUSE = "it has no sidecar, which is how a workload asks for acceleration"


class SockmapAccelerator:
    """Hands what workloads with a sidecar, and their sidecars, write over TCP to the socket at the other end.

    Both ends must be on this node, in the namespaces of such workloads; all other traffic is left alone. Connections
    are made by TCP and through the dataplane, so one that policy denies never is; what is established goes on whatever
    policy says later, as it does without. Untracked policy stands at host endpoints, whose sockets never join.
    """

    name: ClassVar[str] = "sockmap"
    api_version: ClassVar[int] = 1
    # Its kernel's own work on sockmap counts: 5.10 loses what is redirected to a peer that has closed. Workloads are
    # told apart by SO_NETNS_COOKIE (5.14). Between these and 6.1 nothing was tried.
    min_kernel: ClassVar[str] = "6.1"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.IPV4, Capability.IPV6, Capability.TCP, Capability.L7_HTTP}
    )
    program: ClassVar[BpfSource] = SOURCE
    """The C file; macros that tell it where this kernel has what come to it."""
    sockets: ClassVar[int] = 65536
    """How many sockets of a node can be accelerated at one time; more go by TCP."""
    known_broken: ClassVar[Mapping[str, str]] = KNOWN_BROKEN
    """What a program on an accelerated connection sees otherwise than on plain TCP, by name."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loaded: Programs | None = None
        self._in_force: frozenset[str] = frozenset()
        self._cookies: dict[str, int] = {}

    @classmethod
    def plan(cls, snapshot: Snapshot) -> Sequence[Planned]:
        """Each workload of the snapshot, and why its connections are accelerated or not."""
        return [
            Planned(f"workload {endpoint.workload}", because == _BECAUSE, because)
            for endpoint in snapshot.endpoints.values()
            for because in (_reason(snapshot, endpoint),)
        ]

    def start(self) -> None:
        """Load the programs; raises HostError on a host without cgroup v2, BTF, bcc or numbered namespaces."""
        self._cookies = dict(self._node.workload_cookies())
        known = macros(self._node.member_offsets(tuple(MEMBERS.values())))
        source = BpfSource(self.program.path, (*self.program.macros, *known))
        self._loaded = Programs(self._node, source, self.sockets)
        self.resume()

    def prepare(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Let no new socket of a workload join that is not accelerated any more."""
        del delta
        self._admit(self._in_force & _wanted(snapshot))

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Let new sockets of all workloads join that are to be accelerated."""
        del delta
        self._admit(_wanted(snapshot))

    def stop(self) -> None:
        """Redirect nothing more; sockets that are in the map go on by TCP, and keep it until they close."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def suspend(self) -> None:
        """Let everything go by TCP; what is queued already is still read from there."""
        self._programs.switch(LAYOUT["SWITCH_OFF"])

    def join_only(self) -> None:
        """Let sockets join and redirect nothing, until ``resume``: what there is to see of the map alone."""
        self._programs.switch(LAYOUT["SWITCH_JOIN"])

    def resume(self) -> None:
        """Let sockets join and redirect, also on connections that went by TCP meanwhile."""
        self._programs.switch(LAYOUT["SWITCH_REDIRECT"])

    def evidence(self) -> Evidence:
        """Bytes and messages that were redirected or left to TCP and why, and whether order was ever violated."""
        suspended = self._programs.setting != LAYOUT["SWITCH_REDIRECT"]
        facts = {
            "workloads": ", ".join(sorted(self._in_force)) or "none",
            "switch": "suspended" if suspended else "on",
        }
        return Evidence(self._programs.counters(), facts=facts)

    def known(self) -> int:
        """How many sockets are in the map now."""
        return self._programs.known()

    @property
    def _programs(self) -> Programs:
        if self._loaded is None:
            raise DataplaneError("sockmap was not started, or has been stopped", place=f"node {self._node.name}")
        return self._loaded

    def _admit(self, workloads: frozenset[str]) -> None:
        self._programs.admit(self._cookies[name] for name in workloads)
        self._in_force = workloads


def _reason(snapshot: Snapshot, endpoint: EndpointPolicy) -> str:
    """Why a workload is accelerated, or is not."""
    if not endpoint.sidecar:
        return _NOT_BECAUSE
    host = snapshot.host_endpoints.get(endpoint.interface)
    if host is not None and host.untracked_tiers:
        return f"untracked policy of the host endpoint {host.name} holds for its interface {endpoint.interface}"
    return _BECAUSE


def _wanted(snapshot: Snapshot) -> frozenset[str]:
    """The workloads to accelerate."""
    return frozenset(each.workload for each in snapshot.endpoints.values() if _reason(snapshot, each) == _BECAUSE)
