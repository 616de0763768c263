# SPDX-License-Identifier: Apache-2.0
"""What a snapshot says, read in the plainest way, is what the oracle says of the resources."""

from __future__ import annotations

from dataclasses import replace

from compile_draws import admin_policies, configurations, host_endpoints, slices, special_policies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle_worlds import World, all_resources, by_name, calico_policies, flows_of, kubernetes_policies, topologies
from snapshot_reader import flow_allowed

from lab.oracle import Oracle, explanation_text
from lab.policy.compile import compile_snapshots
from lab.policy.resources import CalicoPolicy, Profile

# Host endpoints without an interface on the node: they take part in selectors and named ports alone.
elsewhere = host_endpoints.map(lambda found: replace(found, node="node-1", interface="eth9"))
# The reader has no connection tracking that could call a packet invalid.
untracked = configurations.map(lambda found: replace(found, drop_invalid=None))


def readable(owner):
    """The Calico policy or profile without what its reader refuses: ports beside a service at a destination."""

    def without_ports(rule):
        to = rule.destination
        return rule if to.services is None else replace(rule, destination=replace(to, ports=()))

    if not isinstance(owner, CalicoPolicy | Profile):
        return owner
    ingress, egress = (tuple(map(without_ports, rules)) for rules in (owner.ingress, owner.egress))
    return replace(owner, ingress=ingress, egress=egress)


def by_node(configuration):
    return configuration.node


def named(found):
    return found.name


@st.composite
def worlds(draw):
    policies = st.one_of(calico_policies(), kubernetes_policies, admin_policies, special_policies)
    resources = replace(
        draw(all_resources(policies)),
        host_endpoints=tuple(draw(st.lists(elsewhere, max_size=2, unique_by=named))),
        endpoint_slices=tuple(
            draw(st.lists(slices, max_size=2, unique_by=lambda found: (found.namespace, found.name)))
        ),
        felix_configurations=tuple(draw(st.lists(untracked, max_size=1, unique_by=by_node))),
    )
    # Equal priorities of admin policies are left undefined by their specification.
    priorities: dict[object, object] = {}
    for policy in resources.policies:
        if hasattr(policy, "priority"):
            priorities.setdefault((policy.baseline, policy.priority), by_name(policy))
    kept = [
        policy
        for policy in resources.policies
        if not hasattr(policy, "priority") or priorities[policy.baseline, policy.priority] == by_name(policy)
    ]
    resources = replace(
        resources,
        policies=tuple(map(readable, kept)),
        profiles=tuple(map(readable, resources.profiles)),
    )
    return World(draw(topologies()), resources)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_any_world_is_compiled_to_what_the_oracle_says_of_it(world):
    oracle = Oracle(world.topology, world.resources)
    snapshots = compile_snapshots(world.topology, world.resources)
    for flow in flows_of(world.topology):
        if flow.source != flow.destination:
            found = flow_allowed(world.topology, snapshots, flow)
            assert found == oracle.verdict(flow).allowed, explanation_text(oracle.explain(flow))
