# SPDX-License-Identifier: Apache-2.0
"""Packets with which to try rules: at the borders of what rules name, just within and just outside of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lab.lint.scene import Scene
from lab.oracle.packet import Packet
from lab.oracle.world import Location, Party
from lab.policy.resources import AdminRule, Direction, KubernetesRule, PortMatch, PortRange, Rule
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS
from lab.topology import DEFAULT_SOURCE_PORT, Address, Family, IcmpHeader, Net
from lab.topology.flows import FAMILIES

__all__ = ["Service", "Witnesses"]

_STRANGERS: dict[Family, Address] = {4: IPv4Address("203.0.113.254"), 6: IPv6Address("2001:db8:ffff::fe")}
"""Addresses (for documentation, RFC 5737 and RFC 3849) that are probably nobody's."""
_ODD_PROTOCOL = 253
"""A protocol that only rules without a protocol are likely to match (for experiments, RFC 3692)."""
_ODD_PORT = 49151
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Service:
    """What a packet carries besides its addresses."""

    protocol: int
    source_port: int | None = None
    port: int | None = None
    icmp: IcmpHeader | None = None


class Witnesses:
    """Locations and services that tell apart all rules of a scene, as far as one value at a time can."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        rules = [written.rule for written in scene.rules()]
        self._peers = self._locations(rules)
        self._services = list(_services(rules, scene))

    def peers(self, family: Family) -> list[Location]:
        """Everywhere where somebody else may be, first where nobody is known to be."""
        return self._peers[family]

    def ends(self, party: Party, direction: Direction) -> Iterator[Packet]:
        """Packets that end or begin at an end, one for each source and destination; see ``services``."""
        for family in FAMILIES:
            for here in self.own(party, family):
                for there in self._peers[family]:
                    ends = (there, here) if direction is Direction.INGRESS else (here, there)
                    yield Packet(family, _ODD_PROTOCOL, *ends, None, None, None)

    def services(self, packet: Packet) -> Iterator[Packet]:
        """A packet with every service in place of its own."""
        yield from self._carrying(packet.family, packet.source, packet.destination)

    def _carrying(self, family: Family, source: Location, destination: Location) -> Iterator[Packet]:
        for one in self._services:
            yield Packet(family, one.protocol, source, destination, one.source_port, one.port, one.icmp)

    def own(self, party: Party, family: Family) -> list[Location]:
        """Where an end itself is."""
        topology, world = self._scene.topology, self._scene.world
        if party.is_pod:
            addresses = topology.workloads[party.title].addresses
        else:
            addresses = topology.nodes[party.node].addresses if party.node else ()
        return [world.location(address) for address in addresses if address.version == family]

    def _locations(self, rules: Iterable[object]) -> dict[Family, list[Location]]:
        """Everybody's addresses, those at the borders of every network that a rule or set names, and a stranger's."""
        topology = self._scene.topology
        ends = (*topology.endpoints(), *topology.nodes.values())
        found: dict[Address, None] = dict.fromkeys(_STRANGERS.values())
        found |= dict.fromkeys(address for end in ends for address in end.addresses)
        nets = {net for rule in rules for net in _nets(rule)}
        nets |= {net for network_set in self._scene.resources.network_sets for net in network_set.nets}
        found |= dict.fromkeys(address for net in nets for address in _borders(net))
        locations = {self._scene.world.location(address): None for address in found}
        return {f: [each for each in locations if each.address.version == f] for f in FAMILIES}


def _nets(rule: object) -> Iterator[Net]:
    match rule:
        case Rule():
            for side in (rule.source, rule.destination):
                yield from side.nets
                yield from side.not_nets
        case KubernetesRule():
            for peer in rule.peers:
                if peer.ip_block is not None:
                    yield from (peer.ip_block.cidr, *peer.ip_block.except_)
        case AdminRule():
            for admin_peer in rule.peers:
                yield from admin_peer.networks or ()


def _borders(net: Net) -> Iterator[Address]:
    first, last = net.network_address, net.broadcast_address
    yield from (first, last)
    if int(first) > 0:
        yield first - 1
    if int(last) < (1 << net.max_prefixlen) - 1:
        yield last + 1


def _services(rules: list[Rule | KubernetesRule | AdminRule], scene: Scene) -> Iterator[Service]:
    """Every protocol that a rule names, with the borders of all ports, and something that no rule is about."""
    protocols = {*PORT_PROTOCOLS, *(number for rule in rules for number in _protocols(rule))}
    ports = {_ODD_PORT, *(port.port for party in scene.ends for port in party.ports)}
    ports |= {port.port for part in scene.resources.endpoint_slices for port in part.ports}
    ports |= {number for rule in rules for port in _ports(rule) for number in _ends(port)}
    source_ports = {DEFAULT_SOURCE_PORT}
    source_ports |= {number for rule in rules for port in _source_ports(rule) for number in _ends(port)}
    if any(isinstance(port, str) for rule in rules for port in _source_ports(rule)):
        source_ports |= {port.port for party in scene.ends for port in party.ports}
    headers = {IcmpHeader(254, 255), *(header for rule in rules for header in _headers(rule))}
    for protocol in sorted(protocols - {ICMP, ICMPV6} | {_ODD_PROTOCOL}):
        if protocol not in PORT_PROTOCOLS:
            yield Service(protocol)
            continue
        yield from (Service(protocol, source, port) for port in sorted(ports) for source in sorted(source_ports))
    for protocol in (ICMP, ICMPV6):
        yield from (Service(protocol, icmp=header) for header in sorted(headers, key=lambda h: (h.type, h.code)))


def _protocols(rule: Rule | KubernetesRule | AdminRule) -> Iterator[int]:
    if isinstance(rule, Rule):
        yield from (match.number for match in (rule.protocol, rule.not_protocol) if match is not None)
    else:
        yield from (port.protocol for port in rule.ports if port.protocol is not None)


def _ports(rule: Rule | KubernetesRule | AdminRule) -> Iterator[PortMatch]:
    match rule:
        case Rule():
            yield from (*rule.destination.ports, *rule.destination.not_ports)
        case KubernetesRule():
            for port in rule.ports:
                if isinstance(port.port, int):
                    yield PortRange(port.port, port.port if port.end_port is None else port.end_port)
        case AdminRule():
            yield from (admin_port.ports for admin_port in rule.ports if admin_port.ports is not None)


def _source_ports(rule: Rule | KubernetesRule | AdminRule) -> Iterator[PortMatch]:
    if isinstance(rule, Rule):
        yield from (*rule.source.ports, *rule.source.not_ports)


def _ends(port: PortMatch) -> Iterator[int]:
    """A range's first and last port, and their neighbours outside of it."""
    if isinstance(port, PortRange):
        yield from (n for n in (port.first - 1, port.first, port.last, port.last + 1) if 1 <= n <= _LAST_PORT)


def _headers(rule: Rule | KubernetesRule | AdminRule) -> Iterator[IcmpHeader]:
    """Each ICMP header that a rule names, and its neighbours."""
    for match in (rule.icmp, rule.not_icmp) if isinstance(rule, Rule) else ():
        if match is not None:
            codes = (0, 1) if match.code is None else (match.code, (match.code + 1) % 256)
            yield from (IcmpHeader(match.type, code) for code in codes)
            yield IcmpHeader((match.type + 1) % 256, 0)
