# SPDX-License-Identifier: Apache-2.0
"""Reads snapshots as a dataplane would, in the plainest way: one packet, every rule in order."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from lab.policy.resources import Action, Direction
from lab.policy.snapshot import Snapshot
from lab.topology import Workload, address_of


@dataclass(frozen=True)
class Sent:
    """A packet as the rules see it; ``icmp`` is a type and a code."""

    protocol: int
    source: object
    destination: object
    source_port: int | None = None
    port: int | None = None
    icmp: tuple[int, int] | None = None


def any_in(address, nets):
    return any(address in net for net in nets if net.version == address.version)


def in_ranges(port, ranges):
    return port is not None and any(found.first <= port <= found.last for found in ranges)


def in_port_sets(snapshot, names, address, protocol, port):
    return any(
        (found.address, found.protocol, found.port) == (address, protocol, port)
        for name in names
        for found in snapshot.ip_sets[name].ports
    )


def side_matches(snapshot, side, protocol, address, port):
    has_ports = bool(side.ports or side.port_sets)
    sets = {name: any_in(address, snapshot.ip_sets[name].nets) for name in (*side.sets, *side.not_sets)}
    return (
        (not side.nets or any_in(address, side.nets))
        and not any_in(address, side.not_nets)
        and all(sets[name] for name in side.sets)
        and not any(sets[name] for name in side.not_sets)
        and (
            not has_ports
            or in_ranges(port, side.ports)
            or in_port_sets(snapshot, side.port_sets, address, protocol, port)
        )
        and not in_ranges(port, side.not_ports)
        and not in_port_sets(snapshot, side.not_port_sets, address, protocol, port)
    )


def icmp_matches(match, icmp):
    return icmp is not None and match.type == icmp[0] and match.code in (None, icmp[1])


def rule_matches(snapshot, rule, sent):
    return (
        rule.ip_version in (None, sent.source.version)
        and rule.protocol in (None, sent.protocol)
        and (rule.not_protocol is None or rule.not_protocol != sent.protocol)
        and (rule.icmp is None or icmp_matches(rule.icmp, sent.icmp))
        and (rule.not_icmp is None or not icmp_matches(rule.not_icmp, sent.icmp))
        and side_matches(snapshot, rule.source, sent.protocol, sent.source, sent.source_port)
        and side_matches(snapshot, rule.destination, sent.protocol, sent.destination, sent.port)
    )


def first_action(snapshot, rules, sent):
    """The action of the first rule that matches and ends something, or None."""
    return next(
        (rule.action for rule in rules if rule.action is not Action.LOG and rule_matches(snapshot, rule, sent)), None
    )


def tiers_outcome(snapshot, tiers, direction, sent):
    """True or False where a policy or the end of a tier decides, None where all pass."""
    for tier in tiers:
        names = tier.ingress if direction is Direction.INGRESS else tier.egress
        if not names:
            continue
        owners = [snapshot.policies[name] for name in names]
        rules = [rule for owner in owners for rule in getattr(owner, direction.value)]
        action = first_action(snapshot, rules, sent)
        if action in (Action.ALLOW, Action.DENY):
            return action is Action.ALLOW
        if action is None and not tier.pass_by_default:
            return False
    return None


def profiles_outcome(snapshot, profiles, direction, sent):
    """Profiles after the last tier; what none allows is dropped."""
    for name in profiles:
        profile = snapshot.profiles.get(name)
        if profile is None:
            return False
        action = first_action(snapshot, getattr(profile, direction.value), sent)
        if action in (Action.ALLOW, Action.DENY):
            return action is Action.ALLOW
    return False


def endpoint_allows(snapshot: Snapshot, interface: str, direction: Direction, sent: Sent) -> bool:
    endpoint, settings = snapshot.endpoints[interface], snapshot.settings
    if sent.source.version == 6 and not settings.ipv6:
        return True
    if direction is Direction.EGRESS:
        if sent.protocol == 4 and not settings.allow_ipip_from_workloads:
            return False
        if sent.protocol == 17 and sent.port == settings.vxlan_port and not settings.allow_vxlan_from_workloads:
            return False
    decided = tiers_outcome(snapshot, endpoint.tiers, direction, sent)
    return profiles_outcome(snapshot, endpoint.profiles, direction, sent) if decided is None else decided


def sent_by(topology, flow) -> Sent:
    icmp = None
    if flow.protocol in (1, 58):
        icmp = (flow.icmp.type, flow.icmp.code) if flow.icmp else ((8, 0) if flow.protocol == 1 else (128, 0))
    source, destination = (address_of(topology.end(name), flow.family) for name in (flow.source, flow.destination))
    return Sent(flow.protocol, ip_address(source), ip_address(destination), flow.source_port, flow.port, icmp)


def flow_allowed(topology, snapshots, flow) -> bool:
    """Both ends' policies, where the ends are workloads."""
    sent = sent_by(topology, flow)
    asked = ((flow.source, Direction.EGRESS), (flow.destination, Direction.INGRESS))
    ends = [(topology.end(name), direction) for name, direction in asked]
    return all(
        endpoint_allows(snapshots[end.node], end.interface, direction, sent)
        for end, direction in ends
        if isinstance(end, Workload)
    )
