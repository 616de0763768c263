# SPDX-License-Identifier: Apache-2.0
"""The chains of host endpoints, stage by stage: what begins or ends on the node, passes through it, or comes early.

An endpoint's chain returns when it accepts the packet, or when it has nothing to say of it, and drops it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dataplanes.api import (
    Action,
    DataplaneError,
    Direction,
    FailsafePort,
    HostPolicy,
    NodeSettings,
    PortRange,
    Snapshot,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
    protocol_label,
)
from dataplanes.nftables.matches import rules_of
from dataplanes.nftables.names import ACCEPTED, MARK_MASK, PRE_DNAT, UNTRACKED, named
from dataplanes.nftables.parts import Chain, Scene
from dataplanes.nftables.policies import ALLOW, ask_profiles, ask_tiers, policies_of
from dataplanes.nftables.words import (
    CLEAR_MARK,
    RETURN,
    Rule,
    goto,
    has_bits,
    jump,
    meta,
    rule,
    set_bits,
    verdict_of,
)
from dataplanes.nftables.workloads import tracked

__all__ = ["EVERY_OTHER", "HostRules", "Hosts", "Stage", "concerned"]

EVERY_OTHER = "*"
"""The host endpoint of every interface that has none of its own."""

# What the kernel takes for one interface's name, less what nft reads as a pattern or would have to quote.
_INTERFACE = re.compile(r"[A-Za-z0-9_.@][A-Za-z0-9_.@-]{0,14}")
_KEYS: Final = {Direction.INGRESS: meta("iifname"), Direction.EGRESS: meta("oifname")}


class Stage(Enum):
    """The four stages of a packet's way at which a host endpoint may have policies."""

    NORMAL = "normal"
    FORWARD = "forward"
    PRE_DNAT = "pre-dnat"
    UNTRACKED = "untracked"

    def tiers(self, host: HostPolicy) -> tuple[TierPolicies, ...]:
        """The tiers that a host endpoint has for this stage."""
        return {
            Stage.NORMAL: host.tiers,
            Stage.FORWARD: host.forward_tiers,
            Stage.PRE_DNAT: host.pre_dnat_tiers,
            Stage.UNTRACKED: host.untracked_tiers,
        }[self]


def concerned(snapshot: Snapshot, stage: Stage, direction: Direction) -> list[str]:
    """The interfaces whose host endpoints have a say at a stage, in order.

    A direction without any policy for forwarded packets is open, whatever the other has (as Felix up to 3.29 has it,
    and BPF). Untracked policies of ``*`` are void (Felix: rules/endpoints.go).
    """
    hosts = snapshot.host_endpoints
    if stage is Stage.NORMAL:
        return sorted(hosts)
    if stage is Stage.FORWARD:
        return [name for name in sorted(hosts) if any(policies_of(t, direction) for t in hosts[name].forward_tiers)]
    void = EVERY_OTHER if stage is Stage.UNTRACKED else ""
    return [name for name in sorted(hosts) if stage.tiers(hosts[name]) and name != void]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The way to the host endpoint of a packet's interface; another's own endpoint shuts out the one of ``*``."""

    stage: Stage
    direction: Direction

    @property
    def name(self) -> str:
        """``host-normal-ingress``."""
        return f"host-{self.stage.value}-{self.direction.value}"

    def define(self, scene: Scene) -> Chain:
        """One look-up in the rule's own map: so rules and map change as one. Undecided packets come back."""
        speaking = concerned(scene.snapshot, self.stage, self.direction)
        verdicts = {
            interface: goto(scene.use(HostRules(interface, self.stage, self.direction)))
            if interface in speaking
            else RETURN
            for interface in _named_interfaces(scene.snapshot.host_endpoints)
        }
        rules = [rule(verdict_of(_KEYS[self.direction], verdicts.items()))] if verdicts else []
        if EVERY_OTHER in speaking:
            rules.append(rule(goto(scene.use(HostRules(EVERY_OTHER, self.stage, self.direction)))))
        about = f"dispatch to host endpoints {self.stage.value} {self.direction.value}"
        return Chain(self.name, about, tuple(rules))


def _named_interfaces(hosts: Mapping[str, HostPolicy]) -> list[str]:
    """The interfaces of host endpoints but ``*``; raises DataplaneError for one that nftables cannot name."""
    named_ones = sorted(interface for interface in hosts if interface != EVERY_OTHER)
    for interface in named_ones:
        if not _INTERFACE.fullmatch(interface):
            raise DataplaneError(
                "nftables cannot name this interface of a host endpoint",
                value=interface,
                allowed="up to 15 letters, digits and _ . @ -",
            )
    return named_ones


