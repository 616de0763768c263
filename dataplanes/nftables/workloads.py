# SPDX-License-Identifier: Apache-2.0
"""The chains of workloads, and the maps that bring a packet from its interface to them.

An endpoint's chain returns only when its direction accepts the packet, and drops it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dataplanes.api import ICMPV6, UDP, Action, DataplaneError, Direction, IcmpMatch, NodeSettings, SnapshotRule
from dataplanes.nftables.matches import rules_of
from dataplanes.nftables.names import named
from dataplanes.nftables.parts import Chain, Scene, VerdictMap
from dataplanes.nftables.policies import ask_profiles, ask_tiers
from dataplanes.nftables.words import (
    ACCEPT,
    CLEAR_MARK,
    COUNT,
    DROP,
    ESTABLISHED,
    INVALID,
    RETURN,
    Json,
    Rule,
    jump,
    match,
    meta,
    rule,
    transport,
    verdict_of,
)

__all__ = [
    "FROM_WORKLOAD",
    "TO_WORKLOAD",
    "WorkloadRules",
    "Workloads",
    "WorkloadsByInterface",
    "WorkloadsToNode",
    "tracked",
]

_PREFIX = "cali"
"""How the names of all workload interfaces begin (Calico's InterfacePrefix)."""

FROM_WORKLOAD: Final = match(meta("iifname"), f"{_PREFIX}*")
TO_WORKLOAD: Final = match(meta("oifname"), f"{_PREFIX}*")
_KEYS: Final = {Direction.EGRESS: meta("iifname"), Direction.INGRESS: meta("oifname")}
_IPIP = 4

# Multicast listener queries, reports and dones, router and neighbour solicitations, neighbour advertisements: without
# them a workload cannot even find its gateway (Felix: rules/static.go, filterWorkloadToHostChain).
_NEIGHBOUR_TYPES = (130, 131, 132, 133, 135, 136)


def tracked(settings: NodeSettings, then: Json = RETURN) -> Iterator[Rule]:
    """How every chain begins that judges tracked packets: what belongs to an accepted flow is accepted.

    Packets that conntrack calls INVALID are left to the policy unless the settings say otherwise, such as an ICMP
    echo reply without a request or protocol 1 over IPv6.
    """
    yield rule(ESTABLISHED, then, about="part of a flow that was accepted")
    if settings.drop_invalid:
        yield rule(INVALID, COUNT, DROP, about="conntrack cannot place it")


@dataclass(frozen=True, slots=True)
class WorkloadRules:
    """One direction of a workload."""

    interface: str
    direction: Direction

    @property
    def name(self) -> str:
        """``workload-ingress/INTERFACE``."""
        return named(f"workload-{self.direction.value}", self.interface)

    def define(self, scene: Scene) -> Chain:
        """Its tiers, then its profiles; raises DataplaneError for an interface that is no workload's."""
        if not self.interface.startswith(_PREFIX):
            raise DataplaneError("not the name of a workload's interface", value=self.interface, allowed=f"{_PREFIX}*")
        endpoint = scene.snapshot.endpoints[self.interface]
        settings = scene.snapshot.settings
        rules = (
            *tracked(settings),
            *(_encapsulation(settings) if self.direction is Direction.EGRESS else ()),
            rule(CLEAR_MARK),
            *ask_tiers(endpoint.tiers, self.direction, scene),
            *ask_profiles(endpoint.profiles, self.direction, scene),
        )
        return Chain(self.name, f"workload {endpoint.workload} {self.direction.value}", rules)


def _encapsulation(settings: NodeSettings) -> Iterator[Rule]:
    """A workload that could send tunnel packets could speak for others (Felix: allow*PacketsFromWorkloads)."""
    if not settings.allow_vxlan_from_workloads:
        vxlan = (match(meta("l4proto"), UDP), match(transport("dport"), settings.vxlan_port))
        yield rule(*vxlan, COUNT, DROP, about="VXLAN from a workload")
    if not settings.allow_ipip_from_workloads:
        yield rule(match(meta("l4proto"), _IPIP), COUNT, DROP, about="IPIP from a workload")


@dataclass(frozen=True, slots=True)
class WorkloadsByInterface:
    """Which interface leads to which workload's chain."""

    direction: Direction

    @property
    def name(self) -> str:
        """``workloads-ingress``."""
        return f"workloads-{self.direction.value}"

    def define(self, scene: Scene) -> VerdictMap:
        """All workloads of the node."""
        chains = {
            interface: scene.use(WorkloadRules(interface, self.direction)) for interface in scene.snapshot.endpoints
        }
        return VerdictMap(self.name, chains)


@dataclass(frozen=True, slots=True)
class Workloads:
    """The way to a workload's chain; an unknown ``cali*`` interface is cut off."""

    direction: Direction

    @property
    def name(self) -> str:
        """``from-workload`` or ``to-workload``."""
        return "to-workload" if self.direction is Direction.INGRESS else "from-workload"

    def define(self, scene: Scene) -> Chain:
        """One look-up, whatever the number of workloads."""
        found = verdict_of(_KEYS[self.direction], scene.use(WorkloadsByInterface(self.direction)))
        unknown = rule(COUNT, DROP, about="no workload is known behind this interface")
        return Chain(self.name, f"dispatch {self.name}", (rule(found), unknown))


@dataclass(frozen=True, slots=True)
class WorkloadsToNode:
    """From a workload to its own node: its egress policy, then what the node says to all that passed it."""

    @property
    def name(self) -> str:
        """The one chain's name."""
        return "workload-to-node"

    def define(self, scene: Scene) -> Chain:
        """The node's answer; to return and to accept are the same for a table of its own, which has the first word."""
        action = scene.snapshot.settings.endpoint_to_host_action
        rules: list[Rule] = []
        for kind in _NEIGHBOUR_TYPES:
            message = SnapshotRule(Action.ALLOW, 6, protocol=ICMPV6, icmp=IcmpMatch(kind, None))
            rules += rules_of(message, scene, (ACCEPT,), "finding neighbours is no matter of policy")
        rules += [
            rule(jump(scene.use(Workloads(Direction.EGRESS))), about="egress of the workload that sent it"),
            rule(CLEAR_MARK, about="leave no mark behind"),
            *tracked(NodeSettings()),
        ]
        if action == "drop":
            rules.append(rule(COUNT, DROP, about="endpoint to host: drop"))
        return Chain(self.name, "workloads to their own node", tuple(rules))
