# SPDX-License-Identifier: Apache-2.0
"""The flows on which verdicts are compared when the user names none: of workloads that are alike, two are enough."""

from __future__ import annotations

from dataclasses import replace

from lab.topology import Flow, Topology, Workload, default_flows

__all__ = ["flow_space"]

_ALIKE = 2
"""Workloads kept of each kind: what one may send to the other must be among the flows."""
_MOST_FLOWS = 30_000


def flow_space(topology: Topology) -> tuple[Flow, ...]:
    """The default flows of a topology, thinned out evenly where there are very many."""
    if len(topology.workloads) ** 2 > _MOST_FLOWS:
        topology = replace(topology, workloads=_representatives(topology))
    flows = default_flows(topology)
    stride = -(-len(flows) // _MOST_FLOWS) or 1
    return flows[::stride]


def _representatives(topology: Topology) -> dict[str, Workload]:
    alike: dict[object, int] = {}
    kept: dict[str, Workload] = {}
    for name, workload in topology.workloads.items():
        labels = frozenset(workload.labels.items())
        kind = (workload.namespace, labels, workload.service_account, workload.ports, workload.profiles)
        alike[kind] = alike.get(kind, 0) + 1
        if alike[kind] <= _ALIKE:
            kept[name] = workload
    stride = max(1, int(len(kept) / _MOST_FLOWS**0.5))
    return dict(list(kept.items())[::stride])
