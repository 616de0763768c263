# SPDX-License-Identifier: Apache-2.0
"""Faults of a dataplane that misreads what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network

from changes import (
    change_endpoints,
    change_lists,
    change_policy_rules,
    change_rules,
    change_sets,
    change_sides,
    change_tiers,
    in_each_policy,
)
from faults import Fault

from dataplanes.api import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    SCTP,
    Action,
    Direction,
    EndpointPolicy,
    IcmpMatch,
    IpSet,
    Net,
    PolicyId,
    PortMember,
    PortRange,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)

__all__ = ["SNAPSHOT_FAULTS"]

Rules = tuple[SnapshotRule, ...]
_OPEN = (SnapshotRule(Action.ALLOW),)
# xt_multiport holds 15 ports.
_SLOTS = 15
# Letters in the name of a chain of iptables.
_LETTERS = 28
# Jumps within jumps in nftables.
_JUMPS = 16
# Networks on a line of 1000 characters or so.
_LINE = 64
# Protocols with a name; the others have a number only.
_NAMED_PROTOCOLS = {*PORT_PROTOCOLS, 1, 58}


def _first_of_a_beginning(snapshot: Snapshot) -> Snapshot:
    first: dict[str, SnapshotPolicy] = {}
    policies = {}
    for key, policy in sorted(snapshot.policies.items(), key=lambda item: item[0].name):
        meant = first.setdefault(key.name[:_LETTERS], policy)
        policies[key] = replace(policy, ingress=meant.ingress, egress=meant.egress)
    return replace(snapshot, policies=policies)


def _forgets_ipv6(rules: Rules, _direction: Direction, _snapshot: Snapshot) -> Rules:
    return (SnapshotRule(Action.ALLOW, ip_version=6), *rules)


def _only_in_ipv4(rule: SnapshotRule) -> Iterator[SnapshotRule]:
    if rule.ip_version != 6:
        yield replace(rule, ip_version=4)


def _ranges(change: Callable[[PortRange], PortRange]) -> Callable[[SnapshotSide], SnapshotSide]:
    def changed(ports: Iterable[PortRange]) -> tuple[PortRange, ...]:
        return tuple(change(found) if found.first < found.last else found for found in ports)

    return lambda side: replace(side, ports=changed(side.ports), not_ports=changed(side.not_ports))


def _longer_prefix(net: Net) -> Net:
    """The net's first half."""
    return net if net.prefixlen == net.max_prefixlen else ip_network((net.network_address, net.prefixlen + 1))


def _type_zero(icmp: IcmpMatch | None) -> IcmpMatch | None:
    return None if icmp is not None and icmp.type == 0 else icmp


def _any_code(icmp: IcmpMatch | None) -> IcmpMatch | None:
    return None if icmp is None else replace(icmp, code=None)


def _code_zero(icmp: IcmpMatch | None) -> IcmpMatch | None:
    return _any_code(icmp) if icmp is not None and icmp.code == 0 else icmp


def _negated_means_icmp(rule: SnapshotRule) -> Iterator[SnapshotRule]:
    """What nft makes of a condition on ICMP by itself: it asks for the protocol as well."""
    if rule.not_icmp is None or rule.protocol is not None:
        yield rule
        return
    for protocol in (ICMP, ICMPV6):
        yield replace(rule, protocol=protocol)


def _without_sctp(rule: SnapshotRule) -> Iterator[SnapshotRule]:
    if rule.protocol != SCTP:
        yield rule


def _without_nameless_protocols(rule: SnapshotRule) -> SnapshotRule:
    return rule if rule.protocol in _NAMED_PROTOCOLS else replace(rule, protocol=None)


def _without_pass(rule: SnapshotRule) -> Iterator[SnapshotRule]:
    if rule.action is not Action.PASS:
        yield rule


def _up_to_log(rules: Rules, _direction: Direction, _snapshot: Snapshot) -> Iterator[SnapshotRule]:
    for rule in rules:
        yield rule
        if rule.action is Action.LOG:
            return


def _log_accepts(rule: SnapshotRule) -> SnapshotRule:
    return replace(rule, action=Action.ALLOW) if rule.action is Action.LOG else rule


def _allow_first(rules: Rules, _direction: Direction, _snapshot: Snapshot) -> Rules:
    return tuple(sorted(rules, key=lambda rule: rule.action is not Action.ALLOW))


def _last_tiers(snapshot: Snapshot) -> set[str]:
    """The names of the tiers after which no other has a say, for any workload."""
    return {endpoint.tiers[-1].name for endpoint in snapshot.endpoints.values() if endpoint.tiers}


