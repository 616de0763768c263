# SPDX-License-Identifier: Apache-2.0
"""Policies that select nobody, and rules whose one side is nobody in this topology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from lab.lint.contradictions import covers, never_matches
from lab.lint.finding import Finding
from lab.lint.satisfiable import is_satisfiable
from lab.lint.scene import Scene, Written, about
from lab.lint.words import Vocabulary
from lab.oracle.admin import is_subject, unknown_field
from lab.oracle.kubernetes import selects
from lab.oracle.peers import PartyTest, party_test
from lab.oracle.world import Party
from lab.policy.resources import (
    AdminPeer,
    AdminPolicy,
    AdminRule,
    CalicoPolicy,
    Direction,
    EntityRule,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    KubernetesRule,
    LabelSelector,
    Policy,
    Rule,
    StagedAction,
)
from lab.policy.selector import Selector
from lab.topology import Net

__all__ = ["Labels", "nobody_asked", "nobody_selected"]

AnySelector = Selector | LabelSelector


class Labels:
    """The labels that are there, by whom a selector is about."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @cached_property
    def ends(self) -> Vocabulary:
        """Of workloads and host endpoints, inherited ones included."""
        return Vocabulary(party.labels for party in self._scene.ends)

    @cached_property
    def parties(self) -> Vocabulary:
        """Of workloads, host endpoints and network sets."""
        return Vocabulary(party.labels for party, _ in self._scene.parties)

    @cached_property
    def namespaces(self) -> Vocabulary:
        """Of namespaces, those that nobody lives in included."""
        spaces = self._scene.topology.namespaces.values()
        lived_in = [party.namespace_labels for party, _ in self._scene.parties]
        return Vocabulary([*(space.labels for space in spaces), *lived_in])

    @cached_property
    def accounts(self) -> Vocabulary:
        """Of service accounts."""
        spaces = self._scene.topology.namespaces.values()
        used = [party.account_labels for party, _ in self._scene.parties]
        return Vocabulary([*(labels for space in spaces for labels in space.service_accounts.values()), *used])

    @cached_property
    def nodes(self) -> Vocabulary:
        """Of nodes."""
        return Vocabulary(node.labels for node in self._scene.topology.nodes.values())


def nobody_selected(scene: Scene, labels: Labels) -> Iterator[Finding]:
    """A finding for each policy that selects no end; one that is to delete another selects nobody anyway."""
    for policy in scene.resources.policies:
        deletes = not isinstance(policy, AdminPolicy) and policy.staged is StagedAction.DELETE
        if not deletes and not scene.selected(policy):
            message = f"the policy selects nobody: {_why_unselected(scene, labels, policy)}"
            yield Finding("lint.policy-selects-nobody", "warning", policy.place, about(policy), message)


def _why_unselected(scene: Scene, labels: Labels, policy: Policy) -> str:
    if isinstance(policy, CalicoPolicy) and (policy.do_not_track or policy.pre_dnat):
        if not scene.world.hosts:
            return "policies with doNotTrack or preDNAT hold for host endpoints, and there are none"
        labels_of_hosts = Vocabulary(party.labels for party in scene.world.hosts.values())
        return f"among the host endpoints {labels_of_hosts.missing(policy.selector)}"
    namespace = policy.namespace
    if namespace is not None and not any(party.namespace == namespace for party in scene.ends):
        return f"no workload is in the namespace {namespace}"
    for selector, vocabulary in _subject_selectors(labels, policy):
        if isinstance(selector, Selector) and not is_satisfiable(selector):
            return f"no labels at all can pass {selector.text}"
        reason = vocabulary.missing(selector)
        if not reason.endswith("at once"):
            return reason
    return "nobody's labels meet all of it at once"


def _subject_selectors(labels: Labels, policy: Policy) -> Iterator[tuple[AnySelector, Vocabulary]]:
    match policy:
        case CalicoPolicy():
            yield policy.selector, labels.ends
            if policy.namespace_selector is not None:
                yield policy.namespace_selector, labels.namespaces
            if policy.service_account_selector is not None:
                yield policy.service_account_selector, labels.accounts
        case KubernetesNetworkPolicy():
            yield policy.pod_selector, labels.ends
        case AdminPolicy():
            yield from _admin_selectors(labels, policy.subject)


def _admin_selectors(labels: Labels, peer: AdminPeer) -> Iterator[tuple[LabelSelector, Vocabulary]]:
    if peer.namespaces is not None:
        yield peer.namespaces, labels.namespaces
    if peer.pods is not None:
        yield peer.pods[0], labels.namespaces
        yield peer.pods[1], labels.ends
    if peer.nodes is not None:
        yield peer.nodes, labels.nodes


def nobody_asked(scene: Scene, labels: Labels) -> Iterator[Finding]:
    """A finding for each rule that nobody in the topology can match, which more workloads could change."""
    checker = _Sides(scene, labels)
    for written in scene.rules():
        if not never_matches(written):
            for message in checker.reasons(written):
                yield Finding("lint.rule-matches-nobody", "warning", written.rule.place, written.about, message)


