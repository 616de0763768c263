# SPDX-License-Identifier: Apache-2.0
"""Single rules as nftables rules: what is left out, what needs mark bits, what cannot be said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from snapshot_world import CLIENTS, HTTP, nets, ports, rule, side, snapshot

from dataplanes.api import DataplaneError, IcmpMatch, IpSet, Snapshot
from dataplanes.nftables.matches import rules_of
from dataplanes.nftables.names import EXCLUDED
from dataplanes.nftables.words import DROP


@dataclass
class Scene:
    """What a single rule needs to be written."""

    snapshot: Snapshot = field(default_factory=lambda: snapshot([]))
    used: list = field(default_factory=list)

    def use(self, part):
        part.define(self)
        self.used.append(part)
        return part.name


def expressions(found):
    return [written["expr"] for written in rules_of(found, Scene(), (DROP,), "about")]


def text(found):
    return json.dumps(expressions(found))


@pytest.mark.parametrize(
    "found",
    [
        rule(protocol=6, not_protocol=6),
        rule(ip_version=4, source=side(nets=nets("fd00::/8"))),
        rule(source=side(not_nets=nets("0.0.0.0/0", "::/0"))),
        rule(protocol=6, icmp=IcmpMatch(8, None)),
    ],
)
def test_rule_that_no_packet_can_match_is_left_out(found):
    assert expressions(found) == []


def test_rule_without_addresses_is_one_rule_for_both_families():
    assert len(expressions(rule(protocol=6, destination=side(ports=ports(80))))) == 1


def test_rule_with_addresses_of_one_family_is_none_in_the_other():
    (only,) = expressions(rule(source=side(nets=nets("10.0.0.0/8"))))
    assert '"ipv4"' in json.dumps(only)


def test_rule_of_one_family_asks_for_it():
    (only,) = expressions(rule(ip_version=6, protocol=253))
    assert '"ipv6"' in json.dumps(only)


def test_not_nets_of_one_family_exclude_nothing_in_the_other():
    first, second = expressions(rule(source=side(not_nets=nets("fd00::/8"))))
    assert "saddr" not in json.dumps(first)
    assert '"!="' in json.dumps(second)


def test_net_of_prefix_length_zero_is_no_condition():
    assert expressions(rule(source=side(nets=nets("10.0.0.0/8", "0.0.0.0/0", "::/0")))) == [[DROP]]


def test_not_protocol_beside_another_protocol_is_void():
    assert expressions(rule(protocol=6, not_protocol=17)) == expressions(rule(protocol=6))


def test_any_number_of_ports_is_one_set_and_one_rule():
    scene = Scene()
    many = rule(protocol=6, destination=side(ports=ports(*range(1, 50, 2), (100, 200), (150, 250))))
    assert len(list(rules_of(many, scene, (DROP,), ""))) == 1
    (listed,) = {part.name: part for part in scene.used}.values()
    assert list(listed.define(scene).elements)[-1] == "100-250"
    assert len(listed.define(scene).elements) == 26


def test_same_ports_in_another_order_share_a_set():
    scene = Scene()
    for listed in ((80, 81, 443), (443, (80, 81))):
        list(rules_of(rule(protocol=6, destination=side(ports=ports(*listed))), scene, (DROP,), ""))
    assert len({part.name for part in scene.used}) == 1


def test_numbers_beside_a_name_are_alternatives_by_way_of_a_mark_bit():
    written = expressions(rule(protocol=6, destination=side(ports=ports(80), port_sets=("port-http",))))
    assert len(written) == 2 * 4  # each family: clear, either of two sets the bit, the rule asks for it


def test_excluded_icmp_without_protocol_needs_a_bit_that_stays_clear():
    *_, last = expressions(rule(not_icmp=IcmpMatch(8, 0)))
    assert last == [{"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, EXCLUDED]}, "right": 0}}, DROP]


def test_packet_without_ports_is_not_excluded_by_a_port_name():
    """nftables reads no port where there is none, and a comparison that has nothing to compare does not hold."""
    assert text(rule(source=side(not_port_sets=("port-http",)))).count(str(EXCLUDED)) == 4
    assert str(EXCLUDED) not in text(rule(protocol=6, source=side(not_port_sets=("port-http",))))


def test_excluded_icmp_beside_another_protocol_is_void():
    assert expressions(rule(protocol=6, not_icmp=IcmpMatch(8, 0))) == expressions(rule(protocol=6))


def test_icmp_is_compared_by_its_bytes_in_either_family():
    assert expressions(rule(protocol=1, icmp=IcmpMatch(8, None))) == [
        [
            {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": 1}},
            {"match": {"op": "==", "left": {"payload": {"base": "th", "offset": 0, "len": 8}}, "right": 8}},
            DROP,
        ]
    ]


def test_set_without_networks_is_a_hash_and_others_are_intervals_that_do_not_overlap():
    scene = Scene(snapshot([], ip_sets=[IpSet("some", "net", nets=frozenset(nets("10.0.0.1/32", "fd00::/8")))]))
    list(rules_of(rule(source=side(sets=("some",))), scene, (DROP,), ""))
    four, six = (part.define(scene) for part in scene.used)
    assert (four.interval, six.interval) == (False, True)

    inside = nets("10.0.0.0/8", "10.1.0.0/16", "10.255.255.255/32", "11.0.0.0/32", "0.0.0.0/5")
    scene = Scene(snapshot([], ip_sets=[IpSet("some", "net", nets=frozenset(inside))]))
    list(rules_of(rule(ip_version=4, source=side(sets=("some",))), scene, (DROP,), ""))
    assert list(scene.used[0].define(scene).elements) == ["0.0.0.0/5", "10.0.0.0/8", "11.0.0.0/32"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (rule(destination=side(ports=ports(80))), "port numbers"),
        (rule(protocol=136, source=side(not_ports=ports(80))), "port numbers"),
        (rule(icmp=IcmpMatch(8, None)), "without a protocol"),
        (rule(source=side(sets=("nowhere",))), "does not hold"),
        (rule(source=side(sets=("port-http",))), "does not hold"),
    ],
)
def test_rule_that_cannot_be_expressed_is_refused(found, message):
    assert {CLIENTS.set_id, HTTP.set_id} == set(Scene().snapshot.ip_sets)
    with pytest.raises(DataplaneError, match=message):
        expressions(found)


def test_lists_that_differ_in_order_alone_are_one_set():
    scene = Scene()
    for given, numbers in (
        (("10.0.2.0/24", "10.0.10.0/24"), (80, 443, 81)),
        (("10.0.10.0/24", "10.0.2.0/24"), (443, 81, 80)),
    ):
        found = rule(protocol=6, source=side(nets=nets(*given)), destination=side(ports=ports(*numbers)))
        assert [*rules_of(found, scene, (DROP,), "about")]
    assert len(scene.used) == 4
    assert len(set(scene.used)) == 2
