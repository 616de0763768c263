# SPDX-License-Identifier: Apache-2.0
"""Names that fit the kernel, dispatch that stays short, transactions that touch what is ours alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from snapshot_world import GUARD, WEB, endpoint, every_field, host, host_stages, rule, snapshot

from dataplanes.api import Action, DataplaneError, EndpointPolicy, PolicyId, SnapshotPolicy, TierPolicies
from dataplanes.iptables.names import chain_name, comment, set_name
from dataplanes.iptables.ruleset import render
from dataplanes.iptables.text import NOTHING, Held, Installed, after, counters, installed
from dataplanes.iptables.transaction import change


def with_policies(*names, kind="NetworkPolicy"):
    ids = tuple(PolicyId(kind, "x", name) for name in names)
    tier = TierPolicies("default", ids, ids, pass_by_default=False)
    policies = [SnapshotPolicy(policy_id, "default", (rule(),), (rule(Action.DENY),)) for policy_id in ids]
    return snapshot([endpoint(1, tier)], policies)


def holding(chains, *hooks):
    return Installed({"filter": Held(frozenset(chains), hooks)}, None)


def test_short_name_is_itself():
    assert chain_name("pi", "np.x.web") == "plab-pi-np.x.web"


def test_long_names_are_cut_and_stay_apart():
    first, second = (chain_name("pi", "np.x." + "a" * 60 + end) for end in "bc")
    assert first != second
    assert len(first) == len(second) == 28


def test_names_that_differ_in_what_a_chain_cannot_hold_stay_apart():
    assert len({chain_name("pi", name) for name in ("a b", "a_b", "a\nb", "aéb")}) == 4


def test_set_name_fits_and_changes_with_the_content():
    names = {set_name("a-very-long-set-id-that-does-not-fit", family, content) for family in (4, 6) for content in "ab"}
    assert len(names) == 4
    assert max(map(len, names)) == 31


def test_comment_cannot_leave_its_quotes_or_its_line():
    text = comment('a "b"\n-j ACCEPT \\ é')
    assert text == "-m comment --comment \"a 'b'_-j ACCEPT _ _\""
    assert len(comment("x" * 1000)) < 300


def test_all_chain_names_fit_the_kernel():
    names = render(with_policies("w" * 200, "web"), 4).tables["filter"].chains
    assert max(map(len, names)) <= 28


def test_interface_that_is_no_workload_is_refused():
    stray = EndpointPolicy("eth0", "x/1", (), (), ())
    with pytest.raises(DataplaneError, match="eth0"):
        render(snapshot([stray]), 4)


def test_policy_that_the_snapshot_does_not_hold_is_refused():
    tier = TierPolicies("default", (WEB,), (), pass_by_default=False)
    with pytest.raises(DataplaneError, match="NetworkPolicy/x/web"):
        render(snapshot([endpoint(1, tier)]), 4)


def test_two_policies_never_share_a_chain():
    one, other = PolicyId("NetworkPolicy", "a.b", "c"), PolicyId("NetworkPolicy", "a", "b.c")
    tier = TierPolicies("default", (one, other), (), pass_by_default=False)
    policies = [SnapshotPolicy(policy_id, "default", (), ()) for policy_id in (one, other)]
    with pytest.raises(DataplaneError, match="share"):
        render(snapshot([endpoint(1, tier)], policies), 4)


def test_endpoints_with_the_same_policies_share_the_chain_of_the_tier():
    tier = TierPolicies("default", (GUARD,), (), pass_by_default=False)
    guard = SnapshotPolicy(GUARD, "default", (rule(),), ())
    chains = render(snapshot([endpoint(1, tier), endpoint(2, tier)], [guard]), 4).tables["filter"].chains
    assert len([name for name in chains if name.startswith("plab-ti-")]) == 1


def test_dispatch_over_a_thousand_endpoints_stays_short_and_reaches_each():
    endpoints = [endpoint(number * 7919) for number in range(1000)]
    chains = render(snapshot(endpoints), 4).tables["filter"].chains
    dispatch = {name: chain.rules for name, chain in chains.items() if re.match(r"plab-from(-|$)", name)}
    assert max(map(len, dispatch.values())) <= 21
    reached = [rule for rules in dispatch.values() for rule in rules if "plab-egress-" in rule]
    assert len(reached) == 1000
    assert all(rules[-1].endswith("-j DROP") for rules in dispatch.values())


def test_interfaces_with_much_in_common_do_not_lie_deep():
    chains = render(snapshot([endpoint(number) for number in range(1000)]), 4).tables["filter"].chains
    assert depth(chains, "plab-from") == 3


def depth(chains, name):
    """How many chains a packet walks from one to the last that leads on by interface."""
    below = {rule.rpartition(" ")[2] for rule in chains[name].rules}
    return 1 + max((depth(chains, chain) for chain in below if chain.startswith("plab-from-")), default=0)


def test_missing_profile_ends_the_list_with_a_drop():
    chains = render(snapshot([endpoint(1, profiles=("gone", "kns.x"))]), 4).tables["filter"].chains
    rules = chains["plab-ingress-cali00000000001"].rules
    assert "gone is missing" in rules[-1]
    assert not any("kns.x" in rule for rule in rules)


def test_transaction_empties_and_removes_chains_that_are_no_longer_wanted():
    before = holding({"plab-old", "plab-allow"}, "FORWARD -j plab-old")
    lines = change(render(snapshot([]), 4), before).text.splitlines()
    assert ":plab-old - [0:0]" in lines
    assert lines.index("-D FORWARD -j plab-old") < lines.index("-X plab-old")
    assert "-X plab-allow" not in lines


def test_removal_names_only_what_is_installed():
    before = holding({"plab-a"}, "FORWARD -j plab-a")
    assert change(None, before).text == "*filter\n:plab-a - [0:0]\n-D FORWARD -j plab-a\n-X plab-a\nCOMMIT\n"


def test_saved_table_tells_own_chains_and_foreign_rules_that_jump_to_them():
    saved = "*filter\n:FORWARD ACCEPT [0:0]\n:plab-a - [0:0]\n:theirs - [0:0]\n"
    saved += "-A FORWARD -j theirs\n-A FORWARD -i x -j plab-a\n-A plab-a -j plab-b\nCOMMIT\n"
    assert installed(saved) == holding({"plab-a"}, "FORWARD -i x -j plab-a")


def test_what_is_installed_after_a_transaction_is_what_the_next_one_expects():
    ruleset = render(every_field(), 4)
    assert after(None, 0) == NOTHING
    for hook in after(ruleset, 0).tables["filter"].hooks:
        assert f"-I {hook.replace(' ', ' 1 ', 1)}\n" in change(ruleset, NOTHING).text


def test_counters_sum_what_decided_in_each_chain():
    saved = "*filter\n[7:70] -A plab-pi-np.x.web -p tcp -g plab-allow\n[5:50] -A plab-pi-np.x.web -j DROP\n"
    saved += "[9:90] -A plab-pi-np.x.web -j MARK --set-xmark 0x0/0x1\n[3:30] -A theirs -j DROP\nCOMMIT\n"
    assert counters(saved, render(with_policies("web"), 4)) == {"ipv4 policy NetworkPolicy/x/web ingress": 12}


def test_counters_know_both_generations_and_tell_tables_apart():
    saved = "*mangle\n[2:20] -A plab.pi-gnp.pinhole -p tcp -g plab.allow\nCOMMIT\n"
    saved += "*filter\n[3:30] -A plab.host-in-eth0 -j DROP\nCOMMIT\n"
    assert counters(saved, render(host_stages(), 4)) == {
        "ipv4 mangle policy GlobalNetworkPolicy/pinhole ingress": 2,
        "ipv4 host endpoint node-1-eth0 normal ingress": 3,
    }


@pytest.mark.parametrize("interface", ["eth+", "-j", "a b", "eth0\n-A FORWARD", "sixteen-letters-", ""])
def test_interface_that_iptables_cannot_name_is_refused(interface):
    with pytest.raises(DataplaneError, match="cannot name this interface"):
        render(replace(snapshot([]), host_endpoints={interface: host(interface, "odd")}), 4)


def test_tables_come_first_to_last_and_go_last_to_first():
    come = change(render(host_stages(), 4), NOTHING)
    assert tables(come) == ["raw", "mangle", "filter", "nat"]
    assert tables(change(render(snapshot([]), 4), come.after)) == ["filter", "mangle", "raw", "nat"]
    assert tables(change(None, come.after)) == ["filter", "mangle", "raw", "nat"]
    workloads = change(render(snapshot([]), 4), NOTHING)
    assert tables(workloads) == ["filter", "raw"]
    assert tables(change(None, workloads.after)) == ["filter", "raw"]
    assert tables(change(render(host_stages(), 4), workloads.after)) == ["raw", "mangle", "filter", "nat"]


def test_host_endpoints_change_side_by_side_under_other_names_each_time():
    names = [change(render(host_stages(), 4), NOTHING)]
    for _ in range(2):
        names.append(change(render(host_stages(), 4), names[-1].after))
    assert tables(names[1]) == ["filter", "mangle", "raw", "filter", "mangle", "raw", "nat"]
    first, second, third = (found.after.tables["filter"].chains for found in names)
    assert not first & second
    assert first == third


def test_workloads_alone_change_in_one_commit():
    first = change(render(every_field(), 4), NOTHING)
    assert tables(change(render(snapshot([]), 4), first.after)) == ["filter"]


def tables(found):
    return [line[1:] for line in found.text.splitlines() if line.startswith("*")]
