# SPDX-License-Identifier: Apache-2.0
"""Snapshots built by hand for the tests of the iptables dataplane."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from dataplanes.api import (
    Action,
    Direction,
    EndpointPolicy,
    FailsafePort,
    HostPolicy,
    IcmpMatch,
    IpSet,
    NodeSettings,
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


def host(interface, name, **stages):
    """A host endpoint; a stage that is not given has no policy."""
    given = {"tiers": (), "profiles": (), "forward_tiers": (), "pre_dnat_tiers": (), "untracked_tiers": ()} | stages
    return HostPolicy(interface, name, **given)


def one_tier(policy_id, *, ingress=True, egress=True):
    return (TierPolicies("default", (policy_id,) * ingress, (policy_id,) * egress, pass_by_default=False),)


def global_policy(name, ingress=(), egress=()):
    policy_id = PolicyId("GlobalNetworkPolicy", "", name)
    return SnapshotPolicy(
        policy_id,
        "default",
        owned(policy_id, Direction.INGRESS, *ingress),
        owned(policy_id, Direction.EGRESS, *egress),
    )


SETTINGS = NodeSettings(
    endpoint_to_host_action="return",
    failsafe_inbound=(FailsafePort(6, 22), FailsafePort(17, 68, ip_network("198.19.0.0/24"))),
    failsafe_outbound=(FailsafePort(17, 53), FailsafePort(6, 2379, ip_network("fd00:19::/64"))),
    allow_ipip_from_workloads=True,
    vxlan_port=4790,
    drop_invalid=True,
    masquerade=nets("198.18.0.0/16", "fd00:18::/32"),
    pools=nets("198.18.0.0/16", "198.20.0.0/16", "fd00:18::/32"),
)


def host_stages():
    """A node with a named and a general host endpoint that have policies at every stage, and all settings."""
    web = rule(protocol=6, destination=side(ports=ports(80)))
    answers = rule(protocol=6, source=side(ports=ports(80)))
    policies = [
        global_policy("normal", [web], [rule(protocol=17)]),
        global_policy("forward", [web], [rule(Action.DENY, protocol=17), rule()]),
        global_policy("pinhole", [rule(protocol=6, destination=side(ports=ports(32010))), rule(Action.DENY)]),
        global_policy("stateless", [web], [answers]),
    ]
    normal, forward, pinhole, stateless = (policy.policy_id for policy in policies)
    eth0 = host(
        "eth0",
        "node-1-eth0",
        tiers=one_tier(normal),
        profiles=("kns.x",),
        forward_tiers=one_tier(forward, egress=False),
        untracked_tiers=one_tier(stateless),
    )
    rest = host(
        "*",
        "node-1-all",
        tiers=one_tier(normal, egress=False),
        forward_tiers=one_tier(forward),
        pre_dnat_tiers=one_tier(pinhole, egress=False),
        untracked_tiers=one_tier(stateless),
    )
    found = snapshot([endpoint(1)], policies)
    return replace(found, host_endpoints={"*": rest, "eth0": eth0}, settings=SETTINGS)
