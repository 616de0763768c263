# SPDX-License-Identifier: Apache-2.0
"""Whatever comes, changes and goes: the deltas lead to what compiling everything anew gives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import compile_world
import pytest
from compile_draws import DENSE, edits, resources, topology
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lab.errors import PolicyError
from lab.policy.compile import Compiler, compile_snapshots
from lab.policy.compile.kinds import identity_of
from lab.policy.resources import (
    AdminPolicy,
    CalicoPolicy,
    EndpointSlice,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    KubernetesNetworkPolicy,
    NetworkSet,
    Profile,
    Resources,
    ServiceMatch,
    Tier,
)
from lab.policy.snapshot import MembersChange, apply_delta
from lab.topology import Namespace, Port, Workload

POLICIES = (CalicoPolicy, KubernetesNetworkPolicy, AdminPolicy)


def assert_new(delta, before):
    """A delta says nothing that is so already: a dataplane may trust it."""
    for part in ("endpoints", "policies", "profiles", "ip_sets", "host_endpoints"):
        had = getattr(before, part)
        assert all(had.get(key) != value for key, value in getattr(delta, part).items())
    assert delta.settings is None or delta.settings != before.settings
    for set_id, change in delta.members.items():
        members = before.ip_sets[set_id].nets | before.ip_sets[set_id].ports
        assert members.isdisjoint(change.added)
        assert members >= change.removed


class Changes(RuleBasedStateMachine):
    """A long-lived compiler whose nodes live from its deltas alone, beside a plain list of what there is."""

    @initialize(first=st.lists(resources, max_size=4))
    def begin(self, first):
        self.there = {identity_of(resource): resource for resource in [*DENSE, *first]}
        self.compiler = Compiler(*self.world())
        self.snapshots = self.compiler.snapshots()

    @rule(changed=st.lists(resources, min_size=1, max_size=3), data=st.data())
    def change(self, changed, data):
        """Some resources come or change, and some that are there go, in one step."""
        gone = data.draw(st.lists(st.sampled_from(sorted(self.there)), max_size=2, unique=True)) if self.there else []
        self.step(changed, [self.there.pop(identity) for identity in gone])

    @rule(data=st.data())
    def edit(self, data):
        """One field of one resource gets another value."""
        if self.there:
            self.step([data.draw(edits(self.there[data.draw(st.sampled_from(sorted(self.there)))]))], [])

    @rule(data=st.data())
    def go_and_come(self, data):
        """Something goes, and in the next step it is there again."""
        if self.there:
            gone = self.there.pop(data.draw(st.sampled_from(sorted(self.there))))
            self.step([], [gone])
            assert self.snapshots == compile_snapshots(*self.world())
            self.step([gone], [])

    def step(self, put, removed):
        self.there.update((identity_of(resource), resource) for resource in put)
        for node, delta in self.compiler.update(put, removed).items():
            assert not delta.is_empty
            assert delta.members.keys().isdisjoint(delta.ip_sets.keys() | delta.removed_ip_sets)
            assert_new(delta, self.snapshots[node])
            self.snapshots[node] = apply_delta(self.snapshots[node], delta)

    @rule(data=st.data())
    def put_again(self, data):
        if self.there:
            same = self.there[data.draw(st.sampled_from(sorted(self.there)))]
            assert self.compiler.update([same]) == {}

    def world(self):
        def of(*kinds):
            return tuple(resource for resource in self.there.values() if isinstance(resource, kinds))

        everything = Resources(
            of(*POLICIES), of(Tier), of(Profile), of(NetworkSet), of(HostEndpoint), (), of(EndpointSlice),
            of(IpPool), of(FelixConfiguration),
        )  # fmt: skip
        return topology(of(Namespace), of(Workload)), everything

    @invariant()
    def deltas_lead_to_the_full_compile(self):
        if hasattr(self, "compiler"):
            assert self.snapshots == compile_snapshots(*self.world())
            assert self.snapshots == self.compiler.snapshots()


Changes.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
test_any_changes_give_deltas_that_lead_to_the_full_compile = Changes.TestCase


def test_resource_that_is_not_there_cannot_be_removed():
    compiler = Compiler(topology())
    before = compiler.snapshots()
    with pytest.raises(PolicyError, match="there is no Tier to be removed; given: 'soft'"):
        compiler.update(put=[Tier("late", None, True)], remove=[Tier("soft", 1.0, True)])
    assert compiler.snapshots() == before


@pytest.mark.parametrize("last", [True, False])
def test_service_changes_after_a_rule_that_names_it_is_gone(last):
    """With ``last``, nobody names it any more: its set is forgotten; otherwise one other policy still does."""
    behind = EndpointSlice("s", "x", "web", (ip_address("198.18.0.1"),), (Port("http", 6, 80),), compile_world.HERE)
    named = compile_world.rule(source=compile_world.side(services=ServiceMatch("web", "x")))
    policies = [compile_world.policy(name, named) for name in ("p" if last else "pq")]
    there = compile_world.topology(compile_world.workload("x/a", 1))
    compiler = Compiler(there, Resources(tuple(policies), endpoint_slices=(behind,)))
    snapshots = compiler.snapshots()
    for delta in (compiler.update(remove=policies[:1]), compiler.update([moved := replace(behind, addresses=())])):
        snapshots |= {node: apply_delta(snapshots[node], change) for node, change in delta.items()}
    assert snapshots == compile_snapshots(there, Resources(tuple(policies[1:]), endpoint_slices=(moved,)))


def test_network_that_moves_to_another_set_of_the_same_label_changes_nothing():
    old, new = (compile_world.network_set(name, {"a": "1"}, "10.0.0.0/8") for name in ("old", "new"))
    policy = compile_world.policy("p", compile_world.rule(source=compile_world.side('a == "1"')))
    compiler = Compiler(
        compile_world.topology(compile_world.workload("x/a", 1)), Resources((policy,), network_sets=(old,))
    )
    assert compiler.update([new], [old]) == {}


def test_network_that_comes_and_goes_in_one_step_is_not_told():
    first, brief, last = (
        compile_world.network_set("s", {"a": "1"}, net) for net in ("10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8")
    )
    policy = compile_world.policy("p", compile_world.rule(source=compile_world.side('a == "1"')))
    there = compile_world.topology(compile_world.workload("x/a", 1))
    compiler = Compiler(there, Resources((policy,), network_sets=(first,)))
    (change,) = compiler.update([brief, last])["node-1"].members.values()
    assert change == MembersChange(frozenset(last.nets), frozenset(first.nets))


@pytest.mark.parametrize(("namespace", "number"), [(None, 10), ("x", 11), ("y", 12)])
def test_sets_of_one_name_in_several_namespaces_are_told_apart(namespace, number):
    sets = [
        compile_world.network_set("s", {"a": "1"}, f"{net}.0.0.0/8", namespace=name)
        for name, net in ((None, 10), ("x", 11), ("y", 12))
    ]
    policy = compile_world.policy("p", compile_world.rule(source=compile_world.side('a == "1"')))
    there = compile_world.topology(compile_world.workload("x/a", 1))
    compiler = Compiler(there, Resources((policy,), network_sets=tuple(sets)))
    gone = next(each for each in sets if each.namespace == namespace)
    (change,) = compiler.update([], [gone])["node-1"].members.values()
    assert change == MembersChange(frozenset(), frozenset({ip_network(f"{number}.0.0.0/8")}))


def test_policy_whose_order_changes_is_not_sent_again():
    policy = compile_world.policy("p", order=1.0)
    there = compile_world.topology(compile_world.workload("x/a", 1))
    compiler = Compiler(there, Resources((policy, compile_world.policy("q", order=2.0))))
    changed = compiler.update([replace(policy, order=3.0)])
    assert {node: (len(delta.endpoints), len(delta.policies)) for node, delta in changed.items()} == {"node-1": (1, 0)}


def test_policy_stays_while_one_of_two_like_workloads_is_left():
    first, second = (compile_world.workload(f"x/{name}", number) for name, number in (("a", 1), ("b", 2)))
    policy = compile_world.policy("p")
    compiler = Compiler(compile_world.topology(), Resources((policy,)))
    snapshots = compiler.snapshots()
    for put, removed in (([first, second], []), ([], [first])):
        changed = compiler.update(put, removed)
        snapshots |= {node: apply_delta(snapshots[node], delta) for node, delta in changed.items()}
    assert snapshots == compile_snapshots(compile_world.topology(second), Resources((policy,)))
    assert len(snapshots["node-1"].policies) == 1
