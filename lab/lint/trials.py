# SPDX-License-Identifier: Apache-2.0
"""Tries one rule at one end: does it have a say in any packet, or do rules before it take all that it matches?"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from lab.lint.scene import Scene, Way
from lab.lint.witnesses import Witnesses
from lab.oracle.conditions import Condition
from lab.oracle.packet import Packet, Part
from lab.oracle.rules import JudgedRule
from lab.oracle.table import Entry, RuleTable
from lab.oracle.world import Location, Party

__all__ = ["Outcome", "Spot", "Trials"]

_OF_ENDS = frozenset({
    Part.FAMILY,
    Part.SOURCE_ADDRESS,
    Part.DESTINATION_ADDRESS,
    Part.SOURCE_LABELS,
    Part.DESTINATION_LABELS,
})  # fmt: skip
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
        self._witnesses = Witnesses(scene)
        self._named = {(port.protocol, port.port) for party in scene.ends for port in party.ports}

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
        of_ends = [condition for condition in rule.conditions if condition.part in _OF_ENDS]
        of_services = [condition for condition in rule.conditions if condition.part in _OF_SERVICES]
        table, seen = spot.table, set[Hashable]()
        for ends in self._witnesses.ends(party, *spot.way):
            if not _meets(ends, of_ends):
                continue
            key = (table.standing(chain, ends, _OF_ENDS), _distinct(ends.source), _distinct(ends.destination))
            if key in seen:
                continue
            seen.add(key)
            yield from self._with_services(table, chain, rule, ends, of_services)

    def _with_services(
        self, table: RuleTable, chain: int, rule: JudgedRule, ends: Packet, of_services: list[Condition]
    ) -> Iterator[Packet]:
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


def _distinct(location: Location) -> Hashable:
    """What of a location matters besides what rules say of its address: names of ports and services."""
    names = frozenset((port.name, port.protocol, port.port) for party in location.parties for port in party.ports)
    return names, frozenset(location.services.items())
