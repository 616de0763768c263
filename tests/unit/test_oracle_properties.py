# SPDX-License-Identifier: Apache-2.0
"""The oracle against a second model, against its own explanations, and against itself in other words."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from itertools import groupby

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle_brute_force import BruteForce, pretended
from oracle_worlds import KEYS, World, admin_policies, calico_policies, flows_of, selectors, worlds

from lab.oracle import Oracle, RuleDecision, Verdict, explanation_text
from lab.policy.resources import Action, AdminPeer, AdminPolicy, AdminRule, CalicoPolicy, EntityRule, Rule
from lab.policy.selector import Selector, parse_selector

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def spelled(verdict: Verdict) -> tuple[bool, tuple[object, ...]]:
    decision = verdict.decided_by
    direction = decision.direction.value if decision.direction is not None else None
    if isinstance(decision, RuleDecision):
        named = (direction, decision.tier, decision.kind, decision.namespace, decision.name, decision.rule)
        return verdict.allowed, named
    return verdict.allowed, (direction, decision.reason, decision.owner)


def allowed(world: World) -> list[bool]:
    oracle = Oracle(world.topology, world.resources)
    return [verdict.allowed for verdict in oracle.verdicts(flows_of(world.topology))]


@quick
@given(worlds())
def test_any_world_is_judged_as_brute_force_judges_it(world: World) -> None:
    oracle, brute = Oracle(world.topology, world.resources), BruteForce(world.topology, world.resources)
    for flow in flows_of(world.topology):
        assert spelled(oracle.verdict(flow)) == brute.verdict(flow), explanation_text(oracle.explain(flow))


@quick
@given(worlds(admin_policies()))
def test_world_of_admin_policies_is_judged_as_brute_force_judges_it(world: World) -> None:
    oracle, brute = Oracle(world.topology, world.resources), BruteForce(world.topology, world.resources)
    for flow in flows_of(world.topology):
        assert spelled(oracle.verdict(flow)) == brute.verdict(flow), explanation_text(oracle.explain(flow))


@quick
@given(worlds())
def test_staged_policies_would_do_what_brute_force_says(world: World) -> None:
    oracle, brute = Oracle(world.topology, world.resources), BruteForce(world.topology, pretended(world.resources))
    for flow in flows_of(world.topology):
        assert spelled(oracle.staged_verdict(flow)) == brute.verdict(flow)


@quick
@given(worlds())
def test_any_explanation_agrees_with_its_verdict(world: World) -> None:
    oracle = Oracle(world.topology, world.resources)
    for flow in flows_of(world.topology):
        explanation = oracle.explain(flow)
        assert explanation.verdict == oracle.verdict(flow)
        assert json.loads(json.dumps(explanation.to_dict()))["verdict"] in explanation_text(explanation)


def change_policies(world: World, change) -> World:
    policies = tuple(made for policy in world.resources.policies for made in change(policy))
    return replace(world, resources=replace(world.resources, policies=policies))


def change_rules(world: World, change) -> World:
    """Every rule of every Calico policy replaced by the rules that ``change`` makes of it."""

    def changed(policy):
        if not isinstance(policy, CalicoPolicy):
            return (policy,)
        lists = {
            name: tuple(made for rule in getattr(policy, name) for made in change(rule))
            for name in ("ingress", "egress")
        }
        return (replace(policy, **lists),)

    return change_policies(world, changed)


def split(rule: Rule) -> tuple[Rule, ...]:
    """One rule for each of its source networks and destination ports."""
    nets = [(net,) for net in rule.source.nets] or [()]
    ports = [(port,) for port in rule.destination.ports] or [()]
    if len({net.version for net in rule.source.nets}) > 1:
        return (rule,)
    return tuple(
        replace(rule, source=replace(rule.source, nets=net), destination=replace(rule.destination, ports=port))
        for net in nets
        for port in ports
    )


@quick
@given(worlds())
def test_rule_split_in_several_gives_same_verdicts(world: World) -> None:
    assert allowed(change_rules(world, split)) == allowed(world)


def renamed(selector: Selector | None, text) -> Selector | None:
    return None if selector is None or not selector.text else parse_selector(text(selector.text))


def reworded(rule: Rule, text) -> Rule:
    def side(entity: EntityRule) -> EntityRule:
        return replace(entity, selector=renamed(entity.selector, text), not_selector=renamed(entity.not_selector, text))

    return replace(rule, source=side(rule.source), destination=side(rule.destination))


@quick
@given(worlds())
def test_selector_negated_twice_gives_same_verdicts(world: World) -> None:
    def twice(text: str) -> str:
        return f"!(! ({text}))"

    assert allowed(change_rules(world, lambda rule: (reworded(rule, twice),))) == allowed(world)


@quick
@given(worlds(), selectors)
def test_selector_or_its_opposite_selects_every_known_party(world: World, selector: Selector) -> None:
    def everyone(rule: Rule) -> tuple[Rule, ...]:
        return (replace(rule, source=replace(rule.source, selector=parse_selector("all()"))),)

    def either(rule: Rule) -> tuple[Rule, ...]:
        text = f"({selector.text}) || !({selector.text})"
        return (replace(rule, source=replace(rule.source, selector=parse_selector(text))),)

    assert allowed(change_rules(world, either)) == allowed(change_rules(world, everyone))


@quick
@given(worlds(calico_policies()))
def test_labels_renamed_everywhere_give_same_verdicts(world: World) -> None:
    names = dict(zip(KEYS, ("example.com/z-k", "z_l"), strict=True))

    def text(written: str) -> str:
        for old, new in names.items():
            for before in ("(", " ", "!"):
                written = f" {written}".replace(f"{before}{old} ", f"{before}{new} ").replace(
                    f"{before}{old})", f"{before}{new})"
                )
        return written

    def labels(given_labels):
        return {names[key]: value for key, value in given_labels.items()}

    topology = replace(
        world.topology,
        namespaces={
            name: replace(
                space,
                labels=labels(space.labels),
                service_accounts={account: labels(own) for account, own in space.service_accounts.items()},
            )
            for name, space in world.topology.namespaces.items()
        },
        workloads={name: replace(w, labels=labels(w.labels)) for name, w in world.topology.workloads.items()},
    )

    def rule(old: Rule) -> Rule:
        def side(entity: EntityRule) -> EntityRule:
            accounts = entity.service_accounts
            if accounts is not None:
                accounts = replace(accounts, selector=renamed(accounts.selector, text))
            namespaces = renamed(entity.namespace_selector, text)
            return replace(entity, namespace_selector=namespaces, service_accounts=accounts)

        half = reworded(old, text)
        return replace(half, source=side(half.source), destination=side(half.destination))

    def policy(old: CalicoPolicy) -> CalicoPolicy:
        return replace(
            old,
            selector=renamed(old.selector, text) or old.selector,
            namespace_selector=renamed(old.namespace_selector, text),
            service_account_selector=renamed(old.service_account_selector, text),
            ingress=tuple(map(rule, old.ingress)),
            egress=tuple(map(rule, old.egress)),
        )

    resources = world.resources
    changed = replace(
        resources,
        policies=tuple(policy(old) for old in resources.policies if isinstance(old, CalicoPolicy)),
        profiles=tuple(
            replace(
                p,
                labels_to_apply=labels(p.labels_to_apply),
                ingress=tuple(map(rule, p.ingress)),
                egress=tuple(map(rule, p.egress)),
            )
            for p in resources.profiles
        ),
        network_sets=tuple(replace(s, labels=labels(s.labels)) for s in resources.network_sets),
    )
    assert allowed(World(topology, changed)) == allowed(world)


@quick
@given(worlds(), st.randoms(use_true_random=False))
def test_order_of_what_has_none_does_not_matter(world: World, random) -> None:
    def shuffled(values):
        return tuple(random.sample(values, len(values)))

    def mixed(rule: Rule) -> tuple[Rule, ...]:
        def side(entity: EntityRule) -> EntityRule:
            lists = {key: shuffled(getattr(entity, key)) for key in ("nets", "not_nets", "ports", "not_ports")}
            return replace(entity, **lists)

        return (replace(rule, source=side(rule.source), destination=side(rule.destination)),)

    mixed_world = change_rules(world, mixed)
    resources = mixed_world.resources
    kinds = {key: shuffled(getattr(resources, key)) for key in ("policies", "tiers", "profiles", "network_sets")}
    spaces = dict(reversed(world.topology.namespaces.items()))
    changed = World(replace(world.topology, namespaces=spaces), replace(resources, **kinds))
    assert allowed(changed) == allowed(world)


@quick
@given(worlds(calico_policies()), st.integers(0, 3))
def test_policy_cut_in_two_that_follow_each_other_gives_same_verdicts(world: World, at: int) -> None:
    ranked = sorted(
        world.resources.policies,
        key=lambda p: (p.order is None, p.order or 0, f"{p.name}/{p.namespace or ''}/{p.kind}"),
    )
    orders = {id(policy): float(rank) for rank, policy in enumerate(ranked)}

    def halves(policy: CalicoPolicy) -> tuple[CalicoPolicy, ...]:
        order = orders[id(policy)]
        first = replace(policy, order=order, ingress=policy.ingress[:at], egress=policy.egress[:at])
        rest = replace(
            policy, order=order + 0.5, ingress=policy.ingress[at:], egress=policy.egress[at:], name=f"{policy.name}-2"
        )
        return first, rest

    assert allowed(change_policies(world, halves)) == allowed(world)


@quick
@given(worlds(admin_policies()), st.integers(0, 2))
def test_admin_policy_cut_in_two_of_adjacent_priorities_gives_same_verdicts(world: World, at: int) -> None:
    """Ranked anew first, so that no two have equal priorities, about which the API says nothing."""
    ranked = sorted(world.resources.policies, key=lambda p: (p.priority, f"{p.name}//{p.kind}"))
    priority = {id(policy): 2 * rank for rank, policy in enumerate(ranked)}

    def halves(policy: AdminPolicy) -> tuple[AdminPolicy, ...]:
        first = replace(policy, priority=priority[id(policy)], ingress=policy.ingress[:at], egress=policy.egress[:at])
        rest = replace(first, priority=first.priority + 1, ingress=policy.ingress[at:], egress=policy.egress[at:])
        return first, replace(rest, name=f"{policy.name}-2")

    assert allowed(change_policies(world, halves)) == allowed(world)


def change_admin_rules(world: World, change) -> World:
    """The rules of each direction of each admin policy replaced by what ``change`` makes of them."""

    def changed(policy):
        if not isinstance(policy, AdminPolicy):
            return (policy,)
        return (replace(policy, ingress=change(policy.ingress), egress=change(policy.egress)),)

    return change_policies(world, changed)


@quick
@given(worlds(admin_policies()), st.randoms(use_true_random=False))
def test_admin_rules_of_one_action_in_a_row_may_be_permuted(world: World, random) -> None:
    def permuted(rules: tuple[AdminRule, ...]) -> tuple[AdminRule, ...]:
        # A rule that passes may fail closed, and then it denies: only the other two are alike for sure.
        runs = [list(run) for _, run in groupby(rules, key=lambda rule: rule.action)]
        return tuple(
            rule for run in runs for rule in (random.sample(run, len(run)) if run[0].action is not Action.PASS else run)
        )

    assert allowed(change_admin_rules(world, permuted)) == allowed(world)


@quick
@given(worlds(admin_policies()))
def test_admin_rule_split_by_peers_and_ports_gives_same_verdicts(world: World) -> None:
    def split_up(rules: tuple[AdminRule, ...]) -> tuple[AdminRule, ...]:
        return tuple(
            replace(rule, peers=(peer,), ports=ports)
            for rule in rules
            for peer in rule.peers
            for ports in [(port,) for port in rule.ports] or [()]
        )

    def known(rules: tuple[AdminRule, ...]) -> tuple[AdminRule, ...]:
        """Without what fails closed as a whole."""
        return tuple(rule for rule in rules if not any(peer == AdminPeer() or peer.domain_names for peer in rule.peers))

    world = change_admin_rules(world, known)
    assert allowed(change_admin_rules(world, split_up)) == allowed(world)


@quick
@given(worlds(admin_policies()))
def test_pass_at_the_end_of_the_last_admin_policy_changes_nothing(world: World) -> None:
    anybody = AdminPeer(networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    world = change_policies(world, lambda policy: (replace(policy, ingress=(), baseline=False),))
    last = max(world.resources.policies, key=lambda p: (p.priority, f"{p.name}//{p.kind}"))
    passing = AdminRule("", Action.PASS, (anybody,), (), last.place)

    def ended(policy: AdminPolicy) -> tuple[AdminPolicy, ...]:
        return (replace(policy, egress=(*policy.egress, passing)) if policy is last else policy,)

    assert allowed(change_policies(world, ended)) == allowed(world)