def _last_pass_accepts(snapshot: Snapshot) -> Snapshot:
    last = _last_tiers(snapshot)

    def changed(rules: Rules) -> Rules:
        return tuple(replace(rule, action=Action.ALLOW) if rule.action is Action.PASS else rule for rule in rules)

    policies = {
        key: replace(policy, ingress=changed(policy.ingress), egress=changed(policy.egress))
        if policy.tier in last
        else policy
        for key, policy in snapshot.policies.items()
    }
    return replace(snapshot, policies=policies)


def _local_egress_open(rules: Rules, direction: Direction, snapshot: Snapshot) -> Rules:
    if direction is Direction.INGRESS:
        return rules
    local = tuple(ip_network(address) for endpoint in snapshot.endpoints.values() for address in endpoint.addresses)
    return (SnapshotRule(Action.ALLOW, destination=SnapshotSide(nets=local)), *rules)


def _ports_of_any_protocol(snapshot: Snapshot) -> Snapshot:
    """Neither the sets nor the rules that ask them care for the protocol."""

    def widened(found: IpSet) -> IpSet:
        ports = {replace(member, protocol=protocol) for member in found.ports for protocol in PORT_PROTOCOLS}
        return replace(found, ports=frozenset[PortMember](ports))

    def careless(rule: SnapshotRule) -> SnapshotRule:
        named = rule.source.port_sets or rule.destination.port_sets
        numbered = rule.source.ports or rule.destination.ports
        return replace(rule, protocol=None) if named and not numbered else rule

    return change_rules(careless)(change_sets(widened)(snapshot))


def _selector_or_port(rule: SnapshotRule) -> Iterator[SnapshotRule]:
    side = rule.destination
    yield rule
    if side.sets and side.port_sets:
        yield replace(rule, destination=replace(side, port_sets=()))


def _numbers_hide_names(side: SnapshotSide) -> SnapshotSide:
    return replace(side, port_sets=()) if side.ports else side


def _profiles_made_up(endpoint_profiles: Iterable[str], snapshot: Snapshot) -> Snapshot:
    made_up = {name: SnapshotProfile(name, _OPEN, _OPEN) for name in endpoint_profiles}
    return replace(snapshot, profiles={**made_up, **snapshot.profiles})


def _missing_profiles_open(snapshot: Snapshot) -> Snapshot:
    named = (name for endpoint in snapshot.endpoints.values() for name in endpoint.profiles)
    return _profiles_made_up(named, snapshot)


