# SPDX-License-Identifier: Apache-2.0
"""A snapshot as chains of the filter table, one family at a time: pure data, nothing applied.

How a packet walks (every chain carries the prefix ``plab-``):

    FORWARD -> forward -> from -> egress-INTERFACE  -> te-TIER -> pe-POLICY ...  -> re-PROFILE ...
                       -> to   -> ingress-INTERFACE -> ti-TIER -> pi-POLICY ...  -> ri-PROFILE ...
                       -> accept

An endpoint's chain returns only when its direction accepts the packet, and drops it otherwise; so what
reaches ``accept`` was accepted by every workload that it leaves or enters. A policy's chain answers by two
mark bits, and is shared by all endpoints, as the chain of a tier is by all that have the same policies in it.

The check for packets that conntrack calls INVALID is left out, as Felix leaves it out with
DisableConntrackInvalidCheck=true: the policy alone shall decide on packets that conntrack cannot place, such
as an ICMP echo reply without a request or protocol 1 over IPv6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dataplanes.api import (
    Action,
    DataplaneError,
    Direction,
    EndpointPolicy,
    PolicyId,
    Snapshot,
    SnapshotRule,
    TierPolicies,
)
from dataplanes.iptables.chains import ALLOW, CLEAR_MARK, PASS, WORKLOAD_PREFIX, Chain, dispatch_chains, entry_chains
from dataplanes.iptables.matches import rule_lines
from dataplanes.iptables.names import ACCEPTED, DECIDED, PASSED, chain_name, comment, digest
from dataplanes.iptables.sets import Family, KernelSet, SetCollector

__all__ = ["Ruleset", "render"]

_ESTABLISHED = f"-m conntrack --ctstate RELATED,ESTABLISHED {comment('part of a flow that was accepted')} -j RETURN"
_ACCEPTED_HERE = f"-m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x}"
_LOG = '-j LOG --log-prefix "policylab: "'
# A workload that could send tunnel packets could speak for other workloads (Felix: allow*PacketsFromWorkloads).
_ENCAPSULATION = (
    f"-p udp -m udp --dport 4789 {comment('VXLAN from a workload')} -j DROP",
    f"-p 4 {comment('IPIP from a workload')} -j DROP",
)
_ABBREVIATED_KINDS = {"NetworkPolicy": "np", "GlobalNetworkPolicy": "gnp", "KubernetesNetworkPolicy": "knp"}


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains of one family in the order in which they are read, and the sets that they refer to, by name."""

    family: Family
    chains: Mapping[str, Chain]
    sets: Mapping[str, KernelSet]


def render(snapshot: Snapshot, family: Family) -> Ruleset:
    """The ruleset of a family; raises DataplaneError for what iptables cannot express."""
    return _Renderer(snapshot, family).ruleset()


def _policy_chain(policy_id: PolicyId, direction: Direction) -> str:
    kind = _ABBREVIATED_KINDS.get(policy_id.kind, policy_id.kind)
    return chain_name(f"p{direction.value[0]}", ".".join(filter(None, (kind, policy_id.namespace, policy_id.name))))


def _profile_chain(name: str, direction: Direction) -> str:
    return chain_name(f"r{direction.value[0]}", name)


