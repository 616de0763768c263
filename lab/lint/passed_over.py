# SPDX-License-Identifier: Apache-2.0
"""Deny rules that match a flow which gets through all the same: something lets it by before they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.lint.finding import About, Finding, ShownFlow
from lab.lint.horizon import bits
from lab.lint.scene import Scene, Way
from lab.oracle.host_path import Paths
from lab.oracle.host_stages import Stage
from lab.oracle.question import Questioner
from lab.oracle.settings import felix_settings
from lab.oracle.table import Entry, RuleTable
from lab.policy.resources import Action
from lab.topology import Flow

__all__ = ["passed_over"]


@dataclass(slots=True)
class _Jumped:
    """A Deny with what jumps over it, the first flow of which that is true, and how many there are."""

    by: Entry
    flow: Flow
    count: int = 0


def passed_over(scene: Scene) -> Iterator[Finding]:
    """A finding for each such Deny, with an example. That of the same tier's earlier Allow is what order is for."""
    denies = {way: _denies(table) for way, table in scene.tables.items()}
    if not any(denies.values()) or not _can_jump(scene):
        return
    settings = {node: felix_settings(scene.resources.felix_configurations, node) for node in scene.topology.nodes}
    paths = Paths(scene.topology, scene.resources, scene.world, settings)
    questioner = Questioner(scene.topology, scene.world, paths)
    found: dict[tuple[Way, int], _Jumped] = {}
    for flow, verdict in zip(scene.flows, scene.verdicts, strict=True):
        for stage in questioner.question(flow).steps if verdict.allowed else ():
            if isinstance(stage, Stage):
                _look(scene, denies, stage, flow, found)
    for (way, position), jumped in found.items():
        entry = scene.tables[way].entries[position]
        if entry.policy is not None and entry.rule is not None:
            policy = entry.policy
            who = About(policy.kind, policy.namespace, policy.name, way[1], entry.rule.index)
            yield Finding(
                "lint.deny-passed-over",
                "info",
                entry.rule.place,
                who,
                f"the Deny matches {jumped.count} flows that get through: {_spell(jumped.by)} comes first",
                (ShownFlow(jumped.flow, allowed=True),),
            )


def _can_jump(scene: Scene) -> bool:
    """Whether there is a rule to jump from: a Pass, or anything in a tier before the last that has policies."""
    used = [tier for tier in scene.tiers if tier.policies]
    rules = (rule for tier in used for policy in tier.policies for group in policy.rules.values() for rule in group)
    return len(used) > 1 or any(rule.action is Action.PASS for rule in rules)


def _denies(table: RuleTable) -> int:
    positions = (at for at, entry in enumerate(table.entries) if entry.rule and entry.rule.action is Action.DENY)
    return sum(1 << position for position in positions)


def _look(
    scene: Scene, denies: dict[Way, int], stage: Stage, flow: Flow, found: dict[tuple[Way, int], _Jumped]
) -> None:
    """Note the Deny rules of one stage that match the packet behind a Pass of their tier or an Allow of another."""
    way = (stage.hook, stage.direction)
    chain = scene.chains[stage.party].get(way, 0)
    if not chain & denies[way]:
        return
    table = scene.tables[way]
    standing = table.standing(chain, stage.packet)
    if not standing & denies[way]:
        return
    for position in table.deciding(standing):
        entry = table.entries[position]
        if entry.rule is None:
            continue
        own_tier = (1 << entry.behind) - (1 << position)
        jumped = standing & denies[way] & (own_tier if entry.verdict is None else -1 << entry.behind)
        for deny in bits(jumped):
            found.setdefault((way, deny), _Jumped(entry, flow)).count += 1


def _spell(entry: Entry) -> str:
    policy, rule = entry.policy, entry.rule
    if policy is None or rule is None:
        return f"the end of the tier {entry.tier.name}"
    home = f"{policy.namespace}/" if policy.namespace else ""
    of_tier = f"of the tier {entry.tier.name}, {policy.kind} {home}{policy.name} rule {rule.index}"
    return f"the {rule.action.value} {of_tier} ({rule.place})"
