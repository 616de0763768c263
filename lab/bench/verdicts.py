# SPDX-License-Identifier: Apache-2.0
"""How many verdicts a second, against the kernel's own limit: the same frames sent, and not looked at.

Three things are measured in turns, in one lab of three namespaces by three workloads with a hundred policies in
force: the engine alone, the limit, and all that a run of the suite does (flows drawn at the borders of the policies'
regions, the oracle asked for each, frames built, sent and seen, answers compared and put into rows). Every round's
verdicts are compared with the oracle's: a quick wrong answer is an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import strerror
from typing import Final

from dataplanes.registry import load_dataplane
from lab.bench.policies import hundred_policies, hundred_resources
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.conformance.regions import Regions
from lab.conformance.results import Results
from lab.errors import DataplaneError, HostError
from lab.fabric.lab import Lab
from lab.oracle.verdict import Verdict
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.topology.load import load_topology
from lab.traffic.mmsg import OutBox
from lab.traffic.observation import Observation
from lab.traffic.prober import Prober, one_cpu
from lab.traffic.taps import Sender, frame_sender
from lab.traffic.volley import BATCH, Batch

__all__ = ["compare", "run"]

_UNIT: Final = "verdicts/s"


def run(rounds: int = 7) -> BenchResult:
    """Measure so many rounds; all rows are in verdicts (or frames) a second.

    Rows: ``verdicts`` (frames ready; sent and observed), ``limit`` (the same frames sent) and ``verdicts.end_to_end``.
    Raises DataplaneError when a verdict is not the oracle's, HostError when the host cannot hold the lab.
    """
    topology = load_topology("three-by-three")
    resources = hundred_resources(topology)
    with _enforcing(topology, resources) as lab:
        course = _Course(lab, resources)
        figures = interleave(
            rounds, {"verdicts": course.verdicts, "limit": course.limit, "verdicts.end_to_end": course.end_to_end}
        )
    details = {"flows": len(course.flows), "allowed": course.allowed(), "policies": len(hundred_policies())}
    return BenchResult(
        benchmark="verdicts",
        host=describe_host(),
        rounds=rounds,
        rows=tuple(Row(what, _UNIT, Spread.of(sample), details) for what, sample in figures.items()),
        ratios={
            "verdicts.of_limit": ratio(figures["verdicts"], figures["limit"]),
            "verdicts.end_to_end": ratio(figures["verdicts.end_to_end"], figures["limit"]),
        },
    )


class _Course:
    """What is measured, each by a call that leaves the lab as it was."""

    def __init__(self, lab: Lab, resources: Resources) -> None:
        self._lab = lab
        self._resources = resources
        regions = Regions.of(lab.topology, resources)
        self.flows = list(regions.flows())
        self._verdicts = regions.oracle.verdicts(self.flows)

    def allowed(self) -> int:
        """How many of the flows the policies let through."""
        return sum(verdict.allowed for verdict in self._verdicts)

    def verdicts(self) -> float:
        """The engine alone, its frames being ready."""
        with Prober(self._lab) as prober:
            volley = prober.prepare(self.flows)
            start = time.perf_counter()
            seen = prober.fire(volley)
            spent = time.perf_counter() - start
        compare(self.flows, self._verdicts, seen)
        return len(self.flows) / spent

    def end_to_end(self) -> float:
        """All that a run of the suite does, from the resources to the rows."""
        with Prober(self._lab) as prober:
            start = time.perf_counter()
            regions = Regions.of(self._lab.topology, self._resources)
            flows = list(regions.flows())
            verdicts = regions.oracle.verdicts(flows)
            seen = prober.observe(flows)
            results = Results.of(flows, verdicts, [each.verdict for each in seen])
            conformant = results.conformant
            spent = time.perf_counter() - start
        if not conformant:
            compare(flows, verdicts, seen)
        return len(flows) / spent

    def limit(self) -> float:
        """The same frames through sockets that receive nothing, with no listener in the lab and nothing flushed."""
        with Prober(self._lab) as prober:
            volley = prober.prepare(self.flows)
        with ExitStack() as stack, one_cpu():
            stack.enter_context(self._lab.mute())
            senders = {name: _sender(stack, self._lab, name) for name in self._lab.ports}
            spent = sum(self._send(epoch, senders) for epoch in volley.epochs)
        return len(volley.flows) / spent

    def _send(self, epoch: Sequence[Batch], senders: Mapping[str, Sender]) -> float:
        """Seconds that sending took."""
        box = OutBox(BATCH)
        self._lab.flush_conntrack()
        start = time.perf_counter()
        for batch in epoch:
            box.load(batch.frames)
            for part in batch.runs:
                for _, errno in senders[part.sender.name].send(box, part.places):
                    raise HostError("a frame was not sent", place=part.sender.name, value=strerror(errno))
        return time.perf_counter() - start


def compare(flows: Sequence[Flow], verdicts: Sequence[Verdict], seen: Sequence[Observation]) -> None:
    """Raise DataplaneError where what was seen is not what the oracle says."""
    for flow, verdict, observation in zip(flows, verdicts, seen, strict=True):
        expected = "allow" if verdict.allowed else "deny"
        if observation.verdict != expected:
            raise DataplaneError(
                "a verdict of the benchmark is not the oracle's",
                place=f"{flow.source} -> {flow.destination}, protocol {flow.protocol}, port {flow.port}",
                value=str(observation),
                allowed=expected,
                next_step="run `policylab conformance`: figures of a wrong dataplane mean nothing",
            )


def _sender(stack: ExitStack, lab: Lab, name: str) -> Sender:
    port = lab.ports[name]
    sender = frame_sender(name, port.host, port.interface)
    stack.enter_context(sender.socket)
    return sender


@contextmanager
def _enforcing(topology: Topology, resources: Resources) -> Iterator[Lab]:
    """A lab in which the dataplane ``iptables`` enforces the resources."""
    snapshots = compile_snapshots(topology, resources)
    with Lab(topology) as lab, ExitStack() as stack:
        for name, node in lab.nodes.items():
            plane = load_dataplane("iptables")(node)
            stack.callback(plane.stop)
            plane.start()
            plane.apply(snapshots[name])
        yield lab
