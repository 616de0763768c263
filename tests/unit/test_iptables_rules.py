# SPDX-License-Identifier: Apache-2.0
"""Single rules as iptables rules: what is left out, what needs mark bits, what cannot be said."""

from __future__ import annotations

import pytest
from snapshot_world import CLIENTS, HTTP, nets, ports, rule, side

from dataplanes.api import DataplaneError, IcmpMatch
from dataplanes.iptables.matches import rule_lines
from dataplanes.iptables.sets import SetCollector


def lines(found, family=4):
    sets = SetCollector(family, {CLIENTS.set_id: CLIENTS, HTTP.set_id: HTTP})
    return [
        line.replace('-m comment --comment "about" ', "") for line in rule_lines(found, family, sets, "-j X", "about")
    ]


@pytest.mark.parametrize(
    "found",
    [
        rule(ip_version=6),
        rule(protocol=6, not_protocol=6),
        rule(source=side(nets=nets("fd00::/8"))),
        rule(source=side(not_nets=nets("0.0.0.0/0"))),
        rule(protocol=6, icmp=IcmpMatch(8, None)),
    ],
)
def test_rule_that_no_packet_of_the_family_can_match_is_left_out(found):
    assert lines(found) == []


def test_not_nets_of_the_other_family_exclude_nothing():
    assert lines(rule(source=side(not_nets=nets("fd00::/8")))) == ["-j X"]


def test_net_of_prefix_length_zero_is_no_condition():
    assert lines(rule(source=side(nets=nets("10.0.0.0/8", "0.0.0.0/0")))) == ["-j X"]


def test_not_protocol_beside_another_protocol_is_void():
    assert lines(rule(protocol=6, not_protocol=17)) == ["-p tcp -j X"]


def test_fifteen_ports_fit_one_match_and_sixteen_take_alternatives():
    assert len(lines(rule(protocol=6, destination=side(ports=ports(*range(1, 16)))))) == 1
    assert len(lines(rule(protocol=6, destination=side(ports=ports(*range(1, 17)))))) == 4


def test_range_takes_two_places_of_a_multiport_match():
    assert len(lines(rule(protocol=6, destination=side(ports=ports(*[(n, n + 1) for n in range(7)], 99))))) == 1
    assert len(lines(rule(protocol=6, destination=side(ports=ports(*[(n, n + 1) for n in range(8)]))))) == 4


def test_excluded_ports_beyond_one_match_are_all_excluded_in_one_rule():
    (line,) = lines(rule(protocol=17, source=side(not_ports=ports(*range(1, 17)))))
    assert line.count("-m multiport ! --sports") == 2


def test_named_port_without_protocol_asks_the_set_alone():
    (line,) = lines(rule(destination=side(port_sets=("port-http",))))
    assert line.endswith(" dst,dst -j X")
    assert "-p " not in line


def test_excluded_icmp_without_protocol_needs_a_bit_that_stays_clear():
    *_, last = lines(rule(not_icmp=IcmpMatch(8, 0)))
    assert last == "-m mark --mark 0x0/0x100000 -j X"


def test_excluded_icmp_beside_another_protocol_is_void():
    assert lines(rule(protocol=6, not_icmp=IcmpMatch(8, 0))) == ["-p tcp -j X"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (rule(destination=side(ports=ports(80))), "port numbers"),
        (rule(protocol=136, source=side(not_ports=ports(80))), "port numbers"),
        (rule(icmp=IcmpMatch(8, None)), "without a protocol"),
        (rule(protocol=1, icmp=IcmpMatch(255, None)), "ICMP type"),
        (rule(source=side(sets=("nowhere",))), "does not hold"),
        (rule(source=side(sets=("port-http",))), "does not hold"),
    ],
)
def test_rule_that_cannot_be_expressed_is_refused(found, message):
    with pytest.raises(DataplaneError, match=message):
        lines(found)