class _Renderer:
    """Collects chains by name, in the order in which endpoints first need them."""

    def __init__(self, snapshot: Snapshot, family: Family) -> None:
        self._snapshot = snapshot
        self._family = family
        self._sets = SetCollector(family, snapshot.ip_sets)
        self._endpoints: list[Chain] = []
        self._tiers: dict[str, Chain] = {}
        self._policies: dict[str, Chain] = {}
        self._profiles: dict[str, Chain] = {}
        self._owners: dict[str, object] = {}

    def ruleset(self) -> Ruleset:
        dispatched: dict[Direction, dict[str, str]] = {direction: {} for direction in Direction}
        for interface, endpoint in sorted(self._snapshot.endpoints.items()):
            if not interface.startswith(WORKLOAD_PREFIX):
                raise DataplaneError(
                    "not the name of a workload's interface", value=interface, allowed=f"{WORKLOAD_PREFIX}*"
                )
            for direction in Direction:
                dispatched[direction][interface] = self._endpoint(endpoint, direction)
        chains = [
            *entry_chains(),
            Chain(ALLOW, "allow", (f"-j MARK --set-xmark {ACCEPTED:#x}/{ACCEPTED:#x}",)),
            Chain(PASS, "pass", (f"-j MARK --set-xmark {PASSED:#x}/{PASSED:#x}",)),
            *dispatch_chains(dispatched[Direction.EGRESS], dispatched[Direction.INGRESS]),
            *self._endpoints,
            *self._tiers.values(),
            *self._policies.values(),
            *self._profiles.values(),
        ]
        return Ruleset(self._family, {chain.name: chain for chain in chains}, self._sets.sets)

    def _endpoint(self, endpoint: EndpointPolicy, direction: Direction) -> str:
        rules = [_ESTABLISHED, *(_ENCAPSULATION if direction is Direction.EGRESS else ()), CLEAR_MARK]
        stages = [self._tier(tier, direction) for tier in endpoint.tiers if _policies(tier, direction)]
        for number, stage in enumerate(stages):
            rules += [CLEAR_MARK] if number else []
            rules += [f"-j {stage}", f"{_ACCEPTED_HERE} -j RETURN"]
        for profile in endpoint.profiles:
            if profile not in self._snapshot.profiles:
                rules.append(f"{comment(f'profile {profile} is missing')} -j DROP")
                break
            rules += [f"-j {self._profile(profile, direction)}", f"{_ACCEPTED_HERE} -j RETURN"]
        else:
            rules.append(f"{comment('no policy and no profile accepted')} -j DROP")
        name = chain_name(direction.value, endpoint.interface)
        self._endpoints.append(Chain(name, f"workload {endpoint.workload} {direction.value}", tuple(rules)))
        return name

    def _tier(self, tier: TierPolicies, direction: Direction) -> str:
        """The chain of a tier with just these policies; which are they is part of its name."""
        policies = _policies(tier, direction)
        text = f"{tier.name}-{digest(repr((policies, tier.pass_by_default)))}"
        name = chain_name(f"t{direction.value[0]}", text)
        if self._is_new(name, (tier.name, policies, tier.pass_by_default, direction)):
            rules = []
            for policy_id in policies:
                rules += [
                    f"-j {self._policy(policy_id, direction)}",
                    f"-m mark ! --mark 0x0/{DECIDED:#x} -j RETURN",
                ]
            if not tier.pass_by_default:
                rules.append(f"{comment(f'end of tier {tier.name}')} -j DROP")
            self._tiers[name] = Chain(name, f"tier {tier.name} {direction.value}", tuple(rules))
        return name

    def _policy(self, policy_id: PolicyId, direction: Direction) -> str:
        name = _policy_chain(policy_id, direction)
        if self._is_new(name, (policy_id, direction)):
            policy = self._snapshot.policies.get(policy_id)
            if policy is None:
                raise DataplaneError("an endpoint names a policy that the snapshot does not hold", value=str(policy_id))
            rules = policy.ingress if direction is Direction.INGRESS else policy.egress
            lines = self._lines(rules, str(policy_id), direction, f"-g {PASS}")
            self._policies[name] = Chain(name, f"policy {policy_id} {direction.value}", lines)
        return name

    def _profile(self, profile: str, direction: Direction) -> str:
        name = _profile_chain(profile, direction)
        if self._is_new(name, (profile, direction)):
            found = self._snapshot.profiles[profile]
            rules = found.ingress if direction is Direction.INGRESS else found.egress
            # Pass in a profile: this one has nothing to say, the next is asked.
            lines = self._lines(rules, f"Profile/{profile}", direction, "-j RETURN")
            self._profiles[name] = Chain(name, f"profile {profile} {direction.value}", lines)
        return name

    def _lines(self, rules: Sequence[SnapshotRule], owner: str, direction: Direction, on_pass: str) -> tuple[str, ...]:
        targets = {Action.ALLOW: f"-g {ALLOW}", Action.DENY: "-j DROP", Action.PASS: on_pass, Action.LOG: _LOG}
        lines: list[str] = []
        for position, rule in enumerate(rules):
            about = f"{owner} {direction.value} rule {rule.origin.index if rule.origin else position}"
            lines += rule_lines(rule, self._family, self._sets, targets[rule.action], about)
        return tuple(lines)

    def _is_new(self, name: str, owner: object) -> bool:
        """Whether a chain has yet to be made; two owners of one name would enforce each other's rules."""
        known = self._owners.setdefault(name, owner)
        if known != owner:
            raise DataplaneError(f"two owners would share the chain {name}", value=str(owner), next_step="rename one")
        return name not in self._tiers and name not in self._policies and name not in self._profiles


def _policies(tier: TierPolicies, direction: Direction) -> tuple[PolicyId, ...]:
    return tier.ingress if direction is Direction.INGRESS else tier.egress
