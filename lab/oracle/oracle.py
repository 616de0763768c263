# SPDX-License-Identifier: Apache-2.0
"""The reference model: resources and a flow in, the verdict and what decided it out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from lab.errors import TopologyError
from lab.oracle.conditions import Condition
from lab.oracle.explain import Explanation
from lab.oracle.host_ahead import ahead_of_stage, without_policy
from lab.oracle.host_hooks import Hook, tiers_at
from lab.oracle.host_path import Paths
from lab.oracle.host_stages import Progress, Ruling, Stage
from lab.oracle.packet import Packet, Part, Side, source_port_of
from lab.oracle.policies import JudgedPolicy, Subject
from lab.oracle.profiles import judged_profiles, profiles_verdict
from lab.oracle.question import Question, Questioner
from lab.oracle.requests import drawn_ports
from lab.oracle.settings import felix_settings
from lab.oracle.staged import as_if_enforced
from lab.oracle.stretches import PortRange, Stretches, failsafe_ports, named_ports, special_ports, told_apart
from lab.oracle.table import RuleTable
from lab.oracle.tiers import judged_tiers
from lab.oracle.verdict import Verdict
from lab.oracle.walk import Walker
from lab.oracle.world import Party, World
from lab.policy.resources import Direction, IcmpMatch, Resources
from lab.topology import DEFAULT_SOURCE_PORT, Family, Flow, IcmpHeader, Topology

__all__ = ["Oracle", "Way"]

Way = tuple[str, str, int, Family, IcmpHeader | None]
"""Source, destination, protocol, family and ICMP header: what flows have in common that differ in their ports."""

_SOURCE_PORT_PARTS = frozenset({Part.SOURCE_PORT, Part.SOURCE_SERVICE})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A stage of a way: what was left of the rules that apply there by all that is not a port."""

    stage: Stage
    table: RuleTable
    is_chained: bool
    """Whether any policy applies there."""
    standing: int
    ahead: Verdict | None
    """What is settled before any policy, of tracked packets to a port that means nothing special."""


@dataclass(frozen=True, slots=True)
class _Way:
    """What flows meet that go from one end to another and differ in nothing but their ports, and what was said of them.

    ``verdicts`` are by the stretches of source and destination port.
    """

    question: Question
    steps: tuple[_Asked | Ruling, ...]
    sources: Stretches
    destinations: Stretches
    is_plain: bool
    """Whether the packet meets nothing but workloads' policies, and each of them as it was sent."""
    verdicts: dict[tuple[int | None, int | None], Verdict] = field(default_factory=dict)


