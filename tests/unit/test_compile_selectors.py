# SPDX-License-Identifier: Apache-2.0
"""Whom selectors reach once labels are inherited and namespaces attached."""

from __future__ import annotations

import pytest
from compile_world import (
    Profile,
    compiled,
    endpoint,
    members_v4,
    nets,
    network_set,
    only_rule,
    policy,
    rule,
    side,
    source_set,
    workload,
)

from lab.errors import Place
from lab.policy.compile.labels import namespace_profiles
from lab.policy.resources import ServiceAccountMatch
from lab.policy.selector import parse_selector
from lab.topology import Namespace

A, B, C = "198.18.0.1", "198.18.0.2", "198.18.0.3"


@pytest.fixture
def three():
    """Two workloads of namespace x, of which the first has an account, and one of y."""
    return [
        workload("x/a", 1, {"app": "web"}, account="web"),
        workload("x/b", 2, {"app": "db"}),
        workload("y/c", 3, {"app": "web"}),
    ]


def reached(workloads, source, namespace=None, **others):
    """The IPv4 addresses of the set to which a rule's source resolves."""
    found = compiled(workloads, policy("p", rule(source=source), namespace=namespace), **others)
    return members_v4(source_set(found))


def subjects(workloads, *policies):
    found = compiled(workloads, *policies)
    return {e.workload for e in found.endpoints.values() if e.tiers}


def test_selector_in_global_policy_reaches_all_namespaces(three):
    assert reached(three, side("app == 'web'")) == {A, C}


def test_selector_in_namespaced_policy_reaches_own_namespace_only(three):
    assert reached(three, side("app == 'web'"), namespace="x") == {A}


def test_lone_not_selector_in_namespaced_policy_gains_own_namespace(three):
    assert reached(three, side(negative="app == 'web'"), namespace="x") == {B}


def test_lone_not_selector_in_global_policy_stays_negative(three):
    found = compiled(three, policy("p", rule(source=side(negative="app == 'web'"))))
    (set_id,) = only_rule(found).source.not_sets
    assert members_v4(found.ip_sets[set_id]) == {A, C}
    assert only_rule(found).source.sets == ()


def test_no_selector_in_namespaced_policy_asks_for_nobody(three):
    found = only_rule(compiled(three, policy("p", rule(), namespace="x")))
    assert (found.source.sets, found.source.not_sets) == ((), ())


def test_not_selector_beside_selector_is_folded_in(three):
    found = compiled(three, policy("p", rule(source=side("has(app)", "app == 'db'"))))
    assert members_v4(source_set(found)) == {A, C}
    assert only_rule(found).source.not_sets == ()


def test_namespace_selector_replaces_own_namespace(three):
    assert reached(three, side("app == 'web'", namespaces="team == 'blue'"), namespace="x") == {C}


def test_namespace_selector_by_name_uses_the_name_label(three):
    assert reached(three, side(namespaces="projectcalico.org/name == 'y'")) == {C}


def test_namespace_selector_all_leaves_global_network_sets_out(three):
    outside = network_set("outside", {}, "203.0.113.0/24")
    assert reached(three, side(namespaces="all()"), network_sets=[outside]) == {A, B, C}


def test_namespace_selector_global_reaches_global_network_sets_only(three):
    outside = network_set("outside", {}, "203.0.113.0/24")
    assert reached(three, side(namespaces="global()"), network_sets=[outside]) == {"203.0.113.0/24"}


def test_negative_namespace_selector_reaches_what_has_no_namespace_too(three):
    outside = network_set("outside", {}, "203.0.113.0/24")
    assert reached(three, side(namespaces="team != 'red'"), network_sets=[outside]) == {C, "203.0.113.0/24"}


def test_service_account_names_and_selector_must_both_hold(three):
    both = side(service_accounts=ServiceAccountMatch(("web",), parse_selector("role == 'front'")))
    neither = side(service_accounts=ServiceAccountMatch(("web",), parse_selector("role == 'back'")))
    assert reached(three, both) == {A}
    assert reached(three, neither) == set()


