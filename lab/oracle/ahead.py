# SPDX-License-Identifier: Apache-2.0
"""What the chain of a workload's interface drops before any policy is asked."""

from __future__ import annotations

from lab.oracle.conntrack import is_invalid
from lab.oracle.packet import Packet
from lab.oracle.settings import FelixSettings
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.policy.resources import Direction
from lab.protocols import UDP

__all__ = ["ahead_of_policy"]

_IP_IN_IP = 4


def ahead_of_policy(settings: FelixSettings, direction: Direction, packet: Packet) -> Verdict | None:
    """The drop of a packet at a workload, or None when policy has to decide (Felix: rules/endpoints.go).

    First what conntrack calls invalid, where the node drops that; then what no workload may send, whatever its
    policy: VXLAN and IP in IP, unless the node allows it.
    """
    if settings.drop_invalid and is_invalid(packet):
        return Verdict(False, DefaultDecision(direction, "conntrack-invalid"))
    if direction is Direction.EGRESS and _is_forbidden_tunnel(settings, packet):
        return Verdict(False, DefaultDecision(direction, "encapsulation"))
    return None


def _is_forbidden_tunnel(settings: FelixSettings, packet: Packet) -> bool:
    if packet.protocol == _IP_IN_IP:
        return not settings.allow_ipip_from_workloads
    return packet.protocol == UDP and packet.port == settings.vxlan_port and not settings.allow_vxlan_from_workloads
