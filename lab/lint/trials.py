# SPDX-License-Identifier: Apache-2.0
"""Tries one rule at one end: does it have a say in any packet, or do rules before it take all that it matches?"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from lab.lint.scene import Scene, Way
from lab.lint.witnesses import Witnesses
from lab.oracle.conditions import Condition
from lab.oracle.host_hooks import Hook
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.rules import JudgedRule
from lab.oracle.table import Entry, RuleTable
from lab.oracle.world import Location, Party
from lab.policy.resources import Direction
from lab.topology import Family
from lab.topology.flows import FAMILIES

__all__ = ["Outcome", "Spot", "Trials"]

_SIDES: tuple[Side, Side] = ("source", "destination")
_PARTS: Mapping[Side, frozenset[Part]] = {
    "source": frozenset({Part.SOURCE_ADDRESS, Part.SOURCE_LABELS}),
    "destination": frozenset({Part.DESTINATION_ADDRESS, Part.DESTINATION_LABELS}),
}
_OF_SERVICES = frozenset({Part.PROTOCOL, Part.ICMP, Part.SOURCE_PORT, Part.DESTINATION_PORT})
_MOST_TRIALS = 20_000
"""Packets tried for one rule at one end. Classes of packets are few, so that hardly any rule needs as many."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A rule in a table, with the chains in which it is and, for each, an end that has it."""

    way: Way
    table: RuleTable
    position: int
    ends: list[tuple[int, Party]] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What came of the trials: ``has_say``, or who decided instead (``before``), shown by the packet ``example``."""

    has_say: bool = False
    complete: bool = True
    before: dict[int, Entry] = field(default_factory=dict)
    example: Packet | None = None


class Trials:
    """Tries rules; packets that no rule of a chain tells apart are tried once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._witnesses = Witnesses(scene)
        self._known: dict[Condition, dict[Location, bool]] = {}
        self._named = {(port.protocol, port.port) for party in scene.ends for port in party.ports}

    def own_side(self, way: Way, chain: int, party: Party) -> Hashable:
        """What is the same for ends at which every rule of a chain is met by the same packets of the other side."""
        hook, direction = way
        side = _SIDES[0 if direction is Direction.EGRESS else 1]
        if hook is not Hook.NORMAL:
            return None  # what passes through a node may be anybody's
        return frozenset(
            (family, self._standing(self._scene.tables[way], chain, side, location), _distinct(location))
            for family in FAMILIES
            for location in self._witnesses.own(party, family)
        )

    def attempt(self, spot: Spot, chain: int, party: Party, outcome: Outcome) -> None:
        """Try a rule of a chain at an end, adding to what came of it elsewhere."""
        table, position = spot.table, spot.position
        rule = table.entries[position].rule
        if rule is None:
            return
        packets = self._matching(spot, chain, rule, party)
        tried = 0
        for packet in islice(packets, _MOST_TRIALS):
            tried += 1
            deciding = table.deciding(table.standing(chain, packet))
            if position in deciding:
                outcome.has_say = True
                return
            first = next(
                p for p in deciding if table.entries[p].verdict is not None or table.entries[p].behind > position
            )
            if first not in outcome.before:
                outcome.before[first] = table.entries[first]
            outcome.example = outcome.example or packet
        outcome.complete = outcome.complete and tried < _MOST_TRIALS

    def _matching(self, spot: Spot, chain: int, rule: JudgedRule, party: Party) -> Iterator[Packet]:
        """Packets that a rule matches, one of each class."""
        hook, direction = spot.way
        own, other = _SIDES if direction is Direction.EGRESS else _SIDES[::-1]
        for family in FAMILIES:
            if not self._in_family(rule, family):
                continue
            near = self._witnesses.own(party, family)
            if hook is not Hook.NORMAL:
                near = [*near, *self._witnesses.peers(family)]
            for here in list(self._classes(spot, chain, rule, own, near)):
                for there in self._classes(spot, chain, rule, other, self._witnesses.peers(family)):
                    ends = _between(own, here, there, family)
                    yield from self._with_services(spot.table, chain, rule, ends)

    def _in_family(self, rule: JudgedRule, family: Family) -> bool:
        stranger = self._witnesses.peers(family)[0]
        packet = _between("source", stranger, stranger, family)
        return _meets(packet, [condition for condition in rule.conditions if condition.part is Part.FAMILY])

    def _classes(
        self, spot: Spot, chain: int, rule: JudgedRule, side: Side, locations: list[Location]
    ) -> Iterator[Location]:
        """Those of some locations that a rule lets stand on a side, one of each class that the chain tells apart."""
        seen = set[Hashable]()
        conditions = [condition for condition in rule.conditions if condition.part in _PARTS[side]]
        for location in locations:
            if not all(self._holds(condition, side, location) for condition in conditions):
                continue
            key = (self._standing(spot.table, chain, side, location), _distinct(location))
            if key not in seen:
                seen.add(key)
                yield location

    @staticmethod
    def _standing(table: RuleTable, chain: int, side: Side, location: Location) -> int:
        """The bits of a chain that a location leaves standing when it is on a side."""
        packet = _between(side, location, location, location.address.version)
        return table.standing(chain, packet, _PARTS[side])

    def _holds(self, condition: Condition, side: Side, location: Location) -> bool:
        """Whether a condition on one side alone holds there; many rules ask the same."""
        known = self._known.setdefault(condition, {})
        answer = known.get(location)
        if answer is None:
            packet = _between(side, location, location, location.address.version)
            answer = known[location] = condition.holds(packet)
        return answer

    def _with_services(self, table: RuleTable, chain: int, rule: JudgedRule, ends: Packet) -> Iterator[Packet]:
        of_services = [condition for condition in rule.conditions if condition.part in _OF_SERVICES]
        seen: set[Hashable] = set()
        for packet in self._witnesses.services(ends):
            if not _meets(packet, of_services):
                continue
            key: Hashable = table.standing(chain, packet, _OF_SERVICES)
            if (packet.protocol, packet.port) in self._named or (packet.protocol, packet.source_port) in self._named:
                key = (key, packet.protocol, packet.port, packet.source_port)
            if key not in seen:
                seen.add(key)
                if _meets(packet, rule.conditions):
                    yield packet


def _meets(packet: Packet, conditions: tuple[Condition, ...] | list[Condition]) -> bool:
    return all(condition.holds(packet) for condition in conditions)


def _between(side: Side, one: Location, other: Location, family: Family) -> Packet:
    """A packet with one location on a side and another on the other side, and a service that is yet to come."""
    source, destination = (one, other) if side == "source" else (other, one)
    return Packet(family, 0, source, destination, None, None, None)


def _distinct(location: Location) -> Hashable:
    """What of a location matters besides what rules say of its address: names of ports and services."""
    names = frozenset((port.name, port.protocol, port.port) for party in location.parties for port in party.ports)
    return names, frozenset(location.services.items())
