# SPDX-License-Identifier: Apache-2.0
"""Rules made flat: families, ports, named ports."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_world import (
    EGRESS,
    TCP,
    UDP,
    PortRange,
    compiled,
    nets,
    only_rule,
    policy,
    port,
    port_members_v4,
    rule,
    side,
    workload,
)

from lab.policy.resources import Action, Direction, HttpMatch, HttpPath, IcmpMatch, ProtocolMatch, ServiceAccountMatch

A = workload("x/a", 1, {"app": "web"}, ports=[port("http", 80), port("dns", 53), port("dns", 53, 17)])
B = workload("x/b", 2, {"app": "db"}, ports=[port("http", 8080), port("http", 8081)])


def flat(**fields):
    return only_rule(compiled([A, B], policy("p", rule(**fields))))


def absent(**fields):
    return compiled([A, B], policy("p", rule(**fields))).policies.popitem()[1].ingress == ()


@pytest.mark.parametrize(
    ("protocol", "version"),
    [
        (ProtocolMatch(1, by_name=True), 4),
        (ProtocolMatch(58, by_name=True), 6),
        (ProtocolMatch(1, by_name=False), None),
        (ProtocolMatch(58, by_name=False), None),
        (TCP, None),
    ],
)
def test_only_the_name_of_an_icmp_protocol_implies_a_version(protocol, version):
    assert flat(protocol=protocol).ip_version == version


def test_not_protocol_implies_no_version():
    assert flat(not_protocol=ProtocolMatch(1, by_name=True)).ip_version is None


@pytest.mark.parametrize("field", ["nets", "not_nets"])
def test_rule_with_nets_of_one_family_is_absent_in_the_other(field):
    assert flat(source=side(**{field: nets("fd00::/8")})).ip_version == 6


def test_nets_of_both_families_keep_both():
    both = nets("10.0.0.0/8", "fd00::/8")
    found = flat(source=side(nets=both))
    assert (found.ip_version, found.source.nets) == (None, both)


def test_nets_of_opposite_families_leave_no_rule():
    assert absent(source=side(nets=nets("10.0.0.0/8")), destination=side(nets=nets("fd00::/8")))


def test_catch_all_in_not_nets_takes_the_rule_from_its_family():
    found = flat(source=side(not_nets=nets("0.0.0.0/0", "fd00::/8")))
    assert (found.ip_version, found.source.not_nets) == (6, nets("fd00::/8"))
    assert absent(source=side(not_nets=nets("0.0.0.0/0")))


def test_fields_without_sets_are_carried_over():
    found = flat(
        action=Action.DENY,
        ip_version=4,
        protocol=ProtocolMatch(1, by_name=False),
        icmp=IcmpMatch(0, None),
        not_icmp=IcmpMatch(8, 0),
    )
    assert (found.action, found.protocol) == (Action.DENY, 1)
    assert (found.icmp, found.not_icmp) == (IcmpMatch(0, None), IcmpMatch(8, 0))


def test_numbers_and_names_stay_alternatives():
    found = compiled([A, B], policy("p", rule(protocol=TCP, destination=side(ports=(PortRange(80, 80), "http")))))
    to = only_rule(found).destination
    assert to.ports == (PortRange(80, 80),)
    (set_id,) = to.port_sets
    assert port_members_v4(found.ip_sets[set_id]) == {
        ("198.18.0.1", 6, 80),
        ("198.18.0.2", 6, 8080),
        ("198.18.0.2", 6, 8081),
    }


@pytest.mark.parametrize("field", ["ports", "not_ports"])
def test_named_port_is_filtered_by_the_positive_selector(field):
    to = side("app == 'web'", **{field: ("http",)})
    found = compiled([A, B], policy("p", rule(protocol=TCP, destination=to)))
    flat_to = only_rule(found).destination
    (set_id,) = flat_to.port_sets or flat_to.not_port_sets
    assert port_members_v4(found.ip_sets[set_id]) == {("198.18.0.1", 6, 80)}


@pytest.mark.parametrize(("protocol", "numbers"), [(None, {6, 17}), (TCP, {6}), (UDP, {17})])
def test_named_port_counts_under_the_protocols_that_the_rule_allows(protocol, numbers):
    found = compiled([A, B], policy("p", rule(protocol=protocol, destination=side(ports=("dns",)))))
    (set_id,) = only_rule(found).destination.port_sets
    assert {member.protocol for member in found.ip_sets[set_id].ports} == numbers


def test_named_port_that_nobody_has_is_an_empty_set():
    found = compiled([A, B], policy("p", rule(protocol=TCP, destination=side(ports=("none",)))))
    (set_id,) = only_rule(found).destination.port_sets
    assert found.ip_sets[set_id].ports == frozenset()


def test_rules_of_a_direction_outside_the_types_are_absent():
    found = compiled([A], policy("p", rule(), egress=[rule(Action.DENY)], types=EGRESS))
    (only,) = found.policies.values()
    assert only.ingress == ()
    assert [r.action for r in only.egress] == [Action.DENY]


def test_origin_tells_owner_and_number():
    rules = [rule(ip_version=6, source=side(nets=nets("10.0.0.0/8"))), rule()]
    found = compiled([A], policy("p", *rules, namespace="x"))
    origin = only_rule(found).origin
    assert (origin.owner, origin.direction, origin.index) == ("NetworkPolicy/x/p", Direction.INGRESS, 1)


def test_the_http_match_of_a_rule_and_the_use_of_accounts_are_told_to_sidecars():
    match = HttpMatch(("GET",), (HttpPath("prefix", "/a"),))
    found = flat(protocol=TCP, http=match, source=side(service_accounts=ServiceAccountMatch(("web",), None)))
    assert found.http == match
    assert found.source.by_account
    assert not found.destination.by_account
    without = flat(protocol=TCP, source=side(service_accounts=ServiceAccountMatch(("web",), None)))
    assert replace(found, http=None) == without