@dataclass(frozen=True, slots=True)
class HostRules:
    """A host endpoint at one stage, in one direction."""

    interface: str
    stage: Stage
    direction: Direction

    @property
    def name(self) -> str:
        """``host-normal-ingress/INTERFACE``."""
        kind = Hosts(self.stage, self.direction).name
        return f"{kind}-others" if self.interface == EVERY_OTHER else named(kind, self.interface)

    def define(self, scene: Scene) -> Chain:
        """Its rules at that stage."""
        host = scene.snapshot.host_endpoints[self.interface]
        about = f"host endpoint {host.name} {self.stage.value} {self.direction.value}"
        return Chain(self.name, about, tuple(self._rules(host, scene)))

    def _rules(self, host: HostPolicy, scene: Scene) -> Iterator[Rule]:
        tiers = self.stage.tiers(host)
        if self.stage is not Stage.UNTRACKED:
            yield from tracked(scene.snapshot.settings)
        yield rule(CLEAR_MARK)
        if self.stage is not Stage.FORWARD:
            yield from _past_failsafes(self.direction, scene, answers_too=self.stage is Stage.UNTRACKED)
        if self.stage in (Stage.PRE_DNAT, Stage.UNTRACKED):
            # What is accepted here carries that on, what no policy decides goes on.
            early = goto(scene.use(AcceptedEarly(self.stage)))
            yield from ask_tiers(tiers, self.direction, scene, on_accept=early, always_pass=True)
            return
        yield from ask_tiers(tiers, self.direction, scene)
        if self.stage is Stage.NORMAL:
            yield from ask_profiles(host.profiles, self.direction, scene)


@dataclass(frozen=True, slots=True)
class AcceptedEarly:
    """What happens to a packet that is accepted ahead of DNAT or of conntrack."""

    stage: Stage

    @property
    def name(self) -> str:
        """``accepted-pre-dnat`` or ``accepted-untracked``."""
        return f"accepted-{self.stage.value}"

    def define(self, scene: Scene) -> Chain:  # noqa: ARG002 - it says all by itself
        """A mark for the hooks to come, and ahead of conntrack no tracking."""
        untracked = self.stage is Stage.UNTRACKED
        rules = [rule(set_bits(UNTRACKED if untracked else PRE_DNAT, clear=MARK_MASK))]
        if untracked:
            rules.append(rule({"notrack": None}))
        return Chain(self.name, f"accepted {self.stage.value}", tuple(rules))


def _past_failsafes(direction: Direction, scene: Scene, *, answers_too: bool) -> Iterator[Rule]:
    """Rules that return for a packet that no policy may stop; the mark is clear before."""
    failsafes = Failsafes(direction, answers_too)
    if failsafes.ports(scene.snapshot.settings):
        yield rule(jump(scene.use(failsafes)))
        yield rule(has_bits(ACCEPTED), RETURN)


@dataclass(frozen=True, slots=True)
class Failsafes:
    """The failsafe ports; before conntrack those packets too that answer one, or half of a flow were tracked."""

    direction: Direction
    answers_too: bool

    @property
    def name(self) -> str:
        """``failsafe-ingress`` or ``failsafe-ingress-untracked``."""
        return f"failsafe-{self.direction.value}{'-untracked' if self.answers_too else ''}"

    def ports(self, settings: NodeSettings) -> list[tuple[FailsafePort, bool]]:
        """The ports, and whether packets are meant that answer from them."""
        inbound, outbound = settings.failsafe_inbound, settings.failsafe_outbound
        asked, answered = (inbound, outbound) if self.direction is Direction.INGRESS else (outbound, inbound)
        return [(port, False) for port in asked] + [(port, True) for port in answered if self.answers_too]

    def define(self, scene: Scene) -> Chain:
        """A rule a port."""
        rules: list[Rule] = []
        for port, answer in self.ports(scene.snapshot.settings):
            about = f"failsafe {protocol_label(port.protocol)} {port.port}{' answers' if answer else ''}"
            rules += rules_of(self._rule(port, answer=answer), scene, ALLOW, about)
        return Chain(self.name, f"failsafe ports {self.direction.value}", tuple(rules))

    def _rule(self, port: FailsafePort, *, answer: bool) -> SnapshotRule:
        """The net is the other side's: where inbound packets come from, and outbound ones go to."""
        net = () if port.net is None else (port.net,)
        ports = (PortRange(port.port, port.port),)
        inbound = self.direction is Direction.INGRESS
        return SnapshotRule(
            Action.ALLOW,
            protocol=port.protocol,
            source=SnapshotSide(nets=net if inbound else (), ports=ports if answer else ()),
            destination=SnapshotSide(nets=() if inbound else net, ports=() if answer else ports),
        )
