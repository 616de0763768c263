# SPDX-License-Identifier: Apache-2.0
"""The reference model of a lab in which some workloads are not known to the cluster: they are gone, or to come.

Their interfaces are there all the same. What comes from a workload interface that is nobody's is dropped, and so is
what goes there, connections under way included; only its own node reaches what is behind it (Felix: rules/dispatch.go,
"Unknown interface"; rules/static.go, filterOutputChain).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lab.errors import LabError
from lab.oracle.oracle import Oracle
from lab.oracle.settings import felix_settings
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

__all__ = ["PartialOracle"]

_UNKNOWN: Final = Verdict(False, DefaultDecision(None, "unknown-workload"))
_OWN: Final = Verdict(True, DefaultDecision(None, "host-to-own-workload"))


class PartialOracle:
    """Judges flows between the ends of a topology under some resources, of which the cluster knows part.

    ``known`` has the same nodes and externals, and of the workloads those that are there, with labels, ports and
    profiles as they are now.
    """

    def __init__(self, topology: Topology, resources: Resources, known: Topology | None = None) -> None:
        known = known or topology
        self._oracle = Oracle(known, resources)
        self._gone = {name: each.node for name, each in topology.workloads.items() if name not in known.workloads}
        settings = {node: felix_settings(resources.felix_configurations, node) for node in self._gone.values()}
        self._unpoliced = {node for node, each in settings.items() if not each.ipv6_support}

    def unknown(self, flow: Flow) -> Verdict | None:
        """What becomes of any packet of a flow one of whose ends is not known; None when both are.

        Raises LabError for IPv6 where the node of that end has no rules for it.
        """
        if not self._gone or {flow.source, flow.destination}.isdisjoint(self._gone):
            return None
        nodes = {self._gone.get(flow.source), self._gone.get(flow.destination)}
        if flow.family == 6 and not nodes.isdisjoint(self._unpoliced):
            raise LabError(
                "without ipv6Support nothing is known of IPv6 from or to a workload that is gone",
                place=flow.place,
                value=f"{flow.source} -> {flow.destination}",
            )
        return _OWN if self._gone.get(flow.destination) == flow.source else _UNKNOWN

    def verdicts(self, flows: Iterable[Flow]) -> list[Verdict]:
        """The verdicts of many flows, in their order; raises as ``Oracle.verdict`` does."""
        flows = list(flows)
        asked = iter(self._oracle.verdicts(flow for flow in flows if self.unknown(flow) is None))
        return [self.unknown(flow) or next(asked) for flow in flows]

    def verdict_at(self, flow: Flow, node: str) -> Verdict:
        """What one node alone says of a flow's first packet; raises as ``Oracle.verdict`` does."""
        return self.unknown(flow) or self._oracle.verdict_at(flow, node)

    def denies(self, flow: Flow, node: str) -> bool:
        """Whether one node alone keeps a flow's first packet from going on, whatever other nodes do.

        Of a flow with an end that is not known, others than that end's node have no say; raises as ``Oracle.verdict``
        does.
        """
        unknown = self.unknown(flow)
        if unknown is None:
            return not self._oracle.verdict_at(flow, node).allowed
        return not unknown.allowed and node in {self._gone.get(flow.source), self._gone.get(flow.destination)}
