# SPDX-License-Identifier: Apache-2.0
"""What an accelerator must have done while flows were sent, outside of any case: what is claimed has to be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataplanes.api import Accelerator, Capability
from lab.conformance.evidence import ExpectedEvidence
from lab.topology import Flow, Topology
from lab.traffic.observation import Observation

__all__ = ["CARRIED", "claims"]

CARRIED = "redirected.bytes"
"""The counter of whoever accelerates requests: bytes that went from socket to socket."""


def claims(
    topology: Topology,
    accelerators: Iterable[type[Accelerator]],
    flows: Sequence[Flow],
    seen: Sequence[Observation],
) -> tuple[ExpectedEvidence, ...]:
    """Evidence of those that accelerate requests, on each node on which one has reached an application.

    There the sidecar and its application are on one node, whoever has asked.
    """
    names = [each.name for each in accelerators if Capability.L7_HTTP in each.capabilities]
    workloads = topology.workloads
    nodes = {
        workloads[flow.destination].node
        for flow, what in zip(flows, seen, strict=True)
        if flow.http is not None and what.verdict == "allow"
    }
    return tuple(ExpectedEvidence(node, name, CARRIED, "grew") for node in sorted(nodes) for name in names)