def test_service_account_selector_alone_reaches_accounts_of_any_name(three):
    alone = side(service_accounts=ServiceAccountMatch((), parse_selector("role == 'front'")))
    assert reached(three, alone) == {A}


def test_network_set_in_namespace_inherits_its_labels(three):
    inside = network_set("inside", {"app": "lan"}, "203.0.113.0/24", namespace="y")
    assert reached(three, side("app == 'lan'", namespaces="team == 'blue'"), network_sets=[inside]) == {
        "203.0.113.0/24"
    }


def test_zero_prefix_in_network_set_is_split(three):
    everything = network_set("everything", {"app": "all"}, "0.0.0.0/0")
    assert reached(three, side("app == 'all'"), network_sets=[everything]) == {"0.0.0.0/1", "128.0.0.0/1"}


def test_forged_inherited_label_is_stripped():
    forged = workload("y/c", 3, {"pcns.team": "red", "pcsa.role": "front"})
    assert reached([forged], side("pcns.team == 'red'")) == set()
    assert reached([forged], side("has(pcsa.role)")) == set()


def test_own_label_beats_that_of_a_profile():
    own = workload("x/a", 1, {"tone": "own"}, profiles=("p",))
    profile = Profile("p", (), (), {"tone": "lent", "other": "lent"})
    assert reached([own], side("tone == 'own' && other == 'lent'"), profiles=[profile]) == {A}


def test_of_two_profiles_with_one_label_the_first_wins():
    own = workload("x/a", 1, profiles=("p", "q"))
    profiles = [Profile("q", (), (), {"tone": "q"}), Profile("p", (), (), {"tone": "p"})]
    assert reached([own], side("tone == 'p'"), profiles=profiles) == {A}


def test_system_labels_are_there(three):
    text = "projectcalico.org/namespace == 'x' && projectcalico.org/orchestrator == 'k8s'"
    assert reached(three, side(f"{text} && projectcalico.org/serviceaccount == 'web'")) == {A}


def test_namespaced_policy_selects_in_own_namespace_only(three):
    assert subjects(three, policy("p", namespace="x", selector="app == 'web'")) == {"x/a"}


def test_global_policy_is_limited_by_namespace_and_account_selectors(three):
    assert subjects(three, policy("p", namespace_selector="team == 'blue'")) == {"y/c"}
    assert subjects(three, policy("p", service_account_selector="role == 'front'")) == {"x/a"}


def test_all_beside_service_account_selector_means_whoever_has_an_account(three):
    negative = "role != 'front'"
    assert subjects(three, policy("p", service_account_selector=negative)) == set()
    assert subjects(three, policy("p", service_account_selector=negative, selector="has(app)")) == {"x/b", "y/c"}


def test_all_beside_service_account_selector_in_namespace_means_everyone(three):
    named = policy("p", namespace="x", service_account_selector="role != 'front'")
    assert subjects(three, named) == {"x/b"}


def test_equal_selectors_share_one_set(three):
    rules = [rule(source=side("app == 'web'")), rule(source=side("app=='web'"))]
    assert len(compiled(three, policy("p", *rules)).ip_sets) == 1


def test_rule_nets_stay_with_the_rule(three):
    found = compiled(three, policy("p", rule(source=side("has(app)", nets=nets("198.18.0.0/24")))))
    assert only_rule(found).source.nets == nets("198.18.0.0/24")
    assert members_v4(source_set(found)) == {A, B, C}


def test_endpoint_without_account_has_only_its_namespace_profile(three):
    found = compiled(three)
    assert endpoint(found, "x/a").profiles == ("kns.x", "ksa.x.web")
    assert endpoint(found, "x/b").profiles == ("kns.x",)
    assert len(found.profiles["kns.x"].ingress) == len(found.profiles["kns.x"].egress) == 1
    assert found.profiles["ksa.x.web"].ingress == ()


@pytest.mark.parametrize(("written", "told"), [(None, Place("world.yaml")), (Place("other.yaml", 3), None)])
def test_profiles_of_a_namespace_stand_where_it_stands_or_in_the_topologys_file(written, told):
    namespace = Namespace("x", {}, {"web": {}}, written)
    assert [found.place for found in namespace_profiles(namespace, "world.yaml")] == [told or written] * 2
