# SPDX-License-Identifier: Apache-2.0
"""Names that lead nowhere: labels, ports, service accounts, services, tiers and profiles that nobody has."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import About, Finding, Severity
from lab.lint.nobody import AnySelector, Labels
from lab.lint.scene import AnyRule, Scene, Written, about
from lab.lint.words import Vocabulary, meant, terms
from lab.oracle.policies import ADMIN_TIER, BASELINE_TIER, DEFAULT_TIER
from lab.oracle.world import profile_names
from lab.policy.resources import (
    AdminPeer,
    AdminPolicy,
    AdminRule,
    CalicoPolicy,
    EntityRule,
    KubernetesNetworkPolicy,
    KubernetesRule,
    Policy,
    Rule,
)
from lab.protocols import protocol_label
from lab.schema import suggestion

__all__ = ["lost_accounts", "lost_labels", "lost_ports", "lost_profiles", "lost_services", "lost_tiers"]

_BUILT_IN_TIERS = (ADMIN_TIER, DEFAULT_TIER, BASELINE_TIER)
Asked = tuple[str, AnySelector, Vocabulary]


def lost_labels(scene: Scene, labels: Labels) -> Iterator[Finding]:
    """Label keys that nobody carries. A test that holds for their absence may well be meant, unless one is near."""
    for policy in scene.resources.policies:
        for name, selector, vocabulary in _of_policy(policy, labels):
            yield from _lost(policy, about(policy), name, selector, vocabulary)
    for written in scene.rules():
        for name, selector, vocabulary in _of_rule(written.rule, labels):
            yield from _lost(written, written.about, name, selector, vocabulary)


def _lost(
    where: Policy | Written, who: About, name: str, selector: AnySelector, vocabulary: Vocabulary
) -> Iterator[Finding]:
    place = where.rule.place if isinstance(where, Written) else where.place
    told = set()
    for term in terms(selector):
        if term.key in vocabulary.values or term.key in told:
            continue
        told.add(term.key)
        near = vocabulary.near(term.key)
        severity: Severity = "warning" if term.wanted or near else "info"
        effect = "" if term.wanted else ", so this holds for everybody"
        message = meant(f"{name}: nobody carries the label {term.key!r}{effect}", near)
        yield Finding("lint.label-nobody-has", severity, place, who, message)


def _of_policy(policy: Policy, labels: Labels) -> Iterator[Asked]:
    match policy:
        case CalicoPolicy():
            yield "selector", policy.selector, labels.ends
            if policy.namespace_selector is not None:
                yield "namespaceSelector", policy.namespace_selector, labels.namespaces
            if policy.service_account_selector is not None:
                yield "serviceAccountSelector", policy.service_account_selector, labels.accounts
        case KubernetesNetworkPolicy():
            yield "podSelector", policy.pod_selector, labels.ends
        case AdminPolicy():
            yield from _of_admin_peer("subject", policy.subject, labels)


def _of_rule(rule: AnyRule, labels: Labels) -> Iterator[Asked]:
    match rule:
        case Rule():
            yield from _of_side("source", rule.source, labels)
            yield from _of_side("destination", rule.destination, labels)
        case KubernetesRule(peers=peers):
            for index, peer in enumerate(peers):
                if peer.namespace_selector is not None:
                    yield f"namespaceSelector of peer {index}", peer.namespace_selector, labels.namespaces
                if peer.pod_selector is not None:
                    yield f"podSelector of peer {index}", peer.pod_selector, labels.ends
        case AdminRule(peers=admin_peers):
            for index, admin_peer in enumerate(admin_peers):
                yield from _of_admin_peer(f"peer {index}", admin_peer, labels)


def _of_side(name: str, side: EntityRule, labels: Labels) -> Iterator[Asked]:
    if side.selector is not None:
        yield f"{name}.selector", side.selector, labels.parties
    if side.not_selector is not None:
        yield f"{name}.notSelector", side.not_selector.negated(), labels.parties
    if side.namespace_selector is not None:
        yield f"{name}.namespaceSelector", side.namespace_selector, labels.namespaces
    if side.service_accounts is not None and side.service_accounts.selector is not None:
        yield f"{name}.serviceAccounts.selector", side.service_accounts.selector, labels.accounts


def _of_admin_peer(name: str, peer: AdminPeer, labels: Labels) -> Iterator[Asked]:
    if peer.namespaces is not None:
        yield f"namespaces of {name}", peer.namespaces, labels.namespaces
    if peer.pods is not None:
        yield f"namespaceSelector of {name}", peer.pods[0], labels.namespaces
        yield f"podSelector of {name}", peer.pods[1], labels.ends
    if peer.nodes is not None:
        yield f"nodes of {name}", peer.nodes, labels.nodes


def lost_ports(scene: Scene) -> Iterator[Finding]:
    """Ports that a rule names and that no workload and no host endpoint declares, for the rule's protocol."""
    declared = {(port.name, port.protocol) for party in scene.ends for port in party.ports}
    names = {name for name, _ in declared}
    outside = {port.name for external in scene.topology.externals.values() for port in external.ports}
    for written in scene.rules():
        for name, protocol, effect in dict.fromkeys(_named_ports(written.rule)):
            if (name in names) if protocol is None else ((name, protocol) in declared):
                continue
            of_protocol = "" if protocol is None else f" for {protocol_label(protocol)}"
            what = f"nobody declares a port named {name!r}{of_protocol}, so {effect}"
            near = None if name in names else suggestion(name, names)
            if name in names:
                others = sorted(str(protocol_label(number)) for each, number in declared if each == name)
                what += f"; it is declared for {', '.join(others)}"
            elif name in outside:
                what += "; an external declares it, but a named port never matches outside the cluster"
            yield Finding("lint.port-nobody-declares", "warning", written.rule.place, written.about, meant(what, near))


