# SPDX-License-Identifier: Apache-2.0
"""Which nodes pass on what is not for them: all, but for those that a FelixConfiguration says do not."""

from __future__ import annotations

from lab.policy.resources import Resources
from lab.topology import Topology

__all__ = ["forwarding_nodes"]


def forwarding_nodes(topology: Topology, resources: Resources) -> frozenset[str]:
    """The nodes that forward, by name; what a node is told itself goes before what all are told."""
    said = {each.node: each.ip_forwarding for each in resources.felix_configurations if each.ip_forwarding is not None}
    return frozenset(name for name in topology.nodes if said.get(name, said.get(None, True)))
