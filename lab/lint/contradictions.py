# SPDX-License-Identifier: Apache-2.0
"""Rules that contradict themselves: whatever the topology, no packet can ever match them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from lab.lint.finding import Finding
from lab.lint.satisfiable import is_satisfiable
from lab.lint.scene import Scene, Written
from lab.oracle.peers import given
from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPort,
    AdminRule,
    EntityRule,
    IpBlock,
    KubernetesPeer,
    KubernetesRule,
    PortMatch,
    PortRange,
    Rule,
)
from lab.protocols import ICMP, ICMPV6, protocol_label
from lab.topology import Net

__all__ = ["contradictions", "covers", "never_matches"]

_IMPLIED = {ICMP: 4, ICMPV6: 6}


def contradictions(scene: Scene) -> Iterator[Finding]:
    """A finding for each rule that no packet can match, with the first reason for it."""
    for written in scene.rules():
        reason = next(reasons(written.rule), None)
        if reason is not None:
            message = f"the rule can never match: {reason}"
            yield Finding("lint.rule-never-matches", "warning", written.rule.place, written.about, message)


def never_matches(written: Written) -> bool:
    """Whether a rule contradicts itself."""
    return next(reasons(written.rule), None) is not None


def reasons(rule: Rule | KubernetesRule | AdminRule) -> Iterator[str]:
    """Everything in a rule that cannot be."""
    match rule:
        case Rule():
            yield from _of_header(rule)
            for name, side in (("source", rule.source), ("destination", rule.destination)):
                yield from (f"{name}.{reason}" for reason in _of_side(side))
        case KubernetesRule(peers=peers):
            if peers and all(map(_is_empty_peer, peers)):
                yield "the exceptions of its ipBlock cover all of it"
        case AdminRule(action=Action.ALLOW, peers=admin_peers, ports=ports):
            if AdminPeer() in admin_peers or AdminPort() in ports:
                yield "it holds a kind of peer or port that nobody knows, so it allows nothing"


def _of_header(rule: Rule) -> Iterator[str]:
    if rule.protocol and rule.not_protocol and rule.protocol.number == rule.not_protocol.number:
        yield f"protocol and notProtocol are both {protocol_label(rule.protocol.number)}"
    icmp, negative = rule.icmp, rule.not_icmp
    if icmp and negative and icmp.type == negative.type and negative.code in {None, icmp.code}:
        yield "notICMP excludes what icmp asks for"
    families = [(name, families) for name, families in _families(rule) if families]
    for index, (name, possible) in enumerate(families):
        for other, allowed in families[:index]:
            if possible.isdisjoint(allowed):
                yield f"{other} is IPv{min(allowed)}, {name} is IPv{min(possible)}"


def _families(rule: Rule) -> Iterator[tuple[str, set[int]]]:
    """What each field leaves of the two families; only a protocol's name implies one, and no other ipVersion."""
    if rule.ip_version is not None:
        yield "ipVersion", {rule.ip_version}
    elif rule.protocol is not None and rule.protocol.by_name and rule.protocol.number in _IMPLIED:
        yield f"protocol {protocol_label(rule.protocol.number)}", {_IMPLIED[rule.protocol.number]}
    for name, side in (("source", rule.source), ("destination", rule.destination)):
        yield f"{name}.nets", {net.version for net in side.nets}
        yield f"{name}.notNets", {net.version for net in side.not_nets}


def _of_side(side: EntityRule) -> Iterator[str]:
    if side.nets and all(covers(side.not_nets, net) for net in side.nets):
        yield "notNets cover all of its nets"
    if side.ports and side.not_ports and all(_excluded(port, side.not_ports) for port in side.ports):
        yield "notPorts cover all of its ports"
    for name, selector in (("selector", side.selector), ("namespaceSelector", side.namespace_selector)):
        if selector is not None and not is_satisfiable(selector):
            yield f"{name} contradicts itself: no labels can pass {selector.text}"
    selector, negative = given(side.selector), given(side.not_selector)
    # Alone it lets strangers through, who have no labels to be excluded by.
    positive = selector is not None or given(side.namespace_selector) is not None or side.service_accounts is not None
    if positive and negative is not None and not is_satisfiable(negative.negated()):
        yield f"notSelector {negative.text} excludes everybody"
    elif selector is not None and negative is not None and selector.canonical == negative.canonical:
        yield "selector and notSelector are the same"


def covers(nets: Iterable[Net], net: Net) -> bool:
    """Whether a network lies wholly in the union of some others."""
    same: list[IPv4Network] = [each for each in nets if isinstance(each, IPv4Network)]
    other: list[IPv6Network] = [each for each in nets if isinstance(each, IPv6Network)]
    if isinstance(net, IPv4Network):
        return any(net.subnet_of(one) for one in collapse_addresses(same))
    return any(net.subnet_of(one) for one in collapse_addresses(other))


def _excluded(port: PortMatch, others: tuple[PortMatch, ...]) -> bool:
    """Whether every port that one entry stands for is among some others."""
    if isinstance(port, str):
        return port in others
    reached = port.first
    for first, last in sorted((one.first, one.last) for one in others if isinstance(one, PortRange)):
        if first <= reached <= last:
            reached = last + 1
    return reached > port.last


def _is_empty_peer(peer: KubernetesPeer) -> bool:
    return isinstance(peer.ip_block, IpBlock) and covers(peer.ip_block.except_, peer.ip_block.cidr)
