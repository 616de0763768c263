# SPDX-License-Identifier: Apache-2.0
"""Drawn snapshots, real packets: the kernel decides as a plain reading of the snapshot does.

Two workloads of one node, all in one namespace: frames go in at the one veth's far end and come out, or do
not, at the other's. A packet that is allowed has come out when the send returns, so nothing is waited for.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import product
from pathlib import Path

import pytest
from bare_node import BareNode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataplanes.api import (
    Action,
    EndpointPolicy,
    IcmpMatch,
    IpSet,
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
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane
from dataplanes.nftables import NftablesDataplane

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

ETH_P_ALL = 3
MAC_IN, MAC_OUT = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
# No interface has this address, so what comes out at the far end is seen there and goes no further.
MAC_NOBODY = b"\x02\0\0\0\0\xee"
SOURCES = {4: ("198.18.0.1", "198.18.7.1"), 6: ("fd00:18::1", "fd00:18:7::1")}
TARGET = {4: "198.18.0.2", 6: "fd00:18::2"}


@dataclass(frozen=True)
class Packet:
    """What the rules can see of a packet."""

    family: int
    source: str
    protocol: int
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None

    @property
    def target(self):
        return TARGET[self.family]


def every_packet():
    ports = [*product((6, 17, 132), ((1000, 80), (1000, 81), (1000, 8080), (80, 90), (81, 100)))]
    icmps = [*product((1, 58), ((8, 0), (8, 1), (0, 0), (128, 0), (129, 0), (3, 1)))]
    for family, sources in SOURCES.items():
        for source in sources:
            yield from (Packet(family, source, protocol, pair) for protocol, pair in ports)
            yield from (Packet(family, source, protocol, icmp=pair) for protocol, pair in icmps)
            yield from (Packet(family, source, protocol) for protocol in (4, 136, 253))
        yield Packet(family, sources[0], 17, (1000, 4789))


PACKETS = tuple(every_packet())


def frame(number, packet):
    """A frame whose IP identification or flow label is its number; checksums of the payload are left out."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.layers.sctp import SCTP, SCTPChunkInit
    from scapy.packet import Raw

    addresses = {"src": packet.source, "dst": packet.target}
    if packet.family == 4:
        header = IP(**addresses, id=number, proto=packet.protocol)
    else:
        header = IPv6(**addresses, fl=number, nh=packet.protocol)
    if packet.ports is not None:
        fields = {"sport": packet.ports[0], "dport": packet.ports[1]}
        body = {6: TCP(**fields, flags="S"), 17: UDP(**fields), 132: SCTP(**fields) / SCTPChunkInit(init_tag=1)}
        payload = body[packet.protocol]
    elif packet.icmp is not None and (packet.family, packet.protocol) == (4, 1):
        payload = ICMP(type=packet.icmp[0], code=packet.icmp[1], id=7) / Raw(bytes(32))
    elif packet.icmp is not None:
        payload = Raw(bytes(packet.icmp) + bytes(6 + 32))
    else:
        payload = Raw(bytes(32))
    return bytes(Ether(src=MAC_NOBODY, dst=MAC_IN) / header / payload)


def within(address, nets):
    return any(ip_address(address) in net for net in nets)


def serves(packet, address, port, members):
    wanted = (ip_address(address), packet.protocol, port)
    return packet.ports is not None and any((m.address, m.protocol, m.port) == wanted for m in members)


def side_matches(side, packet, address, port, sets):
    def ranges(found):
        return packet.ports is not None and any(r.first <= port <= r.last for r in found)

    family = tuple(net for net in side.nets if net.version == packet.family)
    asked = [
        not side.nets or within(address, family),
        not within(address, (net for net in side.not_nets if net.version == packet.family)),
        all(within(address, sets[set_id].nets) for set_id in side.sets),
        not any(within(address, sets[set_id].nets) for set_id in side.not_sets),
        not (side.ports or side.port_sets)
        or ranges(side.ports)
        or any(serves(packet, address, port, sets[set_id].ports) for set_id in side.port_sets),
        not ranges(side.not_ports),
        not any(serves(packet, address, port, sets[set_id].ports) for set_id in side.not_port_sets),
    ]
    return all(asked)


def icmp_matches(match, packet):
    return packet.icmp is not None and packet.icmp[0] == match.type and match.code in (None, packet.icmp[1])


