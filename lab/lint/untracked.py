# SPDX-License-Identifier: Apache-2.0
"""doNotTrack policies that allow one direction only: nobody tracks the conversation, so answers need a rule, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from lab.lint.finding import Finding
from lab.lint.scene import Scene, Written
from lab.lint.witnesses import Witnesses
from lab.oracle.host_ahead import ahead_of_stage
from lab.oracle.host_hooks import Hook
from lab.oracle.host_stages import Stage
from lab.oracle.packet import Packet
from lab.oracle.settings import felix_settings
from lab.oracle.verdict import RuleDecision, Verdict
from lab.oracle.world import Party
from lab.policy.resources import Action, CalicoPolicy, Direction, Rule
from lab.protocols import protocol_label
from lab.topology import IcmpHeader

__all__ = ["one_way_rules"]

_MOST_TRIALS = 1000
_REPLIES = {8: 0, 128: 129}
"""The types of echo requests with those of their replies."""
_OTHER = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}


def one_way_rules(scene: Scene) -> Iterator[Finding]:
    """A finding for each Allow of an enforced doNotTrack policy whose answers are not allowed the other way."""
    witnesses: Witnesses | None = None
    for written in scene.rules():
        owner = written.owner
        if not isinstance(owner, CalicoPolicy) or not owner.do_not_track or owner.staged is not None:
            continue
        if not isinstance(written.rule, Rule) or written.rule.action is not Action.ALLOW:
            continue
        witnesses = witnesses or Witnesses(scene)
        for party in scene.selected(owner):
            packet = _unanswered(scene, witnesses, written, party)
            if packet is not None:
                yield _finding(written, party, packet)
                break


def _finding(written: Written, party: Party, packet: Packet) -> Finding:
    protocol = protocol_label(packet.protocol)
    port = "" if packet.port is None else f" from port {packet.port}"
    back = _OTHER[written.direction].value
    message = (
        f"at {party.title} no doNotTrack policy allows the {back} of answers ({protocol}{port}): "
        "what is not tracked must be allowed both ways, or nothing flows"
    )
    return Finding("lint.untracked-one-way", "warning", written.rule.place, written.about, message)


def _unanswered(scene: Scene, witnesses: Witnesses, written: Written, party: Party) -> Packet | None:
    """A packet that the rule allows at an end and whose answer nobody does; failsafe ports answer anyway."""
    way = (Hook.UNTRACKED, written.direction)
    table, chain = scene.tables[way], scene.chains[party].get(way, 0)
    allowed = (
        packet
        for ends in witnesses.ends(party, written.direction)
        for packet in witnesses.services(ends)
        if _decides(written, table.decide(chain, packet))
    )
    for packet in islice(allowed, _MOST_TRIALS):
        answer = _answer(packet)
        if answer is not None and not _goes_back(scene, party, _OTHER[written.direction], answer):
            return packet
    return None


def _decides(written: Written, verdict: Verdict | None) -> bool:
    if verdict is None or not isinstance(verdict.decided_by, RuleDecision):
        return False
    told = verdict.decided_by
    return (told.kind, told.name, told.rule) == (written.about.kind, written.about.name, written.index)


def _answer(packet: Packet) -> Packet | None:
    """What comes back for a packet, None for ICMP that asks for nothing."""
    icmp = packet.icmp
    if icmp is not None:
        if icmp.type not in _REPLIES:
            return None
        icmp = IcmpHeader(_REPLIES[icmp.type], 0)
    back = replace(packet, source=packet.destination, destination=packet.source, icmp=icmp)
    return replace(back, source_port=packet.port, port=packet.source_port)


def _goes_back(scene: Scene, party: Party, direction: Direction, answer: Packet) -> bool:
    way = (Hook.UNTRACKED, direction)
    node = party.node or ""
    settings = felix_settings(scene.resources.felix_configurations, node)
    ahead = ahead_of_stage(settings, Stage(*way, party, node, answer, 1), tracked=False)
    verdict = ahead or scene.tables[way].decide(scene.chains[party].get(way, 0), answer)
    return verdict is not None and verdict.allowed