_NOTHING, _EVERYTHING = "it matches nothing", "it excludes nothing"


def _named_ports(rule: AnyRule) -> Iterator[tuple[str, int | None, str]]:
    match rule:
        case Rule():
            protocol = None if rule.protocol is None else rule.protocol.number
            for side in (rule.source, rule.destination):
                yield from ((port, protocol, _NOTHING) for port in side.ports if isinstance(port, str))
                yield from ((port, protocol, _EVERYTHING) for port in side.not_ports if isinstance(port, str))
        case KubernetesRule(ports=ports):
            yield from ((port.port, port.protocol, _NOTHING) for port in ports if isinstance(port.port, str))
        case AdminRule(ports=admin_ports):
            yield from ((port.name, None, _NOTHING) for port in admin_ports if port.name is not None)


def _sides(scene: Scene) -> Iterator[tuple[Written, str, EntityRule]]:
    for written in scene.rules():
        if isinstance(written.rule, Rule):
            yield written, "source", written.rule.source
            yield written, "destination", written.rule.destination


def lost_accounts(scene: Scene) -> Iterator[Finding]:
    """Service accounts that a rule names and that no workload runs under."""
    used = {party.account for party in scene.ends if party.account is not None}
    for written, name, side in _sides(scene):
        for account in side.service_accounts.names if side.service_accounts else ():
            if account not in used:
                what = f"{name}.serviceAccounts: no workload runs under the service account {account!r}"
                message = meant(what, suggestion(account, used))
                yield Finding("lint.service-account-nobody-uses", "warning", written.rule.place, written.about, message)


def lost_services(scene: Scene) -> Iterator[Finding]:
    """Services that a rule names and that no EndpointSlice gives an address; the namespace is taken at its word."""
    served = {(part.namespace, part.service) for part in scene.resources.endpoint_slices if part.addresses}
    titles = sorted("/".join(service) for service in served)
    for written, name, side in _sides(scene):
        service = side.services
        if service is None or (service.namespace or "", service.name) in served:
            continue
        if service.namespace is None:
            what = f"{name}.services {service.name!r} has no namespace, and without one matches no service at all"
            near = None
        else:
            title = f"{service.namespace}/{service.name}"
            what = f"{name}.services: no EndpointSlice has an address of {title!r}, so the rule matches nothing"
            near = suggestion(title, titles)
        message = meant(what, near)
        yield Finding("lint.service-without-endpoints", "warning", written.rule.place, written.about, message)


def lost_tiers(scene: Scene) -> Iterator[Finding]:
    """Policies in a tier that nobody defines."""
    known = {*_BUILT_IN_TIERS, *(tier.name for tier in scene.resources.tiers)}
    for policy in scene.resources.policies:
        if isinstance(policy, CalicoPolicy) and policy.tier not in known:
            what = f"nobody defines the tier {policy.tier!r}: the policy is asked after all tiers, which end in a deny"
            message = meant(what, suggestion(policy.tier, known))
            yield Finding("lint.tier-missing", "warning", policy.place, about(policy), message)


def lost_profiles(scene: Scene) -> Iterator[Finding]:
    """Profiles to which somebody refers and that nobody defines; they close their endpoint both ways."""
    spaces = scene.topology.namespaces.values()
    known = {"projectcalico-default-allow", *(profile.name for profile in scene.resources.profiles)}
    known |= {f"kns.{space.name}" for space in spaces}
    known |= {f"ksa.{space.name}.{account}" for space in spaces for account in space.service_accounts}
    ends = scene.topology.workloads.values()
    workloads = [(About("workload", None, each.name), each.place, profile_names(each)) for each in ends]
    hosts = [(About("HostEndpoint", None, e.name), e.place, e.profiles) for e in scene.resources.host_endpoints]
    for who, place, names in (*workloads, *hosts):
        for name in names:
            if name not in known:
                what = f"nobody defines the profile {name!r}: what no policy decides is denied, both ways"
                message = meant(what, suggestion(name, known))
                yield Finding("lint.profile-missing", "warning", place, who, message)
