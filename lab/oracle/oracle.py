# SPDX-License-Identifier: Apache-2.0
"""The reference model: resources and a flow in, the verdict and what decided it out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain

from lab.errors import TopologyError
from lab.oracle.explain import Explanation
from lab.oracle.host_ahead import ahead_of_stage, without_policy
from lab.oracle.host_hooks import Hook, tiers_at
from lab.oracle.host_path import Paths
from lab.oracle.host_stages import Progress, Ruling, Stage, Step
from lab.oracle.packet import Part
from lab.oracle.policies import JudgedPolicy, Subject
from lab.oracle.profiles import judged_profiles, profiles_verdict
from lab.oracle.question import Questioner
from lab.oracle.requests import drawn_ports
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
    """Judges flows between the workloads, externals and nodes of a topology under some resources.

    Works from the resources themselves and shares nothing with the compiler but their types and the selector
    language. Verdicts are remembered for each class of flow, so asking again is cheap.
    """

    def __init__(self, topology: Topology, resources: Resources) -> None:
        self._topology, self._resources = topology, resources
        self._settings = {node: felix_settings(resources.felix_configurations, node) for node in topology.nodes}
        world = World(topology, resources)
        self._questioner = Questioner(topology, world, Paths(topology, resources, world, self._settings))
        self._tiers = judged_tiers(resources)
        self._profiles = judged_profiles(topology, resources)
        tiers = {hook: tiers_at(self._tiers, hook) for hook in Hook}
        self._tables = {(hook, way): RuleTable(tiers[hook], way) for hook in Hook for way in Direction}
        self._subjects: dict[Hashable, tuple[Subject, list[JudgedPolicy]]] = {}
        for policy in (policy for tier in self._tiers for policy in tier.policies):
            self._subjects.setdefault(policy.subject, (policy.selects, []))[1].append(policy)
        self._chains: dict[Party, dict[tuple[Hook, Direction], int]] = {}
        # Ahead of connection tracking a failsafe port is told by the source port, too.
        untracked = any(policy.do_not_track for tier in self._tiers for policy in tier.policies)
        self._source_port_matters = untracked or not _SOURCE_PORT_PARTS.isdisjoint(self._parts())
        self._known: dict[Hashable, Verdict] = {}

    def verdict(self, flow: Flow) -> Verdict:
        """The verdict of a flow's first packet, one way.

        That of an HTTP flow is its request's. Raises TopologyError for a flow that cannot be judged: an end that
        does not exist or has no address in the flow's family, a request of which the port that the kernel draws
        would decide.
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
        if flow.http is None or not self._source_port_matters:
            return self._ask(flow)
        verdicts = [self._ask(replace(flow, source_port=port)) for port in drawn_ports(self._resources)]
        if len({verdict.allowed for verdict in verdicts}) > 1:
            raise TopologyError(
                "the verdict of this request depends on its source port, which the kernel draws",
                place=flow.place,
                value=f"{flow.http.method} {flow.http.path}",
                allowed="rules that treat all ports from 32768 to 60999 alike",
                next_step="leave 'http' out to judge a connection with a given source port",
            )
        return verdicts[0]

    def verdict_at(self, flow: Flow, node: str) -> Verdict:
        """What one node alone says of a flow's first packet; raises as :meth:`verdict` does."""
        return self._ask(flow, node)

    def _ask(self, flow: Flow, node: str | None = None) -> Verdict:
        question = self._questioner.question(flow)
        progress = Progress()
        for step in question.steps:
            if node is not None and (not isinstance(step, Stage) or step.node != node):
                continue
            if not progress.passes_by(step):
                progress.hear(step, self._say(step, tracked=progress.is_tracked(step)))
                if progress.is_dead:
                    break
        return progress.verdict or question.otherwise

    def _say(self, step: Step, *, tracked: bool) -> Verdict | None:
        """What is said at one step, None where nobody has anything to say of the packet."""
        if isinstance(step, Ruling):
            return step.verdict
        way = (step.hook, step.direction)
        chain = self._chain(step.party)[way]
        normal = step.hook is Hook.NORMAL
        if not chain and not normal:
            return None
        ahead = ahead_of_stage(self._settings[step.node], step, tracked=tracked)
        if ahead is not None:
            return ahead
        verdict = self._tables[way].decide(chain, step.packet)
        if verdict is not None or not normal:
            return verdict
        lonely = None if chain else without_policy(step)
        return lonely or profiles_verdict(self._profiles, step.party, step.direction, step.packet)

    def _chain(self, party: Party) -> dict[tuple[Hook, Direction], int]:
        """Which rules apply to an endpoint at each hook: every distinct wording of a subject is asked once."""
        known = self._chains.get(party)
        if known is None:
            policies = [policy for selects, group in self._subjects.values() if selects(party) for policy in group]
            known = {
                (hook, way): table.chain(policies)
                for (hook, way), table in self._tables.items()
                if hook is Hook.NORMAL or not party.is_pod
            }
            self._chains[party] = known
        return known