def rule_matches(rule, packet, sets):
    source_port, port = packet.ports or (0, 0)
    asked = [
        rule.ip_version in (None, packet.family),
        rule.protocol in (None, packet.protocol),
        rule.not_protocol != packet.protocol,
        rule.icmp is None or icmp_matches(rule.icmp, packet),
        rule.not_icmp is None or not icmp_matches(rule.not_icmp, packet),
        side_matches(rule.source, packet, packet.source, source_port, sets),
        side_matches(rule.destination, packet, packet.target, port, sets),
    ]
    return all(asked)


def decided(rules, packet, sets):
    """The action of the first rule that decides, None when none does."""
    matching = (rule.action for rule in rules if rule.action is not Action.LOG and rule_matches(rule, packet, sets))
    return next(matching, None)


def accepts(endpoint, direction, packet, snapshot):
    for tier in endpoint.tiers:
        policies = [snapshot.policies[policy_id] for policy_id in getattr(tier, direction)]
        if not policies:
            continue
        actions = (decided(getattr(policy, direction), packet, snapshot.ip_sets) for policy in policies)
        action = next((action for action in actions if action is not None), None)
        if action is Action.ALLOW:
            return True
        if action is Action.DENY or (action is None and not tier.pass_by_default):
            return False
    for name in endpoint.profiles:
        if name not in snapshot.profiles:
            return False
        action = decided(getattr(snapshot.profiles[name], direction), packet, snapshot.ip_sets)
        if action in (Action.ALLOW, Action.DENY):
            return action is Action.ALLOW
    return False


def tunnelled(packet):
    return packet.protocol == 4 or (packet.protocol == 17 and packet.ports[1] == 4789)


def expected(snapshot, packet):
    if tunnelled(packet) or not accepts(snapshot.endpoints["cali01"], "egress", packet, snapshot):
        return False
    return accepts(snapshot.endpoints["cali02"], "ingress", packet, snapshot)


NETS = tuple(
    map(ip_network, ("198.18.0.0/24", "198.18.0.1/32", "198.0.0.0/8", "0.0.0.0/0", "fd00:18::/64", "fd00::/8", "::/0"))
)
RANGES = st.sampled_from([PortRange(n, n) for n in (1, 80, 81, 1000)] + [PortRange(80, 81), PortRange(90, 100)])
MANY_RANGES = st.just(tuple(PortRange(n, n + 1) for n in range(50, 90, 3)))
PORTS = st.one_of(st.lists(RANGES, max_size=2).map(tuple), MANY_RANGES)
PORT_SETS = st.sampled_from([("http",), ("http", "more")])
NET_LISTS = st.one_of(st.just(()), st.lists(st.sampled_from(NETS), max_size=3, unique=True).map(tuple))
NET_SETS = st.sampled_from([("one",), ("all",), ("one", "all")])
ICMPS = st.one_of(st.none(), st.builds(IcmpMatch, st.sampled_from((0, 8, 128)), st.sampled_from((None, 0, 1))))


def seldom(strategy):
    """Mostly nothing: a rule with all of its fields at once hardly ever matches, and so shows little."""
    return st.one_of(st.just(()), st.just(()), st.just(()), strategy)


@st.composite
def sides(draw, *, numeric):
    return SnapshotSide(
        nets=draw(seldom(NET_LISTS)),
        not_nets=draw(seldom(NET_LISTS)),
        sets=draw(seldom(NET_SETS)),
        not_sets=draw(seldom(NET_SETS)),
        ports=draw(seldom(PORTS)) if numeric else (),
        port_sets=draw(seldom(PORT_SETS)),
        not_ports=draw(seldom(PORTS)) if numeric else (),
        not_port_sets=draw(seldom(PORT_SETS)),
    )


@st.composite
def rules(draw):
    protocol = draw(st.sampled_from([None, None, 6, 6, 17, 132, 1, 58, 136, 253]))
    numeric = protocol in (6, 17, 132)
    return SnapshotRule(
        draw(st.sampled_from([Action.ALLOW, Action.DENY])),
        draw(st.sampled_from([None, None, None, 4, 6])),
        protocol,
        draw(st.sampled_from([None, None, None, 6, 1, 58, 253])),
        draw(ICMPS) if protocol in (1, 58) else None,
        draw(ICMPS) if protocol in (None, 1, 58) else None,
        draw(sides(numeric=numeric)),
        draw(sides(numeric=numeric)),
    )


