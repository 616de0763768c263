# SPDX-License-Identifier: Apache-2.0
"""Snapshots built by hand for the tests of the iptables dataplane."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from dataplanes.api import (
    Action,
    Direction,
    EndpointPolicy,
    IcmpMatch,
    IpSet,
    PolicyId,
    PortMember,
    PortRange,
    RuleOrigin,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)

WEB = PolicyId("NetworkPolicy", "x", "web")
GUARD = PolicyId("GlobalNetworkPolicy", "", "guard")
CLIENTS = IpSet(
    "sel-clients",
    "net",
    nets=frozenset(map(ip_network, ("198.18.0.1/32", "fd00:18::1/128", "0.0.0.0/1", "128.0.0.0/1"))),
    about='app == "client"',
)
HTTP = IpSet(
    "port-http",
    "port",
    ports=frozenset(
        PortMember(ip_address(address), protocol, number)
        for address, protocol, number in (("198.18.0.2", 6, 8080), ("198.18.0.2", 132, 81), ("fd00:18::2", 17, 8080))
    ),
    about="port http",
)


def nets(*texts):
    return tuple(map(ip_network, texts))


def ports(*numbers):
    return tuple(PortRange(*n) if isinstance(n, tuple) else PortRange(n, n) for n in numbers)


def side(**fields):
    return SnapshotSide(**fields)


def rule(action=Action.ALLOW, **fields):
    return SnapshotRule(action, **fields)


def owned(policy_id, direction, *rules):
    """The rules as the compiler hands them over: each says whose it is."""
    return tuple(
        SnapshotRule(
            found.action,
            found.ip_version,
            found.protocol,
            found.not_protocol,
            found.icmp,
            found.not_icmp,
            found.source,
            found.destination,
            RuleOrigin(str(policy_id), direction, number, None),
        )
        for number, found in enumerate(rules)
    )


def endpoint(number, *tiers, profiles=("kns.x",)):
    interface = f"cali{number:011x}"
    return EndpointPolicy(interface, f"x/{number}", (ip_address("198.18.0.0") + number,), tiers, profiles)


def snapshot(endpoints, policies=(), ip_sets=(CLIENTS, HTTP), profiles=None):
    everything = (SnapshotRule(Action.ALLOW),)
    known = {"kns.x": SnapshotProfile("kns.x", everything, everything)} if profiles is None else profiles
    return Snapshot(
        "node-1",
        {found.interface: found for found in endpoints},
        {policy.policy_id: policy for policy in policies},
        known,
        {ip_set.set_id: ip_set for ip_set in ip_sets},
    )


def every_field():
    """A snapshot that uses each field of a rule, alone and beside others, in both directions."""
    alternatives = side(ports=ports(80, (8000, 8010)), port_sets=("port-http",), nets=nets("10.0.0.0/8", "fd00::/8"))
    many = ports(*range(100, 116))
    rules = (
        rule(protocol=6, source=side(sets=("sel-clients",)), destination=side(ports=ports(80))),
        rule(protocol=6, source=side(ports=ports(1, (5, 9)), port_sets=("port-http",)), destination=alternatives),
        rule(Action.DENY, protocol=17, destination=side(ports=many, not_ports=many)),
        rule(
            Action.DENY, protocol=132, source=side(not_ports=ports(7)), destination=side(not_port_sets=("port-http",))
        ),
        rule(Action.DENY, source=side(nets=nets("10.0.0.0/8"), not_nets=nets("10.1.0.0/16"))),
        rule(source=side(not_nets=nets("10.1.0.0/16", "10.2.0.0/16", "fd01::/16"), not_sets=("sel-clients",))),
        rule(Action.PASS, not_protocol=253, destination=side(nets=nets("0.0.0.0/0", "::/0"))),
        rule(Action.LOG, not_icmp=IcmpMatch(8, 0)),
        rule(protocol=1, icmp=IcmpMatch(8, None), not_icmp=IcmpMatch(8, 1)),
        rule(protocol=58, icmp=IcmpMatch(128, 0), not_icmp=IcmpMatch(128, 1)),
        rule(ip_version=6, protocol=253),
        rule(ip_version=4, destination=side(port_sets=("port-http",))),
    )
    web = SnapshotPolicy(WEB, "default", owned(WEB, Direction.INGRESS, *rules), owned(WEB, Direction.EGRESS, *rules))
    guard = SnapshotPolicy(GUARD, "security", (), owned(GUARD, Direction.EGRESS, rule(Action.PASS)))
    tiers = (
        TierPolicies("security", (), (GUARD,), pass_by_default=True),
        TierPolicies("default", (WEB,), (WEB,), pass_by_default=False),
    )
    return snapshot([endpoint(1, *tiers), endpoint(2, *tiers, profiles=("gone",)), endpoint(3)], [web, guard])
