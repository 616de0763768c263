# SPDX-License-Identifier: Apache-2.0
"""What a change of the snapshot touches in the table, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nftables_world import FROM_CLIENTS, Followed, worlds
from snapshot_world import CLIENTS, WEB, endpoint, every_field, host, host_stages, rule, side, snapshot

from dataplanes.api import (
    Action,
    DataplaneError,
    EndpointPolicy,
    MembersChange,
    PolicyId,
    SnapshotDelta,
    SnapshotPolicy,
    TierPolicies,
    apply_delta,
)
from dataplanes.nftables.difference import difference
from dataplanes.nftables.follow import follow
from dataplanes.nftables.names import harmless, named
from dataplanes.nftables.parts import Chain


def policies(*rules, name="web"):
    policy_id = PolicyId("NetworkPolicy", "x", name)
    return SnapshotPolicy(policy_id, "default", rules, ())


def policed(*found, endpoints=2, **fields):
    """Endpoints that all have these policies in one tier, for ingress."""
    tier = TierPolicies("default", tuple(policy.policy_id for policy in found), (), pass_by_default=False)
    return snapshot([endpoint(number + 1, tier) for number in range(endpoints)], found, **fields)


def words(transactions):
    """Verb, kind and name of what each command touches."""
    for transaction in transactions:
        for command in transaction:
            ((verb, what),) = command.items()
            ((kind, body),) = what.items()
            yield verb, kind, body.get("chain", body.get("name"))


def touched(transactions):
    return {name for _, _, name in words(transactions)} - {"policylab"}


def members(added=(), removed=()):
    change = MembersChange(frozenset(map(ip_network, added)), frozenset(map(ip_network, removed)))
    return SnapshotDelta("node-1", members={CLIENTS.set_id: change})


def test_same_snapshot_again_asks_nothing_of_the_kernel():
    assert Followed(every_field()).to(every_field()) == []


def test_change_of_a_policy_touches_its_chain_alone_whatever_else_there_is():
    before = policed(*(policies(rule(), name=f"p{number}") for number in range(200)), endpoints=100)
    changed = policies(rule(Action.DENY), name="p7")
    delta = SnapshotDelta("node-1", policies={changed.policy_id: changed})
    (transaction,) = Followed(before).to(apply_delta(before, delta), delta)
    assert touched([transaction]) == {"policy-ingress/NetworkPolicy/x/p7"}
    assert len(transaction) == 3


def test_members_of_a_set_that_one_rule_names_change_in_place():
    before = policed(policies(FROM_CLIENTS))
    delta = members(["198.18.0.7/32"], ["198.18.0.1/32"])
    bare = replace(before, ip_sets={"sel-clients": replace(CLIENTS, nets=frozenset({ip_network("198.18.0.1/32")}))})
    (transaction,) = Followed(bare).to(apply_delta(bare, delta), delta)
    assert touched([transaction]) == {"net4/sel-clients"}


def test_element_that_comes_is_all_that_is_sent():
    bare = policed(policies(FROM_CLIENTS))
    bare = replace(bare, ip_sets={"sel-clients": replace(CLIENTS, nets=frozenset({ip_network("198.18.0.1/32")}))})
    delta = members(["198.18.0.7/32"])
    (transaction,) = Followed(bare).to(apply_delta(bare, delta), delta)
    assert [command["add"]["set"]["elem"] for command in transaction[1:]] == [["198.18.0.7"]]


@pytest.mark.parametrize(
    "rules",
    [
        (FROM_CLIENTS, rule(Action.DENY, source=side(not_sets=("sel-clients",)))),
        (rule(source=side(sets=("sel-clients",)), destination=side(sets=("sel-clients",))),),
    ],
    ids=["two rules", "both sides"],
)
def test_set_that_a_packet_may_look_at_twice_changes_together_with_its_rules(rules):
    """x comes: no rule may see the set without it, and the next one with it."""
    before = policed(policies(*rules))
    delta = members(["fd00:18::7/128"])
    followed = Followed(before)
    (transaction,) = followed.to(apply_delta(before, delta), delta)
    assert touched([transaction]) == {"net6/sel-clients", "net6/sel-clients/b", "policy-ingress/NetworkPolicy/x/web"}
    assert "net6/sel-clients" not in followed.names()
    delta = members([], ["fd00:18::7/128"])
    followed.to(apply_delta(followed.snapshot, delta), delta)
    assert "net6/sel-clients" in followed.names()


def test_two_sets_that_change_at_once_change_together_with_their_rules():
    others = replace(CLIENTS, set_id="others")
    before = policed(policies(FROM_CLIENTS, rule(source=side(sets=("others",)))), ip_sets=[CLIENTS, others])
    moved = {ip_network("198.18.0.1/32")}
    after = replace(
        before,
        ip_sets={
            "sel-clients": replace(CLIENTS, nets=CLIENTS.nets - moved - {ip_network("0.0.0.0/1")}),
            "others": replace(others, nets=others.nets - {ip_network("128.0.0.0/1")}),
        },
    )
    (transaction,) = Followed(before).to(after)
    assert {"net4/others/b", "net4/sel-clients/b"} <= touched([transaction])


def test_network_that_another_covers_comes_back_when_that_goes():
    followed = Followed(policed(policies(FROM_CLIENTS)))
    assert "198.18.0.1/32" not in followed.object("net4/sel-clients").elements
    delta = members([], ["128.0.0.0/1"])
    followed.to(apply_delta(followed.snapshot, delta), delta)
    assert list(followed.object("net4/sel-clients").elements) == ["0.0.0.0/1", "198.18.0.1/32"]


def test_what_nobody_uses_any_more_goes():
    followed = Followed(every_field())
    followed.to(snapshot([endpoint(3)]))
    assert followed.names() == Followed(snapshot([endpoint(3)])).names()


def test_workload_that_comes_is_one_more_element_and_its_chains():
    before = policed(policies(rule()), endpoints=50)
    after = policed(policies(rule()), endpoints=51)
    (transaction,) = Followed(before).to(after)
    new = endpoint(51).interface
    assert touched([transaction]) == {
        f"workload-ingress/{new}",
        f"workload-egress/{new}",
        "workloads-ingress",
        "workloads-egress",
    }
    assert [len(c["add"]["map"]["elem"]) for c in transaction if "map" in c.get("add", {})] == [1, 1]


def test_workload_that_goes_leaves_the_others_alone():
    before, after = (policed(policies(rule()), endpoints=number) for number in (50, 49))
    (transaction,) = Followed(before).to(after)
    gone = endpoint(50).interface
    assert touched([transaction]) == {
        f"workload-ingress/{gone}",
        f"workload-egress/{gone}",
        "workloads-ingress",
        "workloads-egress",
    }


def test_endpoints_with_the_same_policies_share_the_chain_of_the_tier():
    names = Followed(policed(policies(rule()), endpoints=9)).names()
    assert len([name for name in names if name.startswith("tier-")]) == 1


def test_change_that_a_packet_meets_at_one_hook_is_one_transaction():
    before = host_stages()
    pinhole = PolicyId("GlobalNetworkPolicy", "", "pinhole")
    changed = replace(before.policies[pinhole], ingress=(rule(Action.DENY),))
    assert len(Followed(before).to(replace(before, policies={**before.policies, pinhole: changed}))) == 1


def test_change_that_a_packet_meets_at_two_hooks_takes_three_transactions():
    before = host_stages()
    changed = {
        policy_id: replace(policy, ingress=(rule(Action.DENY),))
        for policy_id, policy in before.policies.items()
        if policy_id.name in ("pinhole", "normal")
    }
    beside, begun, settled = Followed(before).to(replace(before, policies={**before.policies, **changed}))
    assert {verb for verb, kind, _ in words([beside]) if kind == "rule"} == {"add", "insert"}
    assert not any(verb in ("flush", "delete") for verb, _, _ in words([beside, begun]))
    assert touched([begun]) == {"next-prerouting", "next-output"}
    names = [name for verb, _, name in words([settled]) if verb == "delete"]
    assert set(names) == {name for name in touched([beside, begun]) if name.startswith("next")}


def test_host_endpoints_that_go_take_their_hooks_with_them():
    followed = Followed(snapshot([endpoint(1)]), host_stages(), snapshot([endpoint(1)]))
    assert followed.names() == Followed(snapshot([endpoint(1)])).names()


def test_settings_reach_every_workload():
    before = policed(policies(rule()))
    followed = Followed(before)
    assert "4789" in json.dumps(followed.complete())
    followed.to(replace(before, settings=replace(before.settings, vxlan_port=4790)))
    assert "4789" not in json.dumps(followed.complete())


def test_ipv6_that_is_left_alone_is_let_by_at_every_entry():
    followed = Followed(host_stages())
    followed.to(replace(host_stages(), settings=replace(host_stages().settings, ipv6=False)))
    entries = [found for found in followed.graph.objects.values() if isinstance(found, Chain) and found.hooked]
    assert len(entries) == 8
    assert all(entry.rules[0]["comment"] == "IPv6 is not ours here" for entry in entries)


def test_policy_that_the_snapshot_does_not_hold_is_refused_and_nothing_changes():
    followed = Followed(every_field())
    before = held(followed)
    tier = TierPolicies("default", (PolicyId("NetworkPolicy", "x", "gone"),), (), pass_by_default=False)
    with pytest.raises(DataplaneError, match="NetworkPolicy/x/gone"):
        followed.to(snapshot([endpoint(1, tier), endpoint(9)]))
    followed.graph.undo()
    assert held(followed) == before
    assert followed.to(every_field()) == []


def test_policy_that_goes_while_an_endpoint_names_it_is_refused():
    before = policed(policies(rule()))
    delta = SnapshotDelta("node-1", removed_policies=frozenset({WEB}))
    with pytest.raises(DataplaneError, match="NetworkPolicy/x/web"):
        Followed(before).to(apply_delta(before, delta), delta)


def test_profile_that_comes_and_goes_opens_and_closes():
    before = snapshot([endpoint(1, profiles=("gone", "kns.x"))])
    followed = Followed(before)
    assert "gone is missing" in json.dumps(followed.complete())
    (transaction,) = followed.to(replace(before, profiles={**before.profiles, "gone": before.profiles["kns.x"]}))
    assert touched([transaction]) == {"profile-ingress/gone", "profile-egress/gone"}


def test_names_that_a_kernel_or_nft_cannot_hold_stay_apart():
    texts = ("a b", "a_b", "a\nb", "aéb", "w" * 400, "w" * 401)
    names = {named("policy-ingress", text) for text in texts}
    assert len(names) == len(texts)
    assert max(map(len, names)) < 255


def test_comment_cannot_leave_its_quotes_or_its_line():
    assert harmless('a "b"\n\\ é') == "a 'b'__ _"
    assert len(harmless("x" * 1000)) == 127


def test_two_policies_never_share_a_chain():
    one, other = PolicyId("NetworkPolicy", "a", "b/c"), PolicyId("NetworkPolicy", "a/b", "c")
    tier = TierPolicies("default", (one, other), (), pass_by_default=False)
    found = [SnapshotPolicy(policy_id, "default", (), ()) for policy_id in (one, other)]
    with pytest.raises(DataplaneError, match="share"):
        Followed(snapshot([endpoint(1, tier)], found))


def test_interface_that_is_no_workload_is_refused():
    with pytest.raises(DataplaneError, match="eth0"):
        Followed(snapshot([EndpointPolicy("eth0", "x/1", (), (), ())]))


@pytest.mark.parametrize("interface", ["eth*", "-j", "a b", 'eth0"', "sixteen-letters-", ""])
def test_interface_that_nftables_cannot_name_is_refused(interface):
    with pytest.raises(DataplaneError, match="cannot name this interface"):
        Followed(replace(snapshot([]), host_endpoints={interface: host(interface, "odd")}))


# --- any way to a snapshot ends in the same table ----------------------------------------------------------------


def held(followed):
    """The whole table, with sets under their first names."""
    return sorted(json.dumps(command).replace('/b"', '"') for command in followed.complete())


@settings(max_examples=100, deadline=None)
@given(st.lists(worlds(), min_size=2, max_size=3))
def test_any_way_to_a_snapshot_ends_in_the_same_table(path):
    assert held(Followed(*path)) == held(Followed(path[-1]))


@settings(max_examples=50, deadline=None)
@given(worlds(), worlds())
def test_change_that_is_undone_leaves_no_trace(before, after):
    followed = Followed(before)
    kept = held(followed)
    follow(followed.graph, after, difference(before, after))
    followed.graph.undo()
    assert held(followed) == kept
    followed.to(after)
    assert held(followed) == held(Followed(after))