class Oracle:
    """Judges flows between the workloads, externals and nodes of a topology under some resources.

    Works from the resources themselves and shares nothing with the compiler but their types and the selector
    language. What is decided once for a class of flows, those of one way whose ports nothing tells apart, is not
    decided again.
    """

    def __init__(self, topology: Topology, resources: Resources) -> None:
        self._topology, self._resources = topology, resources
        self._settings = {node: felix_settings(resources.felix_configurations, node) for node in topology.nodes}
        world = World(topology, resources)
        self._paths = Paths(topology, resources, world, self._settings)
        self._questioner = Questioner(topology, world, self._paths)
        self._tiers = judged_tiers(resources)
        self._profiles = judged_profiles(topology, resources)
        tiers = {hook: tiers_at(self._tiers, hook) for hook in Hook}
        named = frozenset(named_ports(topology, resources))
        self._tables = {(hook, way): RuleTable(tiers[hook], way, named) for hook in Hook for way in Direction}
        self._subjects: dict[Hashable, tuple[Subject, list[JudgedPolicy]]] = {}
        for policy in (policy for tier in self._tiers for policy in tier.policies):
            self._subjects.setdefault(policy.subject, (policy.selects, []))[1].append(policy)
        self._chains: dict[Party, dict[tuple[Hook, Direction], int]] = {}
        # Ahead of connection tracking a failsafe port is told by the source port, too.
        untracked = any(policy.do_not_track for tier in self._tiers for policy in tier.policies)
        parts = {condition.part for condition in (*self._conditions(), *self._profile_conditions())}
        self._source_port_matters = untracked or not _SOURCE_PORT_PARTS.isdisjoint(parts)
        special = [*special_ports(self._settings.values(), self._paths.translation.node_ports)]
        self._special = frozenset(port for port, _ in special)
        self._failsafes = frozenset(failsafe_ports(self._settings.values()))
        self._told_apart_everywhere: Mapping[Side, set[PortRange]] = {
            "source": {*told_apart(self._profile_conditions(), named, "source")},
            "destination": {*special, *told_apart(self._profile_conditions(), named, "destination")},
        }
        self._ways: dict[Hashable, _Way] = {}

    def verdict(self, flow: Flow) -> Verdict:
        """The verdict of a flow's first packet, one way.

        That of an HTTP flow is its request's. Raises TopologyError for a flow that cannot be judged: an end that
        does not exist or has no address in the flow's family, a request of which the port that the kernel draws
        would decide.
        """
        return self.verdicts((flow,))[0]

    def verdicts(self, flows: Iterable[Flow]) -> list[Verdict]:
        """The verdicts of many flows, in their order; raises as :meth:`verdict` does."""
        found: list[Verdict] = []
        before: Hashable = None
        for flow in flows:
            key = (flow.source, flow.destination, flow.protocol, flow.family, flow.icmp, flow.http)
            if key != before:  # most flows are of the way of the one before
                before, way = key, self._ways.get(key) or self._ways.setdefault(key, self._way(flow))
                sources, destinations, known = way.sources, way.destinations, way.verdicts
            ports = (sources[flow.source_port], destinations[flow.port])
            verdict = known.get(ports)
            if verdict is None:
                verdict = known[ports] = self._judge(flow, way)
            found.append(verdict)
        return found

    def stretches(self, way: Way) -> tuple[Stretches, Stretches]:
        """Which source and which destination ports nothing tells apart, on a way without a request."""
        known = self._known(way)
        return known.sources, known.destinations

    def allows(self, way: Way, source_port: int | None, port: int | None) -> bool:
        """Whether a flow's verdict is to allow; for very many, of which only that is asked."""
        known = self._known(way)
        ports = (known.sources[source_port], known.destinations[port])
        verdict = known.verdicts.get(ports)
        if verdict is None:
            source, destination, protocol, family, icmp = way
            flow = Flow(source, destination, protocol, port, family, source_port, icmp)
            verdict = known.verdicts[ports] = self._judge(flow, known)
        return verdict.allowed

    def _known(self, way: Way) -> _Way:
        key = (*way, None)
        known = self._ways.get(key)
        if known is None:
            source, destination, protocol, family, icmp = way
            known = self._ways[key] = self._way(Flow(source, destination, protocol, None, family, icmp=icmp))
        return known

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

    def _conditions(self) -> Iterator[Condition]:
        """All conditions of all rules of policies."""
        policies = (policy for tier in self._tiers for policy in tier.policies)
        return (
            each for policy in policies for rules in policy.rules.values() for rule in rules for each in rule.conditions
        )

    def _profile_conditions(self) -> Iterator[Condition]:
        """The same of profiles."""
        profiles = self._profiles.values()
        return (
            each
            for profile in profiles
            for rules in profile.rules.values()
            for rule in rules
            for each in rule.conditions
        )

    def named_protocols(self) -> frozenset[int]:
        """The protocols that rules name."""
        conditions = (*self._conditions(), *self._profile_conditions())
        return frozenset(number for each in conditions if (number := each.protocol) is not None)

    def named_icmp(self) -> frozenset[IcmpMatch]:
        """The ICMP types and codes that rules name."""
        conditions = (*self._conditions(), *self._profile_conditions())
        return frozenset(match for each in conditions if (match := each.icmp) is not None)

    def _way(self, flow: Flow) -> _Way:
        question = self._questioner.question(flow)
        steps = tuple(step if isinstance(step, Ruling) else self._asked(step) for step in question.steps)
        stages = [step for step in steps if isinstance(step, _Asked)]
        sources, destinations = (
            everywhere.union(*(each.table.ranges(each.standing, side) for each in stages))
            for side, everywhere in self._told_apart_everywhere.items()
        )
        if any(not each.stage.party.is_pod for each in stages):
            destinations |= self._failsafes
        if any(each.stage.hook is Hook.UNTRACKED for each in stages):
            sources |= self._failsafes
        plain = all(each.stage.party.is_pod and each.stage.packet is question.packet for each in stages)
        return _Way(
            question,
            steps,
            Stretches(sources, DEFAULT_SOURCE_PORT),
            Stretches(destinations),
            is_plain=plain and len(stages) == len(steps),
        )

    def _asked(self, stage: Stage) -> _Asked:
        at = (stage.hook, stage.direction)
        table, chain = self._tables[at], self._chain(stage.party)[at]
        plain = replace(stage, packet=stage.packet.between(0, 0)) if stage.packet.port is not None else stage
        ahead = ahead_of_stage(self._settings[stage.node], plain, tracked=True)
        return _Asked(stage, table, chain != 0, table.apart_from_ports(chain, stage.packet), ahead)

    def _judge(self, flow: Flow, way: _Way) -> Verdict:
        if flow.http is None or not self._source_port_matters:
            return self._ask(flow, way)
        verdicts = [self._ask(replace(flow, source_port=port), way) for port in drawn_ports(self._resources)]
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
        return self._ask(flow, self._way(flow), node)

    def _ask(self, flow: Flow, way: _Way, node: str | None = None) -> Verdict:
        """What a way says to a flow, or one node of it."""
        own = self._paths.goes_its_own_way(flow.protocol, flow.port, way.question.packet.port)
        if own:  # nor is the packet between the same ports all the way
            way = self._way(flow)
        ports = (source_port_of(flow), flow.port)
        if way.is_plain and node is None and flow.port not in self._special:
            return self._ask_workloads(way, way.question.packet.between(*ports))
        progress = Progress()
        for step in way.steps:
            if node is not None and (isinstance(step, Ruling) or step.stage.node != node):
                continue
            if isinstance(step, Ruling):
                if not progress.passes_by(step):
                    progress.hear(step, step.verdict)
            elif not progress.passes_by(step.stage):
                stage = step.stage if own else step.stage.between(*ports)
                progress.hear(stage, self._say(step, stage, tracked=progress.is_tracked(stage)))
            if progress.is_dead:
                break
        return progress.verdict or way.question.otherwise

    def _ask_workloads(self, way: _Way, packet: Packet) -> Verdict:
        """The same for what most packets meet, step by step without a look at what cannot be there."""
        verdict = way.question.otherwise
        for asked in way.steps:
            if isinstance(asked, _Asked):
                stage = asked.stage
                verdict = (
                    asked.ahead
                    or asked.table.decide_by_ports(asked.standing, packet)
                    or profiles_verdict(self._profiles, stage.party, stage.direction, packet)
                )
            if not verdict.allowed:
                break
        return verdict

    def _say(self, asked: _Asked, stage: Stage, *, tracked: bool) -> Verdict | None:
        """What is said at a stage of a packet, None where nobody has anything to say of it."""
        normal = stage.hook is Hook.NORMAL
        if not asked.is_chained and not normal:
            return None
        ahead = ahead_of_stage(self._settings[stage.node], stage, tracked=tracked)
        if ahead is not None:
            return ahead
        verdict = asked.table.decide_by_ports(asked.standing, stage.packet)
        if verdict is not None or not normal:
            return verdict
        lonely = None if asked.is_chained else without_policy(stage)
        return lonely or profiles_verdict(self._profiles, stage.party, stage.direction, stage.packet)

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
