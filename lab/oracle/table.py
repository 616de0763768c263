# SPDX-License-Identifier: Apache-2.0
"""The first rule that decides a packet, found without trying rules one by one.

All rules of a direction, in the order in which they are asked, are bits of one big integer, each tier followed
by a bit for its end. For each part of a packet the table remembers which rules that part leaves standing;
the conjunction of those and of the rules that apply to an endpoint has the deciding rule as its lowest bit.
What this finds is by construction what a walk over the same rules finds; ``walk`` is that walk, and the
tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from lab.oracle.conditions import Condition
from lab.oracle.packet import PART_KEYS, PORT_PARTS, Packet, Part, Side
from lab.oracle.policies import JudgedPolicy
from lab.oracle.rules import JudgedRule
from lab.oracle.stretches import PortRange, told_apart
from lab.oracle.tiers import JudgedTier
from lab.oracle.verdict import DefaultDecision, RuleDecision, Verdict
from lab.policy.resources import Action, Direction

__all__ = ["Entry", "RuleTable", "rule_verdict", "tier_end_verdict"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a bit of a table stands for: a rule of a policy, or (None) the end of a tier.

    ``behind`` is the first bit of the next tier; ``verdict`` is None for what passes on to there.
    """

    tier: JudgedTier
    policy: JudgedPolicy | None
    rule: JudgedRule | None
    verdict: Verdict | None
    behind: int


def rule_verdict(direction: Direction, tier: JudgedTier, policy: JudgedPolicy, rule: JudgedRule) -> Verdict | None:
    """What a matching rule says: None for Pass, which leaves the tier."""
    if rule.action is Action.PASS:
        return None
    decision = RuleDecision(direction, tier.name, policy.kind, policy.namespace, policy.name, rule.index, rule.place)
    return Verdict(rule.action is Action.ALLOW, decision)


def tier_end_verdict(direction: Direction, tier: JudgedTier) -> Verdict | None:
    """What the end of a tier says that has a policy for the endpoint: None for Pass."""
    if tier.pass_by_default:
        return None
    return Verdict(False, DefaultDecision(direction, "tier-end-deny", tier.name, place=tier.place))


@dataclass(slots=True)
class _PartTable:
    """What rules ask of one part: each set of conditions with the rules that have it, and what was found so far."""

    key_of: Callable[[Packet], Hashable]
    rules_with: dict[tuple[Condition, ...], int] = field(default_factory=dict)
    indifferent: int = ~0
    standing: dict[Hashable, int] = field(default_factory=dict)

    def add(self, conditions: tuple[Condition, ...], bit: int) -> None:
        """File a rule under all that it asks of this part."""
        self.rules_with[conditions] = self.rules_with.get(conditions, 0) | bit
        self.indifferent &= ~bit

    def survivors(self, packet: Packet) -> int:
        """All rules but those that ask of this part what the packet does not have (the mask has no upper end)."""
        key = self.key_of(packet)
        known = self.standing.get(key)
        if known is None:
            known = self.indifferent
            for conditions, rules in self.rules_with.items():
                for condition in conditions:
                    if not condition.holds(packet):
                        break
                else:
                    known |= rules
            self.standing[key] = known
        return known


