# SPDX-License-Identifier: Apache-2.0
"""A lab with a dataplane on each of its nodes: apply resources, observe flows, compare with the oracle."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dataplanes.api import Dataplane, Evidence
from lab.conformance.results import Results
from lab.errors import DataplaneError, LabError
from lab.fabric.lab import Lab
from lab.oracle import Oracle
from lab.policy.compile import compile_snapshots
from lab.policy.node_ports import NodePort, node_ports
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.traffic.ends import Arrival
from lab.traffic.node_ports import forward_node_ports
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
        self._node_ports: tuple[NodePort, ...] = ()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lab = stack.enter_context(Lab(self.topology))
            for name, node in self.lab.nodes.items():
                with self._asking(name, "start"):
                    plane = self.dataplane(node)
                stack.callback(self._stop, name, plane)
                with self._asking(name, "start"):
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

        def put(name: str) -> None:
            with self._asking(name, "apply"):
                self._planes[name].apply(snapshots[name])

        # Nodes are machines of their own, and most of an apply is waiting for the kernel: all nodes wait together.
        with ThreadPoolExecutor(max_workers=len(self._planes)) as nodes:
            done = [nodes.submit(put, name) for name in self._planes]
        for each in done:
            each.result()
        self._serve(resources)

    def _serve(self, resources: Resources) -> None:
        """Bring the lab's own node ports in line, and tell the prober where packets come out, and how."""
        ports = node_ports(resources)
        forward_node_ports(self.lab.nodes.values(), self._node_ports, ports)
        self._node_ports = ports
        owners = {address: end.name for end in self.topology.endpoints() for address in end.addresses}
        forwards: dict[Arrival, str] = {
            (node, port.backend.version, port.protocol, port.port): owners[port.backend]
            for node in self.topology.nodes
            for port in ports
            if port.backend in owners
        }
        translated = bool(ports) or any(pool.nat_outgoing for pool in resources.ip_pools)
        self.prober.translate(forwards, translated=translated)

    def observe(self, flows: Sequence[Flow], recorder: Recorder | None = None) -> list[Observation]:
        """Send every flow's first packet; one observation for each, in order. A recorder keeps the packets."""
        return self.prober.observe(flows, recorder)

    def verify(self, resources: Resources, flows: Sequence[Flow]) -> Results:
        """Apply, send, and compare with the oracle."""
        self.apply(resources)
        verdicts = Oracle(self.topology, resources).verdicts(flows)
        return Results.of(flows, verdicts, [seen.verdict for seen in self.observe(flows)])

    def evidence(self) -> Mapping[str, Evidence]:
        """What each node's dataplane tells of itself, by node name; of one that fails at this, how it fails."""
        return {name: self._evidence(name, plane) for name, plane in self._planes.items()}

    def _evidence(self, name: str, plane: Dataplane) -> Evidence:
        try:
            with self._asking(name, "evidence"):
                return plane.evidence()
        except LabError as error:
            return Evidence(ruleset=f"{error}\n")

    def _stop(self, name: str, plane: Dataplane) -> None:
        with self._asking(name, "stop"):
            plane.stop()

    @contextmanager
    def _asking(self, node: str, what: str) -> Iterator[None]:
        """Whatever a stranger's plugin raises, and be it to end the process, is a failure of the dataplane."""
        try:
            yield
        except LabError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise DataplaneError(
                f"{self.dataplane.name} raised {error!r} in {what}()",
                place=f"node {node}",
                next_step=f"mend the plugin, at {last.filename}:{last.lineno}",
            ) from error
