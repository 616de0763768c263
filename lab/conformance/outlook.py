# SPDX-License-Identifier: Apache-2.0
"""What plugins would make of a policy, told without a kernel: what is accelerated, and what is not declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dataplanes.api import Accelerator, Dataplane, Planned
from lab.conformance.needs import needed_by_document, needed_by_flow
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.topology import Flow, Topology, Workload
from lab.topology.flows_file import flow_to_dict

__all__ = ["Outlook", "lacking", "outlooks"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an accelerator would do on a node with one part of the policy."""

    accelerator: str
    node: str
    planned: Planned

    def to_dict(self) -> dict[str, object]:
        """As JSON holds it."""
        return {
            "accelerator": self.accelerator,
            "node": self.node,
            "what": self.planned.what,
            "accelerated": self.planned.accelerated,
            "because": self.planned.because,
        }

    def __str__(self) -> str:
        word = "accelerated" if self.planned.accelerated else "not accelerated"
        return f"{self.accelerator} on {self.node}: {word}: {self.planned.what}, because {self.planned.because}"


def outlooks(
    topology: Topology, resources: Resources, flow: Flow, accelerators: Iterable[type[Accelerator]]
) -> Sequence[Outlook]:
    """What each accelerator would do on the nodes that a flow begins, ends or passes at."""
    snapshots = compile_snapshots(topology, resources)
    nodes = dict.fromkeys(_node_of(name, topology) for name in (flow.source, flow.destination))
    return [
        Outlook(each.name, node, planned)
        for each in accelerators
        for node in nodes
        if node is not None
        for planned in each.plan(snapshots[node])
    ]


def lacking(dataplane: type[Dataplane], documents: Iterable[Mapping[str, object]], flow: Flow) -> Sequence[str]:
    """What a dataplane would need for the policy and the flow and does not declare."""
    entry = {**flow_to_dict(flow), "family": f"ipv{flow.family}"}
    needed = needed_by_flow(entry).union(*map(needed_by_document, documents))
    return sorted(each.value for each in needed - dataplane.capabilities)


def _node_of(name: str, topology: Topology) -> str | None:
    if name in topology.nodes:
        return name
    end = topology.end(name)
    return end.node if isinstance(end, Workload) else None
