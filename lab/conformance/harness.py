# SPDX-License-Identifier: Apache-2.0
"""A lab with a dataplane on each of its nodes: apply resources, observe flows, compare with the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from dataplanes.api import Accelerator, Dataplane, Evidence
from lab.conformance.claims import claims
from lab.conformance.evidence import INTERFACES, SIDECAR, Told, growth, unmet
from lab.conformance.plugins import NodePlugins
from lab.conformance.results import Results
from lab.conformance.rollout import Rollout
from lab.errors import LabError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.oracle import Oracle
from lab.policy.forwarding import forwarding_nodes
from lab.policy.node_ports import NodePort, node_ports
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.traffic.ends import NodePortOf
from lab.traffic.forwarding import set_forwarding
from lab.traffic.node_ports import forward_node_ports
from lab.traffic.prober import Observation, Prober
from lab.traffic.together import together
from lab.traffic.volley import Arrival

if TYPE_CHECKING:
    from lab.sidecar.mesh import Mesh
    from lab.sidecar.requests import Requests
    from lab.traffic.capture import Recorder

__all__ = ["Harness"]


class Harness:
    """A context manager that owns a lab, one instance a node of a dataplane and of each accelerator, and a prober.

    It can be asked again and again: ``apply`` replaces the policy in force, ``observe`` sends flows through
    it. Raises HostError when the host cannot hold the lab, DataplaneError when a plugin fails.
    """

    def __init__(
        self, topology: Topology, dataplane: type[Dataplane], accelerators: Sequence[type[Accelerator]] = ()
    ) -> None:
        self.topology = topology
        self.dataplane = dataplane
        self.accelerators = tuple(accelerators)
        self.unproven: tuple[str, ...] = ()
        self._stack = ExitStack()
        self._sidecars: tuple[Mesh, Requests] | None = None
        self._plugins: dict[str, NodePlugins] = {}
        self._rollout = Rollout(topology)
        self._node_ports: tuple[NodePort, ...] = ()
        self._forwarding = frozenset(topology.nodes)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lab = stack.enter_context(Lab(self.topology))
            for name, node in self.lab.nodes.items():
                self._plugins[name] = stack.enter_context(self._plugins_of(node))
            self._sidecars = self._add_sidecars(stack)
            self.prober = stack.enter_context(Prober(self.lab))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._plugins = {}
        self._stack.__exit__(kind, error, trace)

    def _add_sidecars(self, stack: ExitStack) -> tuple[Mesh, Requests] | None:
        """The sidecars of the topology and what is asked through them, or None where it has none."""
        if not any(workload.sidecar for workload in self.topology.workloads.values()):
            return None
        # Neither needed nor imported for most topologies.
        from lab.sidecar.mesh import Mesh
        from lab.sidecar.requests import Requests

        return stack.enter_context(Mesh(self.lab)), Requests(self.lab)

    def _plugins_of(self, node: NamespaceNode) -> NodePlugins:
        """The plugins of a node, in the kernel that the node is in."""
        if node.far is None:
            return NodePlugins(node, self.dataplane, self.accelerators)
        return cast("NodePlugins", node.far.make(NodePlugins, node, self.dataplane, self.accelerators))

    def apply(self, resources: Resources, known: Topology | None = None) -> None:
        """Compile the resources and put every node's snapshot in force.

        ``known``: the topology as the cluster knows it meanwhile, with other labels, or without some workloads.
        """
        self._forward(resources)
        with self._rollout.of(resources, known) as steps:
            # Nodes are machines of their own, and most of an apply is waiting for the kernel: all wait together.
            together(partial(self._plugins[name].apply, *step) for name, step in steps.items())
            if self._sidecars is not None:
                self._sidecars[0].enforce({name: snapshot for name, (snapshot, _) in steps.items()})
        self._serve(resources)

    def restart(self) -> None:
        """Start all plugins anew, as after their process was killed: the old ones are not stopped.

        What was in force stays so until the next ``apply``.
        """
        for name, node in self.lab.nodes.items():
            self._plugins[name].abandon()
            self._plugins[name] = self._stack.enter_context(self._plugins_of(node))
        self._rollout.forget()

    def _forward(self, resources: Resources) -> None:
        """Let those nodes forward that should, before any dataplane is told anything: it is not theirs to change."""
        forwarding = forwarding_nodes(self.topology, resources)
        set_forwarding(self.lab.nodes.values(), self._forwarding, forwarding)
        self._forwarding = forwarding

    @contextmanager
    def unaccelerated(self) -> Iterator[None]:
        """Let the dataplane decide alone, on all nodes: for a fault, a capture, or a case about cutting flows."""
        for plugins in self._plugins.values():
            plugins.suspend()
        try:
            yield
        finally:
            for plugins in self._plugins.values():
                plugins.resume()

    def _serve(self, resources: Resources) -> None:
        """Bring the lab's own node ports in line, and tell the prober where packets come out, and how."""
        ports = node_ports(resources)
        forward_node_ports(self.lab.nodes.values(), self._node_ports, ports)
        self._node_ports = ports
        owners = {address: end.name for end in self.topology.endpoints() for address in end.addresses}
        forwards: dict[NodePortOf, Arrival] = {
            (node, port.family, port.protocol, port.port): (owners[port.backend], port.backend_port)
            for node in self.topology.nodes
            for port in ports
            if port.backend in owners
        }
        translated = bool(ports) or any(pool.nat_outgoing for pool in resources.ip_pools)
        self.prober.translate(forwards, translated=translated)

    def observe(self, flows: Sequence[Flow], recorder: Recorder | None = None) -> list[Observation]:
        """Send every flow's first packet, and make the request of an HTTP flow; one observation for each, in order.

        A recorder keeps the packets that begin them.
        """
        packets = partial(self.prober.observe, recorder=recorder)
        return packets(flows) if self._sidecars is None else self._sidecars[1].observe(flows, packets)

    def sidecars(self) -> Mapping[str, Evidence]:
        """What each sidecar tells of itself, by its workload's name."""
        return {} if self._sidecars is None else self._sidecars[0].evidence()

    def verify(self, resources: Resources, flows: Sequence[Flow]) -> Results:
        """Apply, send, and compare with the oracle; ``unproven`` tells what accelerators claim and have not done."""
        self.apply(resources)
        verdicts = Oracle(self.topology, resources).verdicts(flows)
        before = self._proof()
        seen = self.observe(flows)
        after = self._proof()
        self.unproven = unmet(claims(self.topology, self.accelerators, flows, seen), before, after)
        return replace(Results.of(flows, verdicts, [each.verdict for each in seen]), evidence=growth(before, after))

    def _proof(self) -> Told:
        """What sidecars, the interfaces of their workloads, and accelerators have counted so far."""
        sidecars = {name: _moved(told) for name, told in self.sidecars().items()}
        interfaces = {name: Evidence({"bytes": self.lab.hosts[name].carried()}) for name in sidecars}
        return {
            **{(name, SIDECAR): told for name, told in sidecars.items()},
            **{(name, INTERFACES): told for name, told in interfaces.items()},
            **self.acceleration(),
        }

    def evidence(self) -> Mapping[str, Evidence]:
        """What each node's dataplane tells of itself, by node name; of one that fails at this, how it fails."""
        return {name: _told(plugins.evidence) for name, plugins in self._plugins.items()}

    def acceleration(self) -> Mapping[tuple[str, str], Evidence]:
        """The same of accelerators, by node name and accelerator."""
        return {
            (node, accelerator.name): _told(partial(plugins.acceleration, accelerator.name))
            for node, plugins in self._plugins.items()
            for accelerator in self.accelerators
        }


def _moved(told: Evidence) -> Evidence:
    """Only counters that have counted anything: a sidecar has very many."""
    return Evidence({name: count for name, count in told.counters.items() if count})


def _told(ask: Callable[[], Evidence]) -> Evidence:
    try:
        return ask()
    except LabError as error:
        return Evidence(ruleset=f"{error}\n")
