# SPDX-License-Identifier: Apache-2.0
"""Which tiers and policies an endpoint gets, in which order, and what each node receives."""

from __future__ import annotations

from compile_world import EGRESS, Tier, compiled, endpoint, policy, rule, side, workload

from lab.policy.resources import Action, Direction, Profile
from lab.policy.snapshot import SnapshotRule

A = workload("x/a", 1, {"app": "web"})
B = workload("x/b", 2, {"app": "db"}, node="node-2")
BOTH = frozenset(Direction)


def ingress_names(snapshot, name="x/a"):
    return [(tier.name, [p.name for p in tier.ingress]) for tier in endpoint(snapshot, name).tiers]


def test_policies_go_by_order_and_those_without_come_last():
    found = compiled([A], policy("none"), policy("second", order=2.0), policy("first", order=-1.0))
    assert ingress_names(found) == [("default", ["first", "second", "none"])]


def test_equal_orders_go_by_name_namespace_kind_bytewise():
    names = ["b", "a", "B", "a-b", "é", "a.b"]
    found = compiled([A], *(policy(name, order=1.0) for name in names), policy("a", namespace="x", order=1.0))
    (tier,) = endpoint(found, "x/a").tiers
    assert [f"{p.name}/{p.namespace}" for p in tier.ingress] == ["B/", "a-b/", "a.b/", "a/", "a/x", "b/", "é/"]


def test_tiers_go_by_order_then_name_and_missing_ones_last():
    tiers = [Tier("late", None, False), Tier("b", 5.0, False), Tier("a", 5.0, True)]
    tier_names = ["ghost", "late", "default", "b", "kube-baseline", "a", "kube-admin"]
    found = compiled([A], *(policy(f"p-{name}", tier=name) for name in tier_names), tiers=tiers)
    assert [(t.name, t.pass_by_default) for t in endpoint(found, "x/a").tiers] == [
        ("a", True),
        ("b", False),
        ("kube-admin", True),
        ("default", False),
        ("kube-baseline", True),
        ("late", False),
        ("ghost", False),
    ]


def test_direction_lists_only_policies_of_that_type():
    found = compiled([A], policy("in"), policy("out", types=EGRESS), policy("both", types=BOTH))
    (tier,) = endpoint(found, "x/a").tiers
    assert [p.name for p in tier.ingress] == ["both", "in"]
    assert [p.name for p in tier.egress] == ["both", "out"]


def test_tier_without_policy_for_an_endpoint_is_left_out():
    found = compiled([A], policy("p", selector="app == 'db'"))
    assert endpoint(found, "x/a").tiers == ()
    assert found.policies == {}


def test_node_gets_only_its_own_endpoints_policies_and_sets():
    for_a = policy("for-a", rule(source=side("app == 'db'")), selector="app == 'web'")
    for_b = policy("for-b", rule(source=side("app == 'web'")), selector="app == 'db'")
    found = compiled([A, B], for_a, for_b, node="node-2")
    assert [e.workload for e in found.endpoints.values()] == ["x/b"]
    assert [p.name for p in found.policies] == ["for-b"]
    assert [s.about for s in found.ip_sets.values()] == ['app == "web"']


def test_node_without_workloads_has_an_empty_snapshot():
    found = compiled([A], policy("p"), node="node-2")
    assert (found.endpoints, found.policies, found.profiles, found.ip_sets) == ({}, {}, {}, {})


def test_missing_profile_is_named_but_not_held():
    found = compiled([workload("x/a", 1, profiles=("ghost",))])
    assert endpoint(found, "x/a").profiles == ("ghost",)
    assert found.profiles == {}


def test_profile_that_calico_has_ready_opens_both_directions():
    name = "projectcalico-default-allow"
    found = compiled([workload("x/a", 1, profiles=(name,))])
    assert list(found.profiles) == [name]
    everything = (SnapshotRule(Action.ALLOW),)
    assert (found.profiles[name].ingress, found.profiles[name].egress) == (everything, everything)


def test_profile_of_the_resources_takes_the_place_of_the_one_that_is_ready():
    own = Profile("projectcalico-default-allow", (), (), {})
    found = compiled([workload("x/a", 1, profiles=(own.name,))], profiles=[own])
    assert (found.profiles[own.name].ingress, found.profiles[own.name].egress) == ((), ())


def test_endpoint_is_keyed_by_its_interface():
    found = compiled([A])
    assert found.endpoints[A.interface].addresses == A.addresses