class RuleTable:
    """All rules of all tiers in one direction."""

    def __init__(self, tiers: Sequence[JudgedTier], direction: Direction, named: Collection[PortRange] = ()) -> None:
        """``named``: the ports that have a name or serve a service anywhere."""
        self._named = named
        self._ranges: dict[Side, dict[int, set[PortRange]]] = {"source": {}, "destination": {}}
        self._with_ports: dict[Side, int] = {"source": 0, "destination": 0}
        self._known_ranges: dict[tuple[Side, int], frozenset[PortRange]] = {}
        self.entries: list[Entry] = []
        self._outcomes: list[tuple[Verdict | None, int]] = []
        self._parts: dict[Part, _PartTable] = {}
        self._port_parts: dict[Part, _PartTable] = {}
        self._bits_of: dict[JudgedPolicy, int] = {}
        for tier in tiers:
            self._add(tier, direction)

    def chain(self, policies: Iterable[JudgedPolicy]) -> int:
        """The bits of some policies' rules and of the ends of their tiers: what applies to an endpoint."""
        bits = 0
        for policy in policies:
            bits |= self._bits_of.get(policy, 0)
        return bits

    def decide(self, chain: int, packet: Packet) -> Verdict | None:
        """What the tiers say of a packet at an endpoint with this chain, or None if it goes on to the profiles."""
        return self.decide_by_ports(self.apart_from_ports(chain, packet), packet)

    def apart_from_ports(self, chain: int, packet: Packet) -> int:
        """The bits of a chain that this packet leaves standing, and any that differs from it in its ports only."""
        standing = chain
        for table in self._parts.values():
            if not standing:
                break
            standing &= table.survivors(packet)
        return standing

    def decide_by_ports(self, standing: int, packet: Packet) -> Verdict | None:
        """What is decided by that which :meth:`apart_from_ports` has left standing for the packet."""
        for table in self._port_parts.values():
            standing &= table.survivors(packet)
        while standing:
            lowest = (standing & -standing).bit_length() - 1
            verdict, behind = self._outcomes[lowest]
            if verdict is not None:
                return verdict
            standing = standing >> behind << behind
        return None

    def ranges(self, standing: int, side: Side) -> frozenset[PortRange]:
        """The ranges of ports on a side that some bits tell from others; a name stands for every port that has one."""
        rest = standing & self._with_ports[side]
        known = self._known_ranges.get((side, rest))
        if known is None:
            found, bits = set[PortRange](), rest
            while bits:
                lowest = bits & -bits
                found |= self._ranges[side][lowest]
                bits ^= lowest
            known = self._known_ranges[side, rest] = frozenset(found)
        return known

    def standing(self, chain: int, packet: Packet, parts: Collection[Part] = tuple(Part)) -> int:
        """The bits of a chain that some parts of a packet leave standing; with all parts, those that match it."""
        standing = chain
        for part, table in (self._parts | self._port_parts).items():
            if part in parts:
                standing &= table.survivors(packet)
        return standing

    def deciding(self, standing: int) -> list[int]:
        """Of what matches a packet the bits that have a say: those that pass it on, then the one that decides."""
        found = []
        while standing:
            lowest = (standing & -standing).bit_length() - 1
            found.append(lowest)
            verdict, behind = self._outcomes[lowest]
            if verdict is not None:
                break
            standing = standing >> behind << behind
        return found

    def _add(self, tier: JudgedTier, direction: Direction) -> None:
        policies = [policy for policy in tier.policies if direction in policy.rules]
        # Log never decides, so it has no bit.
        rules = [
            (policy, rule) for policy in policies for rule in policy.rules[direction] if rule.action is not Action.LOG
        ]
        end = len(self._outcomes) + len(rules)
        self._bits_of |= dict.fromkeys(policies, 1 << end)
        for policy, rule in rules:
            bit = 1 << len(self._outcomes)
            self._bits_of[policy] |= bit
            self._enter(Entry(tier, policy, rule, rule_verdict(direction, tier, policy, rule), end + 1))
            self._file(rule, bit)
        self._enter(Entry(tier, None, None, tier_end_verdict(direction, tier), end + 1))

    def _enter(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._outcomes.append((entry.verdict, entry.behind))

    def _file(self, rule: JudgedRule, bit: int) -> None:
        for part in Part:
            conditions = tuple(condition for condition in rule.conditions if condition.part is part)
            if conditions:
                tables = self._port_parts if part in PORT_PARTS else self._parts
                tables.setdefault(part, _PartTable(PART_KEYS[part])).add(conditions, bit)
        for side, ranges in self._ranges.items():
            ranges[bit] = {*told_apart(rule.conditions, self._named, side)}
            self._with_ports[side] |= bit if ranges[bit] else 0
