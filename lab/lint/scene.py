# SPDX-License-Identifier: Apache-2.0
"""What all checks look at: who is in the topology, whom each policy selects, and in which order rules are asked."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network

from lab.lint.finding import About
from lab.lint.flowspace import flow_space
from lab.oracle import Oracle, Verdict
from lab.oracle.host_hooks import Hook, tiers_at
from lab.oracle.policies import JudgedPolicy, judged_policy
from lab.oracle.table import RuleTable
from lab.oracle.tiers import judged_tiers
from lab.oracle.world import Party, World
from lab.policy.resources import (
    AdminRule,
    Direction,
    KubernetesRule,
    Policy,
    Profile,
    Resources,
    Rule,
)
from lab.topology import Address, Flow, Net, Topology

__all__ = ["AnyRule", "Scene", "Way", "Written", "about", "identity"]

AnyRule = Rule | KubernetesRule | AdminRule
Way = tuple[Hook, Direction]


@dataclass(frozen=True, slots=True)
class Written:
    """A rule where it stands: its policy or profile, its direction, and which rule of that direction it is."""

    owner: Policy | Profile
    direction: Direction
    index: int
    rule: AnyRule

    @property
    def about(self) -> About:
        """The rule as findings name it."""
        told = about(self.owner)
        return About(told.kind, told.namespace, told.name, self.direction, self.index)


def about(owner: Policy | Profile) -> About:
    """A policy or profile as findings name it."""
    if isinstance(owner, Profile):
        return About("Profile", None, owner.name)
    return About(owner.kind, owner.namespace, owner.name)


def identity(policy: Policy | JudgedPolicy) -> tuple[str, str | None, str]:
    """What a policy and what the oracle makes of it have in common, and no other policy has."""
    return policy.kind, policy.namespace, policy.name


class Scene:
    """A topology with the resources in it; without ``flows``, the default ones are looked at where any are."""

    def __init__(self, topology: Topology, resources: Resources, flows: Sequence[Flow] | None = None) -> None:
        self.topology, self.resources = topology, resources
        self._flows = flows
        self.world = World(topology, resources)
        self.ends = (*self.world.pods.values(), *self.world.hosts.values())
        """Whoever a policy can select."""
        self.tiers = judged_tiers(resources)
        enforced = {identity(policy): policy for tier in self.tiers for policy in tier.policies}
        self.judged = {
            identity(policy): enforced.get(identity(policy)) or judged_policy(policy) for policy in resources.policies
        }
        self.policies = {identity(policy): policy for policy in resources.policies}
        self._selected: dict[Hashable, tuple[Party, ...]] = {}

    @cached_property
    def parties(self) -> tuple[tuple[Party, tuple[Net, ...]], ...]:
        """Whoever a rule can match, with the networks in which it is: ends and network sets."""
        pods = [(self.world.pods[each.name], _nets(each.addresses)) for each in self.topology.workloads.values()]
        hosts = [(self.world.hosts[each.name], _nets(each.expected_ips)) for each in self.resources.host_endpoints]
        return (*pods, *hosts, *((party, found.nets) for found, party in self.world.sets))

    def selected(self, policy: Policy) -> tuple[Party, ...]:
        """Whom a policy selects, or would if it were not only staged; of no workload are some kinds asked."""
        judged = self.judged[identity(policy)]
        of_hosts = judged.do_not_track or judged.pre_dnat
        known = self._selected.get((judged.subject, of_hosts))
        if known is None:
            ends = self.world.hosts.values() if of_hosts else self.ends
            known = self._selected[judged.subject, of_hosts] = tuple(filter(judged.selects, ends))
        return known

    def rules(self) -> Iterator[Written]:
        """Every rule that can be asked, of policies (staged ones, too) and profiles."""
        for policy in self.resources.policies:
            for direction in self.judged[identity(policy)].rules:
                yield from _written(policy, direction)
        for profile in self.resources.profiles:
            for direction in Direction:
                yield from _written(profile, direction)

    @cached_property
    def flows(self) -> Sequence[Flow]:
        """The flows on which verdicts are compared."""
        return flow_space(self.topology) if self._flows is None else self._flows

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the flows meet now."""
        return Oracle(self.topology, self.resources).verdicts(self.flows)

    @cached_property
    def tables(self) -> dict[Way, RuleTable]:
        """The rules of all enforced policies at each hook, in the order in which they are asked."""
        return {(hook, way): RuleTable(tiers_at(self.tiers, hook), way) for hook in Hook for way in Direction}

    @cached_property
    def chains(self) -> dict[Party, dict[Way, int]]:
        """For each end the bits of what applies to it."""
        groups: dict[Hashable, list[JudgedPolicy]] = {}
        for policy in (policy for tier in self.tiers for policy in tier.policies):
            groups.setdefault((policy.subject, policy.do_not_track or policy.pre_dnat), []).append(policy)
        found: dict[Party, dict[Way, int]] = {party: {} for party in self.ends}
        for policies in groups.values():
            selected = self.selected(self.policies[identity(policies[0])])
            for way, table in self.tables.items():
                bits = table.chain(policies)
                for party in selected if bits else ():
                    if way[0] is Hook.NORMAL or not party.is_pod:
                        found[party][way] = found[party].get(way, 0) | bits
        return found


def _nets(addresses: Sequence[Address]) -> tuple[Net, ...]:
    return tuple(ip_network(address) for address in addresses)


def _written(owner: Policy | Profile, direction: Direction) -> Iterator[Written]:
    rules: tuple[AnyRule, ...] = owner.ingress if direction is Direction.INGRESS else owner.egress
    for index, rule in enumerate(rules):
        yield Written(owner, direction, index, rule)