# For walks through tiers: rules that match much, and whose actions are all there are.
COARSE_RULES = st.builds(
    SnapshotRule,
    st.sampled_from([*Action, Action.PASS]),
    st.sampled_from([None, 4, 6]),
    st.sampled_from([6, 17, 132, 253, None]),
)
RULES = st.lists(COARSE_RULES, max_size=3).map(tuple)
NAMES = tuple(PolicyId("GlobalNetworkPolicy", "", name) for name in ("p1", "p2", "p3"))
CHOSEN = st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple)
TIERS = st.lists(
    st.builds(TierPolicies, st.sampled_from(("t1", "t2")), CHOSEN, CHOSEN, st.booleans()), min_size=1, max_size=3
)
PROFILES = st.sampled_from([("open",), ("open",), ("drawn", "open"), ("drawn",), ("missing", "open"), ()])
SETS = {
    "one": IpSet("one", "net", nets=frozenset(map(ip_network, ("198.18.0.1/32", "fd00:18:7::/48")))),
    "all": IpSet("all", "net", nets=frozenset(map(ip_network, ("0.0.0.0/1", "128.0.0.0/1", "fd00::/9")))),
    "http": IpSet(
        "http",
        "port",
        ports=frozenset(
            PortMember(ip_address(address), protocol, port)
            for address in (*TARGET.values(), SOURCES[4][0])
            for protocol, port in ((6, 8080), (132, 81))
        ),
    ),
    "more": IpSet("more", "port", ports=frozenset({PortMember(ip_address("198.18.0.2"), 17, 80)})),
}


@st.composite
def snapshots(draw):
    """Mostly one of the two ends has policies: of what both decide, little would be seen of either."""
    policed = draw(st.sampled_from([("cali01",), ("cali02",), ("cali01", "cali02")]))
    endpoints = {
        interface: EndpointPolicy(interface, interface, (), tuple(draw(TIERS)), draw(PROFILES))
        if interface in policed
        else EndpointPolicy(interface, interface, (), (), ("open",))
        for interface in ("cali01", "cali02")
    }
    open_rules = (SnapshotRule(Action.ALLOW),)
    profiles = {
        "open": SnapshotProfile("open", open_rules, open_rules),
        "drawn": SnapshotProfile("drawn", draw(RULES), draw(RULES)),
    }
    policies = {name: SnapshotPolicy(name, "t", draw(RULES), draw(RULES)) for name in NAMES}
    return Snapshot("node-1", endpoints, policies, profiles, SETS)


def one_rule(rule):
    """A snapshot in which the one rule decides, or else the opposite of what it does."""
    opposite = SnapshotRule(Action.ALLOW if rule.action is Action.DENY else Action.DENY)
    open_rules = (SnapshotRule(Action.ALLOW),)
    tier = TierPolicies("default", NAMES[:1], (), pass_by_default=False)
    return Snapshot(
        "node-1",
        {
            "cali01": EndpointPolicy("cali01", "x/1", (), (), ("open",)),
            "cali02": EndpointPolicy("cali02", "x/2", (), (tier,), ()),
        },
        {NAMES[0]: SnapshotPolicy(NAMES[0], "default", (rule, opposite), ())},
        {"open": SnapshotProfile("open", open_rules, open_rules)},
        SETS,
    )