def _open_without_profile(snapshot: Snapshot) -> Snapshot:
    def opened(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
        return endpoint if endpoint.profiles else replace(endpoint, profiles=("open",))

    return change_endpoints(opened)(_profiles_made_up(["open"], snapshot))


def _first_profile_only(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
    return replace(endpoint, profiles=endpoint.profiles[:1])


def _tiers_reversed(endpoint: EndpointPolicy, _snapshot: Snapshot) -> EndpointPolicy:
    return replace(endpoint, tiers=endpoint.tiers[::-1])


def _both_directions(tier: TierPolicies) -> TierPolicies:
    policies = tuple(dict.fromkeys((*tier.ingress, *tier.egress)))
    return replace(tier, ingress=policies, egress=policies)


def _without_empty_policies(snapshot: Snapshot) -> Snapshot:
    def some(policies: tuple[PolicyId, ...]) -> Iterator[PolicyId]:
        for key in policies:
            if snapshot.policies[key].ingress or snapshot.policies[key].egress:
                yield key

    return change_lists(some)(snapshot)


def _addresses_only(found: IpSet) -> IpSet:
    return replace(found, nets=frozenset(net for net in found.nets if net.prefixlen == net.max_prefixlen))


SNAPSHOT_FAULTS = (
    Fault(
        "closes-tunnels",
        "Asks host endpoints of what nodes carry for each other.",
        "host.tunnel.between-nodes-only",
        snapshot=lambda snapshot: replace(snapshot, settings=replace(snapshot.settings, tunnel_peers=())),
    ),
    Fault(
        "ipv6-all-the-same",
        "Polices IPv6 where it is told to leave it alone.",
        "family.ipv6.support-off",
        snapshot=lambda snapshot: replace(snapshot, settings=replace(snapshot.settings, ipv6=True)),
    ),
    Fault(
        "forgets-ipv6",
        "Enforces policies in IPv4 and lets all of IPv6 through.",
        "family.ipv6.rules-enforced",
        snapshot=in_each_policy(_forgets_ipv6),
    ),
    Fault(
        "renders-ipv4-only",
        "Has the default deny of both families and the rules of IPv4 alone.",
        "family.ipv6.rules-enforced",
        snapshot=change_policy_rules(_only_in_ipv4),
    ),
    Fault(
        "ignores-ip-version",
        "Takes a rule of one family for both.",
        "family.ip-version.limits-rule",
        snapshot=change_rules(lambda rule: replace(rule, ip_version=None)),
    ),
    Fault(
        "range-lacks-last-port",
        "Ends a port range one too early.",
        "rule.ports.range-last-included",
        snapshot=change_sides(_ranges(lambda found: replace(found, last=found.last - 1))),
    ),
    Fault(
        "range-lacks-first-port",
        "Begins a port range one too late.",
        "rule.ports.range-first-included",
        snapshot=change_sides(_ranges(lambda found: replace(found, first=found.first + 1))),
    ),
    Fault(
        "ignores-source-ports",
        "Does not look where a packet comes from.",
        "rule.ports.of-source",
        snapshot=change_rules(lambda rule: replace(rule, source=replace(rule.source, ports=()))),
    ),
    Fault(
        "truncates-ports",
        "Keeps as many ports as one kernel match holds.",
        "rule.ports.more-than-fifteen",
        snapshot=change_sides(lambda side: replace(side, ports=side.ports[:_SLOTS])),
    ),
    Fault(
        "truncates-not-ports",
        "Keeps as many exceptions among ports as one kernel match holds.",
        "rule.not-ports.more-than-fifteen",
        snapshot=change_sides(lambda side: replace(side, not_ports=side.not_ports[:_SLOTS])),
    ),
    Fault(
        "truncates-nets",
        "Keeps as many networks of a rule as fit on a line.",
        "rule.nets.more-than-a-hundred",
        snapshot=change_sides(lambda side: replace(side, nets=side.nets[:_LINE])),
    ),
    Fault(
        "truncates-names",
        "Calls chains by the beginnings of the policies' names, so that one policy has the rules of another.",
        "policy.name.long",
        snapshot=_first_of_a_beginning,
    ),
    Fault(
        "truncates-tiers",
        "Asks as many tiers as nftables has jumps within jumps.",
        "tier.order.more-than-sixteen",
        snapshot=change_endpoints(lambda endpoint, _snapshot: replace(endpoint, tiers=endpoint.tiers[:_JUMPS])),
    ),
    Fault(
        "ignores-not-ports",
        "Knows no exception among ports.",
        "rule.not-ports.beats-ports",
        snapshot=change_sides(lambda side: replace(side, not_ports=())),
    ),
    Fault(
        "ignores-not-nets",
        "Knows no exception among networks.",
        "rule.not-nets.beats-nets",
        snapshot=change_sides(lambda side: replace(side, not_nets=())),
    ),
    Fault(
        "first-not-net-only",
        "Looks at the first exception among networks and at no other.",
        "rule.not-nets.none-of-several",
        snapshot=change_sides(lambda side: replace(side, not_nets=side.not_nets[:1])),
    ),
    Fault(
        "first-net-only",
        "Looks at the first network of a list and at no other.",
        "rule.nets.any-of-several",
        snapshot=change_sides(lambda side: replace(side, nets=side.nets[:1])),
    ),
    Fault(
        "prefix-off-by-one",
        "Matches the first half of a network.",
        "rule.nets.first-and-last-address",
        snapshot=change_sides(lambda side: replace(side, nets=tuple(map(_longer_prefix, side.nets)))),
    ),
    Fault(
        "sets-hold-addresses-only",
        "Leaves networks out of its sets.",
        "network-set.nets.zero-prefix",
        snapshot=change_sets(_addresses_only),
    ),
    Fault(
        "ignores-not-selector",
        "Knows no exception among endpoints.",
        "rule.not-selector.global",
        snapshot=change_sides(lambda side: replace(side, not_sets=())),
    ),
    Fault(
        "named-port-ignores-protocol",
        "Takes a port name for its number, whatever the protocol.",
        "named-port.protocol.tcp-does-not-open-udp",
        snapshot=_ports_of_any_protocol,
    ),
    Fault(
        "named-port-or-selector",
        "Takes a selector and a port name as alternatives.",
        "named-port.selector.both-must-hold",
        snapshot=change_policy_rules(_selector_or_port),
    ),
    Fault(
        "ignores-negated-port-name",
        "Knows no exception among port names.",
        "named-port.negated.wins-over-numbers",
        snapshot=change_sides(lambda side: replace(side, not_port_sets=())),
    ),
    Fault(
        "numbers-hide-names",
        "Forgets the names in a list of ports that has numbers too.",
        "rule.ports.number-or-name",
        snapshot=change_sides(_numbers_hide_names),
    ),
    Fault(
        "forgets-sctp",
        "Leaves the rules of a protocol out.",
        "protocol.sctp.ports-enforced",
        snapshot=change_policy_rules(_without_sctp),
    ),
    Fault(
        "ignores-not-protocol",
        "Knows no exception among protocols.",
        "protocol.negated.both-families",
        snapshot=change_rules(lambda rule: replace(rule, not_protocol=None)),
    ),
    Fault(
        "ignores-nameless-protocols",
        "Takes a protocol that has no name for any.",
        "protocol.number.without-name",
        snapshot=change_rules(_without_nameless_protocols),
    ),
    Fault(
        "icmp-type-zero-unset",
        "Takes ICMP type 0 for no type.",
        "icmp.type.zero-is-a-constraint",
        snapshot=change_rules(lambda rule: replace(rule, icmp=_type_zero(rule.icmp))),
    ),
    Fault(
        "icmp-code-zero-unset",
        "Takes ICMP code 0 for no code.",
        "icmp.code.zero-is-a-constraint",
        snapshot=change_rules(lambda rule: replace(rule, icmp=_code_zero(rule.icmp))),
    ),
    Fault(
        "ignores-icmp-code",
        "Looks at the type of ICMP messages only.",
        "icmp.negated.type-and-code",
        snapshot=change_rules(lambda rule: replace(rule, icmp=_any_code(rule.icmp), not_icmp=_any_code(rule.not_icmp))),
    ),
    Fault(
        "negated-icmp-means-icmp",
        "Takes a rule that excludes an ICMP message for one on ICMP.",
        "icmp.negated.without-protocol",
        snapshot=change_policy_rules(_negated_means_icmp),
    ),
    Fault(
        "log-accepts",
        "Lets through what it has logged.",
        "rule.log.last-then-tier-default",
        snapshot=change_rules(_log_accepts),
    ),
    Fault(
        "log-ends-policy",
        "Asks no rule after one that logs.",
        "rule.log.goes-on",
        snapshot=in_each_policy(_up_to_log),
    ),
    Fault(
        "allow-rules-first",
        "Asks the rules that allow before the others.",
        "rule.order.first-match-decides",
        snapshot=in_each_policy(_allow_first),
    ),
    Fault(
        "ignores-pass",
        "Goes on to the next rule where it should leave the tier.",
        "tier.pass.skips-rest-of-tier",
        snapshot=change_policy_rules(_without_pass),
    ),
    Fault(
        "pass-in-last-tier-accepts",
        "Lets a packet through that the last tier passes on.",
        "tier.pass.in-last-tier",
        snapshot=_last_pass_accepts,
    ),
    Fault(
        "tier-default-always-deny",
        "Drops at the end of a tier whose default is Pass.",
        "tier.default.pass-reaches-next-tier",
        snapshot=change_tiers(lambda tier: replace(tier, pass_by_default=False)),
    ),
    Fault(
        "tier-default-always-pass",
        "Goes on at the end of a tier whose default is Deny.",
        "tier.default.deny-ends-evaluation",
        snapshot=change_tiers(lambda tier: replace(tier, pass_by_default=True)),
    ),
    Fault(
        "tiers-reversed",
        "Asks the last tier first.",
        "tier.order.lower-first",
        snapshot=change_endpoints(_tiers_reversed),
    ),
    Fault(
        "policies-reversed",
        "Asks the policy of the highest order first.",
        "policy.order.lower-first",
        snapshot=change_lists(lambda policies: policies[::-1]),
    ),
    Fault(
        "ignores-empty-policies",
        "Isolates nobody by a policy without rules.",
        "policy.ingress.empty-isolates",
        snapshot=_without_empty_policies,
    ),
    Fault(
        "ignores-types",
        "Holds every policy to both directions.",
        "policy.types.absent-with-ingress",
        snapshot=change_tiers(_both_directions),
    ),
    Fault(
        "local-egress-open",
        "Enforces egress only towards other nodes.",
        "path.same-node.egress-enforced",
        snapshot=in_each_policy(_local_egress_open),
    ),
    Fault(
        "missing-profile-allows",
        "Takes a profile that nobody defined for one that allows all.",
        "profile.missing.denies",
        snapshot=_missing_profiles_open,
    ),
    Fault(
        "no-profile-allows",
        "Leaves an endpoint open that has no profile.",
        "profile.none.closed",
        snapshot=_open_without_profile,
    ),
    Fault(
        "first-profile-only",
        "Asks the first profile and no other.",
        "profile.rules.asked-in-order",
        snapshot=change_endpoints(_first_profile_only),
    ),
)
