# SPDX-License-Identifier: Apache-2.0
"""Which interfaces may forward established flows by themselves, and why others may not."""

from __future__ import annotations

from collections.abc import Iterable

from dataplanes.api import Planned, Snapshot

__all__ = ["devices_of", "plan_of"]

_WORKLOAD_PREFIX = "cali"
_LOOPBACK = "lo"


def plan_of(snapshot: Snapshot) -> tuple[Planned, ...]:
    """What a snapshot says of interfaces; those that it does not name are taken up."""
    judged = _untracked(snapshot)
    workloads = (
        Planned(
            f"{endpoint.workload} on {interface}",
            accelerated=True,
            because="every dataplane accepts established flows ahead of policy",
        )
        for interface, endpoint in sorted(snapshot.endpoints.items())
    )
    hosts = (
        Planned(
            f"{snapshot.host_endpoints[interface].name} on {interface}",
            accelerated=interface not in judged,
            because="doNotTrack policies judge every packet that comes in by it"
            if interface in judged
            else "no policy judges established flows that pass through it",
        )
        for interface in sorted(snapshot.host_endpoints.keys() - {"*"})
    )
    return (*workloads, *hosts)


def devices_of(snapshot: Snapshot, present: Iterable[str]) -> frozenset[str]:
    """Of the interfaces that are there, those whose flows may be forwarded ahead of all rules.

    A workload's interface that the snapshot does not know is cut off by the dataplane, also in the middle of flows.
    """
    judged = _untracked(snapshot)
    return frozenset(
        interface
        for interface in present
        if interface != _LOOPBACK
        and interface not in judged
        and (interface in snapshot.endpoints or not interface.startswith(_WORKLOAD_PREFIX))
    )


def _untracked(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(name for name, host in snapshot.host_endpoints.items() if host.untracked_tiers)
