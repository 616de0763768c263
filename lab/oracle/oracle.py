# SPDX-License-Identifier: Apache-2.0
"""The reference model: resources and a flow in, the verdict and what decided it out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from itertools import chain

from lab.oracle.ahead import ahead_of_policy
from lab.oracle.explain import Explanation
from lab.oracle.packet import Packet, Part
from lab.oracle.policies import JudgedPolicy, Subject
from lab.oracle.profiles import judged_profiles, profiles_verdict
from lab.oracle.question import Questioner, path_verdict, settled_verdict
from lab.oracle.settings import felix_settings
from lab.oracle.staged import as_if_enforced
from lab.oracle.table import RuleTable
from lab.oracle.tiers import judged_tiers
from lab.oracle.verdict import Verdict
from lab.oracle.walk import Walker
from lab.oracle.world import Party, World
from lab.policy.resources import Direction, Resources
from lab.topology import Flow, Topology

__all__ = ["Oracle"]

_SOURCE_PORT_PARTS = frozenset({Part.SOURCE_PORT, Part.SOURCE_SERVICE})


class Oracle:
    """Judges flows between the workloads and externals of a topology under some resources.

    Works from the resources themselves and shares nothing with the compiler but their types and the selector
    language. Verdicts are remembered for each class of flow, so asking again is cheap.
    """

    def __init__(self, topology: Topology, resources: Resources) -> None:
        self._topology, self._resources = topology, resources
        self._settings = {node: felix_settings(resources.felix_configurations, node) for node in topology.nodes}
        self._questioner = Questioner(topology, World(topology, resources))
        self._tiers = judged_tiers(resources)
        self._profiles = judged_profiles(topology, resources)
        self._tables = {direction: RuleTable(self._tiers, direction) for direction in Direction}
        self._subjects: dict[Hashable, tuple[Subject, list[JudgedPolicy]]] = {}
        for policy in (policy for tier in self._tiers for policy in tier.policies):
            self._subjects.setdefault(policy.subject, (policy.selects, []))[1].append(policy)
        self._chains: dict[Party, dict[Direction, int]] = {}
        self._source_port_matters = not _SOURCE_PORT_PARTS.isdisjoint(self._parts())
        self._known: dict[Hashable, Verdict] = {}

    def verdict(self, flow: Flow) -> Verdict:
        """The verdict of a flow's first packet, one way.

        Raises TopologyError for a flow that cannot be judged: an end that does not exist or is a node, an end
        without an address in the flow's family, an HTTP request.
        """
        return self.verdicts((flow,))[0]

    def verdicts(self, flows: Iterable[Flow]) -> list[Verdict]:
        """The verdicts of many flows, in their order; raises as :meth:`verdict` does."""
        known, source_port_matters = self._known, self._source_port_matters
        found = []
        for flow in flows:
            source_port = flow.source_port if source_port_matters else None
            key = (
                flow.source,
                flow.destination,
                flow.protocol,
                flow.port,
                flow.family,
                source_port,
                flow.icmp,
                flow.http,
            )
            verdict = known.get(key)
            if verdict is None:
                verdict = known[key] = self._judge(flow)
            found.append(verdict)
        return found

    def staged_verdict(self, flow: Flow) -> Verdict:
        """What the verdict would be if all staged policies were enforced; raises as :meth:`verdict` does."""
        return self.staged_verdicts((flow,))[0]

    def staged_verdicts(self, flows: Iterable[Flow]) -> list[Verdict]:
        """What the verdicts of many flows would be if all staged policies were enforced, in the flows' order."""
        return self._as_if_enforced.verdicts(flows)

    @cached_property
    def _as_if_enforced(self) -> Oracle:
        return Oracle(self._topology, as_if_enforced(self._resources))

    def explain(self, flow: Flow) -> Explanation:
        """How the verdict of a flow comes about, rule by rule; raises as :meth:`verdict` does."""
        return self._walker.explain(flow, self._questioner.question(flow))

    @cached_property
    def _walker(self) -> Walker:
        return Walker(self._resources, self._tiers, self._profiles, self._settings)

    def _parts(self) -> Iterator[Part]:
        """The parts of a packet at which any rule looks."""
        policies = (policy.rules for tier in self._tiers for policy in tier.policies)
        profiles = (profile.rules for profile in self._profiles.values())
        groups = (group for rules in chain(policies, profiles) for group in rules.values())
        return (condition.part for group in groups for rule in group for condition in rule.conditions)

    def _judge(self, flow: Flow) -> Verdict:
        question = self._questioner.question(flow)
        settled = settled_verdict(question)
        if settled is not None:
            return settled
        return path_verdict([self._ask(party, direction, question.packet) for direction, party in question.asked])

    def _ask(self, party: Party, direction: Direction, packet: Packet) -> Verdict:
        """What one endpoint's policy says in one direction, if the packet gets to be asked about."""
        if party.node is not None:
            dropped = ahead_of_policy(self._settings[party.node], direction, packet)
            if dropped is not None:
                return dropped
        chain = self._chain(party)[direction]
        verdict = self._tables[direction].decide(chain, packet)
        return verdict or profiles_verdict(self._profiles, party, direction, packet)

    def _chain(self, party: Party) -> dict[Direction, int]:
        """Which rules apply to an endpoint: every distinct wording of a subject is asked once."""
        known = self._chains.get(party)
        if known is None:
            policies = [policy for selects, group in self._subjects.values() if selects(party) for policy in group]
            known = {direction: table.chain(policies) for direction, table in self._tables.items()}
            self._chains[party] = known
        return known