class Bench(BareNode):
    """A namespace with two workload interfaces, and sockets at the far ends of both."""

    def __init__(self):
        super().__init__()
        self.inside(self._settings)
        for command in self._commands():
            self.must(*command.split())
        self.sender = self.inside(lambda: self._tap("far1"))
        self.receiver = self.inside(lambda: self._tap("far2"))
        self.frames = [frame(number, packet) for number, packet in enumerate(PACKETS)]

    @staticmethod
    def _settings():
        ones = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/addr_gen_mode")
        zeros = ("ipv6/conf/default/accept_dad", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter")
        for value, names in (("1", ones), ("0", zeros)):
            for name in names:
                Path("/proc/sys/net", name).write_text(value)

    def _commands(self):
        for number, mac in ((1, MAC_IN), (2, MAC_OUT)):
            yield f"ip link add cali0{number} address {mac.hex(':')} type veth peer name far{number}"
            yield f"ip link set cali0{number} up"
            yield f"ip link set far{number} up"
        yield "ip addr add 198.18.255.1/32 dev cali01"
        for address in (address for sources in SOURCES.values() for address in sources):
            yield f"ip route add {address} dev cali01"  # the way back: without one, a source is not the workload's own
        for address in TARGET.values():
            yield f"ip route add {address} dev cali02"
            yield f"ip neigh add {address} lladdr {MAC_NOBODY.hex(':')} dev cali02 nud permanent"

    @staticmethod
    def _tap(interface):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind((interface, ETH_P_ALL))
        tap.setblocking(False)
        return tap

    def arrived(self):
        """The numbers of the packets that come out when all are sent."""
        found = set()
        for sent in self.frames:
            self.sender.send(sent)
            found |= set(self._drained())
        return found

    def _drained(self):
        while True:
            try:
                got = self.receiver.recv(2048)
            except BlockingIOError:
                return
            if got[:6] == MAC_NOBODY:
                yield int.from_bytes(got[18:20] if got[12:14] == b"\x08\0" else got[15:18], "big") & 0xFFFFF

    def __exit__(self, *error):
        for tap in (self.sender, self.receiver):
            tap.close()
        super().__exit__(*error)


@pytest.fixture(scope="module")
def bench():
    with Bench() as made:
        yield made


@pytest.fixture(params=[IptablesDataplane, IptablesLegacyDataplane, NftablesDataplane], ids=lambda plugin: plugin.name)
def dataplane(request, bench):
    made = request.param(bench)
    made.start()
    yield made
    made.stop()


def test_without_a_snapshot_everything_passes(dataplane, bench):
    assert bench.arrived() == set(range(len(PACKETS)))
    assert dataplane.evidence().counters == {}


def test_workload_that_no_snapshot_knows_is_cut_off(dataplane, bench):
    dataplane.apply(Snapshot("node-1", {}, {}, {}, {}))
    assert bench.arrived() == set()


def wrong_verdicts(bench, snapshot):
    arrived = bench.arrived()
    return [
        (PACKETS[number], "arrived" if number in arrived else "did not arrive")
        for number in range(len(PACKETS))
        if (number in arrived) != expected(snapshot, PACKETS[number])
    ]


KERNEL = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def allow(**fields):
    return SnapshotRule(Action.ALLOW, **fields)


NUMBER_OR_NAME = SnapshotSide(ports=(PortRange(80, 80),), port_sets=("http",))
FAR_PORTS = SnapshotSide(ports=(*(PortRange(n, n) for n in range(1, 16)), PortRange(80, 81), PortRange(1000, 1000)))


@KERNEL
@given(rule=rules())
@example(rule=allow(protocol=6, destination=NUMBER_OR_NAME))
@example(rule=allow(protocol=132, source=FAR_PORTS, destination=NUMBER_OR_NAME))
@example(rule=allow(protocol=17, destination=SnapshotSide(not_ports=FAR_PORTS.ports)))
@example(rule=allow(protocol=1, not_icmp=IcmpMatch(8, 0)))
@example(rule=allow(protocol=58, not_icmp=IcmpMatch(128, None)))
@example(rule=allow(protocol=1, icmp=IcmpMatch(8, 1)))
@example(rule=allow(not_icmp=IcmpMatch(8, 0)))
@example(rule=allow(source=SnapshotSide(nets=NETS[2:3], not_nets=NETS[1:2])))
def test_kernel_matches_a_rule_as_it_reads(dataplane, bench, rule):
    snapshot = one_rule(rule)
    dataplane.apply(snapshot)
    assert not wrong_verdicts(bench, snapshot)


def passed_on():
    """Tier t1 passes everything to t2, of whose two policies only the second decides, and only on TCP."""
    both = tuple(
        TierPolicies(name, ids, (), pass_by_default=False) for name, ids in (("t1", NAMES[:1]), ("t2", NAMES[1:]))
    )
    base = one_rule(allow())
    endpoints = {**base.endpoints, "cali02": EndpointPolicy("cali02", "x/2", (), both, ("open",))}
    decisions = ((SnapshotRule(Action.PASS),), (), (allow(protocol=6),))
    policies = {name: SnapshotPolicy(name, "t", found, ()) for name, found in zip(NAMES, decisions, strict=True)}
    return Snapshot("node-1", endpoints, policies, base.profiles, SETS)


@KERNEL
@given(snapshot=snapshots())
@example(snapshot=passed_on())
def test_kernel_walks_tiers_and_profiles_as_they_read(dataplane, bench, snapshot):
    dataplane.apply(snapshot)
    assert not wrong_verdicts(bench, snapshot)
