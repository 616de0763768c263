# SPDX-License-Identifier: Apache-2.0
"""Whatever comes, changes and goes: the deltas lead to what compiling everything anew gives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import compile_world
import pytest
from compile_draws import DENSE, edits, resources, topology
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lab.errors import PolicyError
from lab.policy.compile import Compiler, compile_snapshots
from lab.policy.compile.compiler import identity_of
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
from lab.policy.snapshot import apply_delta
from lab.topology import Namespace, Port, Workload

POLICIES = (CalicoPolicy, KubernetesNetworkPolicy, AdminPolicy)


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
