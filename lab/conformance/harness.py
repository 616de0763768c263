# SPDX-License-Identifier: Apache-2.0
"""A lab with a dataplane on each of its nodes: apply resources, observe flows, compare with the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dataplanes.api import Dataplane, Evidence
from lab.conformance.results import Results
from lab.fabric.lab import Lab
from lab.oracle import Oracle
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.traffic.prober import Observation, Prober

if TYPE_CHECKING:
    from lab.traffic.capture import Recorder

__all__ = ["Harness"]


class Harness:
    """A context manager that owns a lab, one dataplane instance a node, and a prober.

    It can be asked again and again: ``apply`` replaces the policy in force, ``observe`` sends flows through
    it. Raises HostError when the host cannot hold the lab, DataplaneError when the plugin fails.
    """

    def __init__(self, topology: Topology, dataplane: type[Dataplane]) -> None:
        self.topology = topology
        self.dataplane = dataplane
        self._stack = ExitStack()
        self._planes: dict[str, Dataplane] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lab = stack.enter_context(Lab(self.topology))
            for name, node in self.lab.nodes.items():
                plane = self.dataplane(node)
                stack.callback(plane.stop)
                plane.start()
                self._planes[name] = plane
            self.prober = stack.enter_context(Prober(self.lab))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._planes = {}
        self._stack.__exit__(kind, error, trace)

    def apply(self, resources: Resources) -> None:
        """Compile the resources and put every node's snapshot in force."""
        snapshots = compile_snapshots(self.topology, resources)
        for name, plane in self._planes.items():
            plane.apply(snapshots[name])

    def observe(self, flows: Sequence[Flow], recorder: Recorder | None = None) -> list[Observation]:
        """Send every flow's first packet; one observation for each, in order. A recorder keeps the packets."""
        return self.prober.observe(flows, recorder)

    def verify(self, resources: Resources, flows: Sequence[Flow]) -> Results:
        """Apply, send, and compare with the oracle."""
        self.apply(resources)
        verdicts = Oracle(self.topology, resources).verdicts(flows)
        return Results.of(flows, verdicts, [seen.verdict for seen in self.observe(flows)])

    def evidence(self) -> Mapping[str, Evidence]:
        """What each node's dataplane tells of itself, by node name."""
        return {name: plane.evidence() for name, plane in self._planes.items()}
