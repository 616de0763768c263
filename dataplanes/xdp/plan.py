# SPDX-License-Identifier: Apache-2.0
"""What of a snapshot can be dropped early: the denials that come before anything else that untracked policy says.

A packet that an earlier denial would have stopped is denied all the same, so denials may change places. What stands
behind a rule of any other action is left to the dataplane: the packet might have been accepted, passed on or logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final, Literal

from dataplanes.api import (
    SCTP,
    TCP,
    UDP,
    Action,
    HostPolicy,
    Net,
    NodeSettings,
    Planned,
    PortRange,
    Snapshot,
    SnapshotRule,
    SnapshotSide,
)
from dataplanes.xdp.layout import LAYOUT

__all__ = ["CLASSES", "MAX_CONDITIONS", "Condition", "Failsafe", "InterfacePlan", "Source", "plan_of"]

CLASSES: Final = {TCP: LAYOUT["CLASS_TCP"], UDP: LAYOUT["CLASS_UDP"], SCTP: LAYOUT["CLASS_SCTP"]}
"""Protocols whose ports the filter looks at, each with its place in tables."""

MAX_CONDITIONS: Final = 64
"""A condition is a bit of a word."""

# Everybody, as networks that have a prefix.
_EVERYBODY: Final = frozenset(ip_network(net) for net in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"))
_EVERY_INTERFACE: Final = "*"

Failsafe = tuple[int, int, int]
"""Class of protocol, direction, port."""


@dataclass(frozen=True, slots=True)
class Source:
    """Networks that a rule denies; of one family only, if it says so. ``set_id`` is "" for a rule's own."""

    set_id: str
    nets: frozenset[Net]
    version: Literal[4, 6] | None

    def has(self, net: Net) -> bool:
        """Whether just this network is one of them."""
        return self.version in (None, net.version) and net in self.nets

    def of(self, version: int) -> Iterator[Net]:
        """Those of one family."""
        if self.version in (None, version):
            yield from (net for net in self.nets if net.version == version)


@dataclass(frozen=True, slots=True)
class Condition:
    """What else a packet must be to be denied: of a protocol, and, where there are any, to one of these ports."""

    protocol: int
    ports: tuple[PortRange, ...]


@dataclass(frozen=True, slots=True)
class InterfacePlan:
    """What is dropped early on an interface: sources whatever they send, sources with conditions; never failsafes."""

    plain: tuple[Source, ...] = ()
    conditional: tuple[tuple[Source, Condition], ...] = ()
    failsafes: frozenset[Failsafe] = frozenset()

    def conditions(self) -> list[Condition]:
        """Each condition once; its place is its bit."""
        return list(dict.fromkeys(condition for _, condition in self.conditional))


def plan_of(snapshot: Snapshot) -> tuple[Mapping[str, InterfacePlan], tuple[Planned, ...]]:
    """The plan of each interface that has something to drop, and what is said of each rule of untracked policy."""
    failsafes = _failsafes(snapshot.settings)
    plans: dict[str, InterfacePlan] = {}
    said: list[Planned] = []
    for interface, host in sorted(snapshot.host_endpoints.items()):
        if host.untracked_tiers and interface != _EVERY_INTERFACE:
            collector = _Collector(snapshot, interface, failsafes)
            collector.collect(host)
            said += collector.said
            if collector.plain or collector.conditional:
                plans[interface] = InterfacePlan(tuple(collector.plain), tuple(collector.conditional), failsafes)
    return plans, tuple(said)


class _Collector:
    """Goes through the rules of one host endpoint in the order in which a packet meets them."""

    def __init__(self, snapshot: Snapshot, interface: str, failsafes: frozenset[Failsafe]) -> None:
        self.plain: list[Source] = []
        self.conditional: list[tuple[Source, Condition]] = []
        self.said: list[Planned] = []
        self._snapshot = snapshot
        self._interface = interface
        self._failsafes = failsafes
        self._barrier = ""

    def collect(self, host: HostPolicy) -> None:
        for policy_id in (each for tier in host.untracked_tiers for each in tier.ingress):
            policy = self._snapshot.policies.get(policy_id)
            for number, rule in enumerate(policy.ingress if policy else ()):
                index = rule.origin.index if rule.origin else number
                name = f"{policy_id.kind} {policy_id.name} rule {index}"
                because = self._take(name, rule)
                what = f"{name} on {self._interface}"
                self.said.append(Planned(what, because.startswith("dropped"), because))

    def _take(self, name: str, rule: SnapshotRule) -> str:
        if self._barrier:
            return f"left to the dataplane: {self._barrier} comes before it and is no denial"
        if rule.action is not Action.DENY:
            self._barrier = name
            return f"left to the dataplane: its action is {rule.action.value}, only denials are dropped early"
        if unfit := _unfit(rule):
            return f"left to the dataplane: {unfit}"
        source = self._source(rule)
        if rule.protocol is None:
            self.plain.append(source)
            return "dropped early, whatever its sources send"
        condition = Condition(rule.protocol, rule.destination.ports)
        known = {each for _, each in self.conditional}
        if condition not in known and len(known) == MAX_CONDITIONS:
            return f"left to the dataplane: more than {MAX_CONDITIONS} different conditions on protocols and ports"
        self.conditional.append((source, condition))
        return "dropped early, by protocol" + (" and destination port" if condition.ports else "")

    def _source(self, rule: SnapshotRule) -> Source:
        if rule.source.sets:
            set_id = rule.source.sets[0]
            return Source(set_id, self._snapshot.ip_sets[set_id].nets, rule.ip_version)
        nets = frozenset(half for net in rule.source.nets for half in _without_zero(net)) or _EVERYBODY
        return Source("", nets, rule.ip_version)


def _without_zero(net: Net) -> Iterator[Net]:
    """A network of all addresses as its two halves: no table has a prefix of length 0."""
    yield from net.subnets() if net.prefixlen == 0 else (net,)


def _unfit(rule: SnapshotRule) -> str:
    """Why a denial cannot be dropped early; nothing if it can."""
    source, destination = rule.source, rule.destination
    reasons = {
        "it asks for an ICMP type or excludes a protocol": rule.icmp or rule.not_icmp or rule.not_protocol is not None,
        "it asks more of the source than to be in a set": replace(source, nets=(), sets=()) != SnapshotSide(),
        "a source must be in two sets at once": len(source.sets) + bool(source.nets) > 1,
        "it asks more of the destination than a port": replace(destination, ports=()) != SnapshotSide(),
        "it asks for ports of a protocol that has none": destination.ports and rule.protocol not in CLASSES,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _failsafes(settings: NodeSettings) -> frozenset[Failsafe]:
    """Ports that are never closed. Which sources a port is limited to is left to the dataplane: all of them pass."""
    sides = (
        (LAYOUT["FAILSAFE_INBOUND"], settings.failsafe_inbound),
        (LAYOUT["FAILSAFE_ANSWER"], settings.failsafe_outbound),
    )
    return frozenset(
        (CLASSES[port.protocol], side, port.port) for side, ports in sides for port in ports if port.protocol in CLASSES
    )
