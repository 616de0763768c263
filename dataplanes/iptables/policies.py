# SPDX-License-Identifier: Apache-2.0
"""Tiers, policies and profiles as chains of one table.

A policy's chain answers by two mark bits, and is shared by all endpoints, as the chain of a tier is by all that
have the same policies in it. Chains belong to one table: what two tables ask stands in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dataplanes.api import Action, DataplaneError, Direction, PolicyId, Snapshot, SnapshotRule, TierPolicies
from dataplanes.iptables.chains import ALLOW, CLEAR_MARK, IF_ACCEPTED, PASS, Chain
from dataplanes.iptables.matches import rule_lines
from dataplanes.iptables.names import DECIDED, chain_name, comment, digest
from dataplanes.iptables.sets import Family, SetCollector

__all__ = ["PolicyChains", "policies_of"]

_LOG = '-j LOG --log-prefix "policylab: "'
_ABBREVIATED_KINDS = {
    "NetworkPolicy": "np",
    "GlobalNetworkPolicy": "gnp",
    "KubernetesNetworkPolicy": "knp",
    "AdminNetworkPolicy": "anp",
    "BaselineAdminNetworkPolicy": "banp",
    "ClusterNetworkPolicy": "cnp",
}


def policies_of(tier: TierPolicies, direction: Direction) -> tuple[PolicyId, ...]:
    """The policies of a tier in one direction."""
    return tier.ingress if direction is Direction.INGRESS else tier.egress


def _policy_chain(policy_id: PolicyId, direction: Direction) -> str:
    kind = _ABBREVIATED_KINDS.get(policy_id.kind, policy_id.kind)
    return chain_name(f"p{direction.value[0]}", ".".join(filter(None, (kind, policy_id.namespace, policy_id.name))))


class PolicyChains:
    """Collects the chains of one table by name, in the order in which they are first asked for."""

    def __init__(self, snapshot: Snapshot, family: Family, sets: SetCollector) -> None:
        self.snapshot = snapshot
        self.family = family
        self._sets = sets
        self._tiers: dict[str, Chain] = {}
        self._policies: dict[str, Chain] = {}
        self._profiles: dict[str, Chain] = {}
        self._owners: dict[str, object] = {}

    def chains(self) -> Iterator[Chain]:
        """All that the rules made so far jump to."""
        yield from self._tiers.values()
        yield from self._policies.values()
        yield from self._profiles.values()

    def tiers(
        self,
        tiers: Sequence[TierPolicies],
        direction: Direction,
        *,
        on_accept: str = "-j RETURN",
        always_pass: bool = False,
    ) -> Iterator[str]:
        """Rules that ask one tier after another, up to the first that accepts; a tier that denies drops.

        ``always_pass``: no tier drops what none of its policies decided.
        """
        asked = [tier for tier in tiers if policies_of(tier, direction)]
        for number, tier in enumerate(asked):
            if number:
                yield CLEAR_MARK
            yield f"-j {self._tier(tier, direction, passes=always_pass or tier.pass_by_default)}"
            yield f"{IF_ACCEPTED} {on_accept}"

    def profiles(self, names: Sequence[str], direction: Direction) -> Iterator[str]:
        """Rules that ask one profile after another, and drop what none of them accepts."""
        for name in names:
            if name not in self.snapshot.profiles:
                yield f"{comment(f'profile {name} is missing')} -j DROP"
                return
            yield f"-j {self._profile(name, direction)}"
            yield f"{IF_ACCEPTED} -j RETURN"
        yield f"{comment('no policy and no profile accepted')} -j DROP"

    def lines(self, rule: SnapshotRule, target: str, about: str) -> list[str]:
        """One rule that is no policy's; see ``rule_lines``."""
        return rule_lines(rule, self.family, self._sets, target, about)

    def _tier(self, tier: TierPolicies, direction: Direction, *, passes: bool) -> str:
        """The chain of a tier with just these policies; which are they is part of its name."""
        policies = policies_of(tier, direction)
        name = chain_name(f"t{direction.value[0]}", f"{tier.name}-{digest(repr((policies, passes)))}")
        if self._is_new(name, (tier.name, policies, passes, direction)):
            rules = []
            for policy_id in policies:
                rules += [
                    f"-j {self._policy(policy_id, direction)}",
                    f"-m mark ! --mark 0x0/{DECIDED:#x} -j RETURN",
                ]
            if not passes:
                rules.append(f"{comment(f'end of tier {tier.name}')} -j DROP")
            self._tiers[name] = Chain(name, f"tier {tier.name} {direction.value}", tuple(rules))
        return name

    def _policy(self, policy_id: PolicyId, direction: Direction) -> str:
        name = _policy_chain(policy_id, direction)
        if self._is_new(name, (policy_id, direction)):
            policy = self.snapshot.policies.get(policy_id)
            if policy is None:
                raise DataplaneError("an endpoint names a policy that the snapshot does not hold", value=str(policy_id))
            rules = policy.ingress if direction is Direction.INGRESS else policy.egress
            lines = self._rules(rules, str(policy_id), direction, f"-g {PASS}")
            self._policies[name] = Chain(name, f"policy {policy_id} {direction.value}", lines)
        return name

    def _profile(self, profile: str, direction: Direction) -> str:
        name = chain_name(f"r{direction.value[0]}", profile)
        if self._is_new(name, (profile, direction)):
            found = self.snapshot.profiles[profile]
            rules = found.ingress if direction is Direction.INGRESS else found.egress
            # Pass in a profile: this one has nothing to say, the next is asked.
            lines = self._rules(rules, f"Profile/{profile}", direction, "-j RETURN")
            self._profiles[name] = Chain(name, f"profile {profile} {direction.value}", lines)
        return name

    def _rules(self, rules: Sequence[SnapshotRule], owner: str, direction: Direction, on_pass: str) -> tuple[str, ...]:
        targets = {Action.ALLOW: f"-g {ALLOW}", Action.DENY: "-j DROP", Action.PASS: on_pass, Action.LOG: _LOG}
        lines: list[str] = []
        for position, rule in enumerate(rules):
            about = f"{owner} {direction.value} rule {rule.origin.index if rule.origin else position}"
            lines += self.lines(rule, targets[rule.action], about)
        return tuple(lines)

    def _is_new(self, name: str, owner: object) -> bool:
        """Whether a chain has yet to be made; two owners of one name would enforce each other's rules."""
        known = self._owners.setdefault(name, owner)
        if known != owner:
            raise DataplaneError(f"two owners would share the chain {name}", value=str(owner), next_step="rename one")
        return name not in self._tiers and name not in self._policies and name not in self._profiles
