# SPDX-License-Identifier: Apache-2.0
"""Rules that match packets and never decide any, because what is asked before decides all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from lab.lint.finding import Finding, Severity
from lab.lint.horizon import Horizon
from lab.lint.policies import action_of, unreachable
from lab.lint.scene import Scene, Way, Written, identity
from lab.lint.trials import Outcome, Spot, Trials
from lab.oracle.packet import Packet
from lab.oracle.table import Entry
from lab.oracle.world import Party
from lab.policy.resources import Action, Direction, Profile
from lab.protocols import protocol_label

__all__ = ["Shadows", "shadowed_rules"]

RuleKey = tuple[str, str | None, str, Direction, int]
_MOST_CHAINS = 16
"""At how many ends that differ in what applies to them, or in what passes on their side, a rule is tried. Mostly,
one that has a say is found at the first."""
_SHOWN = 3


class Shadows:
    """All enforced rules that apply to somebody, by where they stand in the tables."""

    def __init__(self, scene: Scene, trials: Trials) -> None:
        self._scene = scene
        self.horizons = {way: Horizon(table) for way, table in scene.tables.items()}
        # Of ends to which the same applies, and whose side the same rules let pass, one stands for all.
        self._groups: dict[Way, dict[tuple[int, Hashable], Party]] = {way: {} for way in scene.tables}
        for party, chains in scene.chains.items():
            for way, chain in chains.items():
                self._groups[way].setdefault((chain, trials.own_side(way, chain, party)), party)
        self.alive = {
            way: {chain: self.horizons[way].alive(chain) for chain, _ in groups} for way, groups in self._groups.items()
        }

    def spots(self) -> dict[RuleKey, list[Spot]]:
        """Where each rule that applies to somebody stands."""
        found: dict[RuleKey, list[Spot]] = {}
        for way, table in self._scene.tables.items():
            groups = self._groups[way]
            for position, entry in enumerate(table.entries if groups else ()):
                if entry.policy is None or entry.rule is None:
                    continue
                ends = [(chain, party) for (chain, _), party in groups.items() if chain >> position & 1]
                if ends:
                    key = (*identity(entry.policy), way[1], entry.rule.index)
                    found.setdefault(key, []).append(Spot(way, table, position, ends))
        return found


def shadowed_rules(scene: Scene) -> Iterator[Finding]:
    """A finding for each rule that never has a say; harmless where what decides instead does the same."""
    trials = Trials(scene)
    shadows = Shadows(scene, trials)
    spots = shadows.spots()
    behind = {_key(written) for written, _ in unreachable(scene)}
    for written in scene.rules():
        key = _key(written)
        if isinstance(written.owner, Profile) or key in behind or key not in spots:
            continue
        outcome = _try(shadows, trials, spots[key])
        if outcome.has_say or not outcome.complete or not outcome.before:
            continue
        before = list(outcome.before.values())
        if any(_asks_for_requests(scene, entry, written.direction) for entry in before):
            continue
        harmless = all(_does(entry) is action_of(written.rule) for entry in before)
        severity: Severity = "info" if harmless else "warning"
        message = f"the rule never decides: {_spell_all(before)} {'decides' if len(before) == 1 else 'decide'} before"
        if outcome.example is not None:
            message += f" all that it matches, such as {_spell(outcome.example)}"
        yield Finding("lint.rule-shadowed", severity, written.rule.place, written.about, message)


def _key(written: Written) -> RuleKey:
    told = written.about
    return told.kind, told.namespace, told.name, written.direction, written.index


def _try(shadows: Shadows, trials: Trials, spots: list[Spot]) -> Outcome:
    outcome = Outcome()
    for spot in spots:
        alive = shadows.alive[spot.way]
        reached = [(chain, party) for chain, party in spot.ends if alive[chain] >> spot.position & 1]
        outcome.complete = outcome.complete and len(reached) <= _MOST_CHAINS
        for chain, party in reached[:_MOST_CHAINS]:
            trials.attempt(spot, chain, party, outcome)
            if outcome.has_say:
                return outcome
        for chain, _ in spot.ends if not reached else ():
            entry = shadows.horizons[spot.way].cut_by(chain, spot.position)
            if entry is not None:
                outcome.before[spot.table.entries.index(entry)] = entry
    return outcome


def _asks_for_requests(scene: Scene, entry: Entry, direction: Direction) -> bool:
    """Whether a rule matches HTTP: what it does not match, a proxy hands on to the rules behind it."""
    if entry.policy is None or entry.rule is None:
        return False
    policy = scene.policies[identity(entry.policy)]
    rules = policy.ingress if direction is Direction.INGRESS else policy.egress
    return getattr(rules[entry.rule.index], "http", None) is not None


def _does(entry: Entry) -> Action:
    """What an entry does with what it matches; the end of a tier denies or passes on."""
    if entry.rule is not None:
        return entry.rule.action
    return Action.PASS if entry.verdict is None else Action.DENY


def _spell_all(entries: list[Entry]) -> str:
    shown = [_spell_entry(entry) for entry in entries[:_SHOWN]]
    more = [f"{len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
    *most, last = [*shown, *more]
    return f"{', '.join(most)} and {last}" if most else last


def _spell_entry(entry: Entry) -> str:
    if entry.policy is None or entry.rule is None:
        return f"the end of the tier {entry.tier.name}"
    home = f"{entry.policy.namespace}/" if entry.policy.namespace else ""
    name = f"{entry.policy.kind} {home}{entry.policy.name}"
    return f"the {entry.rule.action.value} of {name} rule {entry.rule.index} ({entry.rule.place})"


def _spell(packet: Packet) -> str:
    protocol = protocol_label(packet.protocol)
    what = str(protocol) if packet.port is None else f"{packet.port}/{protocol}"
    return f"{packet.source.address} -> {packet.destination.address} {what}"