class _Sides:
    """Looks for somebody on each side of a rule; equal questions are answered once."""

    def __init__(self, scene: Scene, labels: Labels) -> None:
        self._scene, self._labels = scene, labels
        self._passing: dict[PartyTest, list[tuple[Party, Sequence[Net]]]] = {}

    def reasons(self, written: Written) -> Iterator[str]:
        """What is wrong with a rule's sides."""
        match written.rule:
            case Rule() as rule:
                for name, side in (("source", rule.source), ("destination", rule.destination)):
                    reason = self._of_side(written, name, side)
                    if reason is not None:
                        yield f"nobody in the topology is the {name} that the rule asks for: {reason}"
            case KubernetesRule(peers=peers):
                yield from self._of_peers(peers, [self._of_kubernetes(peer, written) for peer in peers])
            case AdminRule(peers=admin_peers) as admin_rule if not unknown_field(admin_rule, written.direction):
                yield from self._of_peers(admin_peers, [self._of_admin(peer) for peer in admin_peers])

    def _of_peers(self, peers: Sequence[object], reasons: Sequence[str | None]) -> Iterator[str]:
        if peers and all(reasons):
            yield f"nobody in the topology is a peer of the rule: {reasons[0]}"
            return
        for index, reason in enumerate(reasons):
            if reason is not None:
                yield f"nobody in the topology is peer {index} of the rule: {reason}"

    def _of_side(self, written: Written, name: str, side: EntityRule) -> str | None:
        namespace = written.owner.namespace if isinstance(written.owner, CalicoPolicy) else None
        test = party_test(side, namespace)
        if test is None:
            return None
        passing = self._who(test)
        if not passing:
            return self._why(side, namespace)
        nets = [net for _, found in passing for net in found]
        if side.nets and not any(_overlap(net, other) for net in nets for other in side.nets):
            return "those whom its selectors allow are outside its nets"
        families = {net.version for net in side.not_nets}  # in another one the rule is absent
        if side.not_nets and nets and all(covers(side.not_nets, net) for net in nets if net.version in families):
            return "those whom its selectors allow are all within its notNets"
        return self._of_own_side(written, name, passing)

    def _of_own_side(self, written: Written, name: str, passing: Sequence[tuple[Party, Sequence[Net]]]) -> str | None:
        """On the side of the policy's own endpoints it must be one of these, unless packets pass through a node."""
        own = "destination" if written.direction is Direction.INGRESS else "source"
        if name != own or not isinstance(written.owner, CalicoPolicy):
            return None
        selected = self._scene.selected(written.owner)
        if not selected or any(not party.is_pod for party in selected):
            return None
        if {party for party, _ in passing}.isdisjoint(selected) and all(party.is_pod for party, _ in passing):
            return "none of those whom the policy selects passes its selectors"
        return None

    def _who(self, test: PartyTest) -> list[tuple[Party, Sequence[Net]]]:
        known = self._passing.get(test)
        if known is None:
            known = [(party, nets) for party, nets in self._scene.parties if test.matches(party)]
            self._passing[test] = known
        return known

    def _why(self, side: EntityRule, namespace: str | None) -> str:
        labels, accounts = self._labels, side.service_accounts
        asked: list[tuple[Selector | None, Vocabulary]] = [
            (side.namespace_selector, labels.namespaces),
            (side.selector, labels.parties),
            (accounts.selector if accounts else None, labels.accounts),
        ]
        for selector, vocabulary in asked:
            reason = None if selector is None else vocabulary.missing(selector)
            if reason is not None and not reason.endswith("at once"):
                return reason
        if accounts and accounts.names:
            return f"no workload runs under the service account {' or '.join(accounts.names)} there"
        near = side.namespace_selector is None and namespace is not None
        home = f" in the policy's own namespace {namespace}" if near else ""
        return f"nobody{home} passes all of its selectors at once"

    def _of_kubernetes(self, peer: KubernetesPeer, written: Written) -> str | None:
        owner = written.owner
        if peer.ip_block is not None or not isinstance(owner, KubernetesNetworkPolicy):
            return None
        for pod in self._scene.world.pods.values():
            wide, narrow = peer.namespace_selector, peer.pod_selector
            near = pod.namespace == owner.namespace if wide is None else selects(wide, pod.namespace_labels)
            if near and (narrow is None or selects(narrow, pod.labels)):
                return None
        asked = [(peer.namespace_selector, self._labels.namespaces), (peer.pod_selector, self._labels.ends)]
        home = f" in the namespace {owner.namespace}" if peer.namespace_selector is None else ""
        return self._first([(selector, words) for selector, words in asked if selector is not None], home)

    def _of_admin(self, peer: AdminPeer) -> str | None:
        if peer.nodes is not None:
            labelled = any(selects(peer.nodes, node.labels) for node in self._scene.topology.nodes.values())
            return None if labelled else self._labels.nodes.missing(peer.nodes)
        if peer.namespaces is None and peer.pods is None:
            return None
        if any(is_subject(peer, pod) for pod in self._scene.world.pods.values()):
            return None
        return self._first(list(_admin_selectors(self._labels, peer)), "")

    @staticmethod
    def _first(asked: Sequence[tuple[LabelSelector, Vocabulary]], home: str) -> str:
        for selector, vocabulary in asked:
            reason = vocabulary.missing(selector)
            if not reason.endswith("at once"):
                return reason
        return f"no pod{home} has labels that meet all of it at once"


def _overlap(one: Net, other: Net) -> bool:
    return one.version == other.version and one.overlaps(other)
