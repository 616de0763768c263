# SPDX-License-Identifier: Apache-2.0
"""What is settled at a stage before any policy is asked, and what is said when none applies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lab.oracle.ahead import ahead_of_policy
from lab.oracle.conntrack import is_invalid
from lab.oracle.host_hooks import Hook
from lab.oracle.host_stages import Stage
from lab.oracle.packet import Packet
from lab.oracle.settings import FelixSettings
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.policy.resources import Direction, Failsafe

__all__ = ["ahead_of_stage", "without_policy"]


def ahead_of_stage(settings: FelixSettings, stage: Stage, *, tracked: bool) -> Verdict | None:
    """What an endpoint's chain says before it comes to policy, or None (Felix: rules/endpoints.go)."""
    if stage.party.is_pod:
        # A packet that is not tracked is not an invalid one either.
        heeded = settings if tracked else replace(settings, drop_invalid=False)
        return ahead_of_policy(heeded, stage.direction, stage.packet)
    if settings.drop_invalid and tracked and stage.hook is not Hook.UNTRACKED and _is_invalid(stage):
        return Verdict(False, DefaultDecision(stage.direction, "conntrack-invalid"))
    if stage.hook is not Hook.FORWARD and _is_failsafe(settings, stage):
        return Verdict(True, DefaultDecision(stage.direction, "failsafe"))
    return None


def without_policy(stage: Stage) -> Verdict | None:
    """What a host endpoint says without any policy or profile, of what begins or ends on its node; else None."""
    if stage.party.is_pod or stage.party.profiles:
        return None
    return Verdict(False, DefaultDecision(stage.direction, "host-endpoint-without-policy", stage.party.title))


def _is_invalid(stage: Stage) -> bool:
    sent_here = any(node.name == stage.node for node in stage.packet.source.nodes)
    return is_invalid(stage.packet, sent_here=sent_here)


def _is_failsafe(settings: FelixSettings, stage: Stage) -> bool:
    """Whether the packet goes to a failsafe port, or answers one ahead of connection tracking.

    There, nobody else would know an answer when it sees one; half of such a conversation would be lost.
    """
    packet, inbound = stage.packet, stage.direction is Direction.INGRESS
    asked, answered = settings.failsafe_inbound, settings.failsafe_outbound
    if not inbound:
        asked, answered = answered, asked
    if packet.port is not None and any(_with_net(asked, packet, packet.port, inbound=inbound)):
        return True
    if stage.hook is not Hook.UNTRACKED or packet.source_port is None:
        return False
    return any(_with_net(answered, packet, packet.source_port, inbound=inbound))


def _with_net(failsafes: tuple[Failsafe, ...], packet: Packet, port: int, *, inbound: bool) -> Iterator[bool]:
    """For each failsafe of the packet's protocol and a port, whether its network holds the other side."""
    other = packet.source.address if inbound else packet.destination.address
    for failsafe in failsafes:
        if (failsafe.protocol, failsafe.port) == (packet.protocol, port):
            yield failsafe.net is None or other in failsafe.net
