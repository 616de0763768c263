# SPDX-License-Identifier: Apache-2.0
"""What is promised of a plugin that was killed and is started again: there is no moment between."""

from __future__ import annotations

from collections.abc import Iterator

from dataplanes.api import Capability
from lab.conformance.guard import FRIEND, GUARDED, PORT, STRANGER, guard
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.results import Results
from lab.conformance.states import State
from lab.conformance.watching import watches_of
from lab.oracle import Oracle
from lab.policy.resources import Resources
from lab.protocols import TCP
from lab.topology import Family, Flow
from lab.topology.load import load_topology
from lab.traffic.stream import Stream

__all__ = ["restarts_without_a_moment"]


def restarts_without_a_moment(judged: Judged) -> Iterator[str]:
    """All that is not as it should be while the dataplane is killed and started again, and after.

    What accelerates it is left out, for it may go with its process. Only flows are watched that fare as they should
    when nobody is killed; of others other expectations tell. Raises NotHeldError where there are none.
    """
    topology = load_topology("one-node")
    policy = guard(topology)
    in_force = State(policy, topology)
    families: dict[Family, Capability] = {4: Capability.IPV4, 6: Capability.IPV6}
    flows = tuple(
        Flow(source, GUARDED, TCP, PORT, family)
        for source in (FRIEND, STRANGER)
        for family, capability in families.items()
        if capability in judged.capabilities
    )
    with Harness(topology, judged.dataplane) as harness:
        flows = _faring_well(harness, _faring_well(harness, flows, Resources()), policy)
        if not flows:
            raise NotHeldError("no flow of this has the right verdict when nobody is killed")
        harness.lab.flush_conntrack()
        with Stream(harness.lab, watches_of(harness, flows, in_force, in_force)) as stream:
            harness.restart()
            harness.apply(policy)
            passages = stream.stop()
        for passage in passages:
            if passage.wrong:
                what = "cut" if passage.watch.allowed else "let through"
                yield f"{passage.watch.flow} was {what} in {len(passage.wrong)} of {passage.rounds} packets"
        harness.apply(Resources())
        seen = harness.observe(flows)
        yield from (
            f"after all it does not follow: {flow}: {each}"
            for flow, each in zip(flows, seen, strict=True)
            if each.verdict != "allow"
        )


def _faring_well(harness: Harness, flows: tuple[Flow, ...], resources: Resources) -> tuple[Flow, ...]:
    """Those of the flows that get the verdict that they should when the resources are in force."""
    harness.apply(resources)
    verdicts = Oracle(harness.topology, resources).verdicts(flows)
    rows = Results.of(flows, verdicts, [each.verdict for each in harness.observe(flows)]).rows
    return tuple(row.flow for row in rows if row.observed == row.expected)
