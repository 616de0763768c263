# SPDX-License-Identifier: Apache-2.0
"""Whole scenarios, in a drawn topology or a given one."""

from __future__ import annotations

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.flows import flows
from lab.conformance.generate.picks import pick
from lab.conformance.generate.policies import resources
from lab.conformance.generate.topologies import topologies, topology_document
from lab.conformance.scenario import Entry, Scenario
from lab.errors import TopologyError
from lab.topology import Topology

__all__ = ["scenarios"]


# Sidecars stand in front of workloads. What is about nodes, or sends elsewhere what comes, is tested without them.
_BESIDE_SIDECARS = frozenset(
    each
    for each in Capability
    if each.value.startswith("host.") or each in {Capability.SERVICES, Capability.TUNNELS, Capability.NAT_OUTGOING}
)


def scenarios(
    topology: Topology | None = None,
    capabilities: frozenset[Capability] = frozenset(Capability),
    *,
    sidecars: bool = False,
) -> st.SearchStrategy[Scenario]:
    """Scenarios in ``topology``, or each in one of its own; some come after another policy was in force.

    What concerns nodes, services, admin policies and tunnels is drawn for a dataplane that declares it. With
    ``sidecars`` there are HTTP rules and requests in place of nodes, services and tunnels.

    Everything drawn loads: a scenario that does not is a fault of this package. Raises TopologyError for a
    topology in which there is nothing to ask.
    """
    if sidecars:
        capabilities -= _BESIDE_SIDECARS
    if topology is None:
        drawn = topologies(tunnels=Capability.TUNNELS in capabilities, sidecars=sidecars)
        return drawn.flatmap(lambda document: _scenario(Facts(document, capabilities, sidecars)))
    facts = Facts(topology_document(topology), capabilities, sidecars)
    if not facts.pairs:
        raise TopologyError(
            "policy cannot be generated for it: no two ends can talk",
            place=topology.file,
            allowed="a workload, and another workload or external with an address in the same family",
        )
    return _scenario(facts)


@st.composite
def _scenario(draw: st.DrawFn, facts: Facts) -> Scenario:
    documents = resources(draw, facts)
    before: tuple[tuple[Entry, ...], ...] = ()
    if pick(draw, (False, False, True)):
        before = (resources(draw, facts),)
    earlier = [document for step in before for document in step]
    # What an earlier policy opened or closed must not be so any more, so its borders are asked about as well.
    return Scenario(facts.document, documents, flows(draw, facts, [*documents, *earlier]), before)
