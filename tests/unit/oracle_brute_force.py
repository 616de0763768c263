# SPDX-License-Identifier: Apache-2.0
"""A second model of policy, literal and slow, to hold the oracle against.

It goes the way of Calico's own control plane where the oracle does not: selectors are rewritten as text,
Kubernetes policies are converted to Calico's, selectors are resolved to sets of networks, rules to
dictionaries of literal matches, and policy is a program of jumps. Nothing of lab.oracle is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from lab.errors import Place
from lab.policy.resources import (
    Action,
    AdminPeer,
    AdminPolicy,
    CalicoPolicy,
    Direction,
    EntityRule,
    KubernetesNetworkPolicy,
    KubernetesPeer,
    LabelSelector,
    PortRange,
    Profile,
    ProtocolMatch,
    Resources,
    Rule,
    StagedAction,
    Tier,
)
from lab.policy.selector import parse_selector
from lab.topology import Flow, Topology

Outcome = tuple[bool, tuple[object, ...]]

NAMESPACE = "projectcalico.org/namespace"
ACCOUNT = "projectcalico.org/serviceaccount"
WORDS = {"in", "not", "contains", "starts", "ends", "with"}
TOKEN = re.compile(r"""("[^"]*"|'[^']*')|(all\(\)|global\(\))|(has\()|([A-Za-z0-9_./-]+)""")
HERE = Place("brute")


@dataclass
class Thing:
    """A workload or network set: labels, networks, ports."""

    labels: dict[str, str]
    nets: list[Any]
    ports: list[tuple[str, int, int]]


class BruteForce:
    def __init__(self, topology: Topology, resources: Resources) -> None:
        self.topology = topology
        self.profiles = implied_profiles(topology) | {profile.name: profile for profile in resources.profiles}
        self.workloads = {name: self.workload(name) for name in topology.workloads}
        self.things = [*self.workloads.values(), *map(self.network_set, resources.network_sets)]
        self.slices = resources.endpoint_slices
        self.felix = {configuration.node: configuration for configuration in resources.felix_configurations}
        self.policies = [self.plain(policy) for policy in resources.policies if not is_staged(policy)]
        self.tiers = {
            "kube-admin": Tier("kube-admin", 1000, pass_by_default=True),
            "default": Tier("default", 1e6, pass_by_default=False),
            "kube-baseline": Tier("kube-baseline", 1e7, pass_by_default=True),
        } | {tier.name: tier for tier in resources.tiers}

    def plain(self, policy: Any) -> tuple[CalicoPolicy, dict[Direction, list[int]] | None]:
        if isinstance(policy, KubernetesNetworkPolicy):
            return converted(policy)
        return converted_admin(policy, self.topology) if isinstance(policy, AdminPolicy) else (policy, None)

    def said(self, workload: str, field: str) -> Any:
        """What Felix is told on a workload's node."""
        near, wide = self.felix.get(self.topology.workloads[workload].node), self.felix.get(None)
        said = None if near is None else getattr(near, field)
        return getattr(wide, field, None) if said is None else said

    def workload(self, name: str) -> Thing:
        spec = self.topology.workloads[name]
        labels = {k: v for k, v in spec.labels.items() if not re.match("pcns\\.|pcsa\\.", k)}
        labels["projectcalico.org/orchestrator"] = "k8s"
        labels[NAMESPACE] = spec.namespace
        if spec.service_account:
            labels[ACCOUNT] = spec.service_account
        self.inherit(labels, self.profiles_of(name))
        nets = [ip_network(address) for address in spec.addresses]
        return Thing(labels, nets, [(port.name, port.protocol, port.port) for port in spec.ports])

    def network_set(self, spec: Any) -> Thing:
        labels = dict(spec.labels)
        if spec.namespace:
            labels[NAMESPACE] = spec.namespace
            self.inherit(labels, [f"kns.{spec.namespace}"])
        return Thing(labels, list(spec.nets), [])

    def inherit(self, labels: dict[str, str], profiles: list[str]) -> None:
        for name in profiles:
            if name in self.profiles:
                for key, value in self.profiles[name].labels_to_apply.items():
                    labels.setdefault(key, value)

    def profiles_of(self, name: str) -> list[str]:
        spec = self.topology.workloads[name]
        if spec.profiles is not None:
            return list(spec.profiles)
        account = [f"ksa.{spec.namespace}.{spec.service_account}"] if spec.service_account else []
        return [f"kns.{spec.namespace}", *account]

    def verdict(self, flow: Flow) -> Outcome:
        if flow.source not in self.workloads and flow.destination not in self.workloads:
            return True, (None, "no-policy", None)
        if flow.source == flow.destination:
            return True, (None, "self", None)
        known = next(name for name in (flow.source, flow.destination) if name in self.workloads)
        if self.said(known, "ip_forwarding") is False:
            return False, (None, "not-forwarded", None)
        if flow.family == 6 and self.said(known, "ipv6_support") is False:
            return True, (None, "no-policy", None)
        outcome: Outcome | None = None
        for name, direction in ((flow.source, Direction.EGRESS), (flow.destination, Direction.INGRESS)):
            if name in self.workloads and (outcome is None or outcome[0]):
                outcome = self.dropped(name, direction, flow) or self.at_endpoint(name, direction, flow)
        assert outcome is not None
        return outcome

    def dropped(self, name: str, direction: Direction, flow: Flow) -> Outcome | None:
        if is_invalid(flow) and self.said(name, "drop_invalid"):
            return False, (direction.value, "conntrack-invalid", None)
        vxlan = (17, self.said(name, "vxlan_port") or 4789)
        ipip = flow.protocol == 4 and not self.said(name, "allow_ipip_from_workloads")
        tunnel = (flow.protocol, flow.port) == vxlan and not self.said(name, "allow_vxlan_from_workloads")
        if direction is Direction.EGRESS and (ipip or tunnel):
            return False, ("egress", "encapsulation", None)
        return None

    def at_endpoint(self, name: str, direction: Direction, flow: Flow) -> Outcome:
        for tier_name in self.tier_order():
            applying = [
                (policy, index_of)
                for policy, index_of in self.sorted_policies(tier_name)
                if direction in policy.types
                and parse_selector(policy_text(policy)).matches(self.workloads[name].labels)
            ]
            if not applying:
                continue
            verdict: Outcome | str | None = None
            for policy, index_of in applying:
                rules = getattr(policy, direction.value)
                for index, rule in enumerate(rules):
                    if verdict is None and rule.action is not Action.LOG and self.matches(rule, policy.namespace, flow):
                        original = index_of[direction][index] if index_of else index
                        words = (direction.value, tier_name, policy.kind, policy.namespace, policy.name, original)
                        verdict = "next" if rule.action is Action.PASS else (rule.action is Action.ALLOW, words)
            if verdict is None:
                tier = self.tiers.get(tier_name)
                passes = tier is not None and tier.pass_by_default
                verdict = "next" if passes else (False, (direction.value, "tier-end-deny", tier_name))
            if not isinstance(verdict, str):
                return verdict
        return self.at_profiles(name, direction, flow)

    def at_profiles(self, name: str, direction: Direction, flow: Flow) -> Outcome:
        for profile_name in self.profiles_of(name):
            if profile_name not in self.profiles:
                return False, (direction.value, "missing-profile", profile_name)
            for rule in getattr(self.profiles[profile_name], direction.value):
                if rule.action is not Action.LOG and self.matches(rule, None, flow):
                    if rule.action is Action.PASS:
                        break
                    return rule.action is Action.ALLOW, (direction.value, "profile", profile_name)
        return False, (direction.value, "no-profile", None)

    def tier_order(self) -> list[str]:
        names = {policy.tier for policy, _ in self.policies} | set(self.tiers)

        def key(name: str) -> tuple[object, ...]:
            order = self.tiers[name].order if name in self.tiers else None
            return (name not in self.tiers, order is None, order or 0, name)

        return sorted(names, key=key)

    def sorted_policies(self, tier: str) -> list[Any]:
        def key(item: Any) -> tuple[object, ...]:
            policy = item[0]
            return (policy.order is None, policy.order or 0, f"{policy.name}/{policy.namespace or ''}/{policy.kind}")

        return sorted((item for item in self.policies if item[0].tier == tier), key=key)

    def matches(self, rule: Rule, namespace: str | None, flow: Flow) -> bool:
        flat = flattened(rule, flow.family)
        if flat is None:
            return False
        icmp = (flow.icmp.type, flow.icmp.code) if flow.icmp else {1: (8, 0), 58: (128, 0)}.get(flow.protocol)
        refused = (
            (rule.protocol is not None and flow.protocol != rule.protocol.number)
            or (rule.not_protocol is not None and flow.protocol == rule.not_protocol.number)
            or (rule.icmp is not None and not same_icmp(icmp, rule.icmp))
            or (rule.not_icmp is not None and same_icmp(icmp, rule.not_icmp))
        )
        if refused:
            return False
        default = 40000 if flow.protocol in (6, 17, 132) else None
        source_port = flow.source_port if flow.source_port is not None else default
        return (
            self.side_matches(flat.source, namespace, flow.source, source_port, flow)
            and self.side_matches(flat.destination, namespace, flow.destination, flow.port, flow)
            and self.is_served(flat.source, flow.source, None, flow)
            and self.is_served(flat.destination, flow.destination, (flow.protocol, flow.port), flow)
        )

    def is_served(self, side: EntityRule, end: str, at: tuple[int, int | None] | None, flow: Flow) -> bool:
        """Whether an end is behind the service that a side names, at a port where one is given."""
        if side.services is None:
            return True
        address = self.address(end, flow)
        slices = [s for s in self.slices if (s.namespace, s.service) == (side.services.namespace, side.services.name)]
        if at is None:
            return any(address in s.addresses for s in slices)
        return any(address in s.addresses and (p.protocol, p.port) == at for s in slices for p in s.ports)

    def address(self, end: str, flow: Flow) -> Any:
        ends = {**self.topology.workloads, **self.topology.externals, **self.topology.nodes}
        return next(a for a in ends[end].addresses if a.version == flow.family)

    def side_matches(self, side: EntityRule, namespace: str | None, end: str, port: int | None, flow: Flow) -> bool:
        address = self.address(end, flow)
        in_nets = not side.nets or any(address in net for net in side.nets)
        if not in_nets or any(address in net for net in side.not_nets):
            return False
        positive, negative = side_text(side, namespace)
        if positive is not None and negative is not None:
            positive, negative = f"({positive}) && !({negative})", None
        if positive is not None and not any(address in net for net in self.ip_set(positive)):
            return False
        if negative is not None and any(address in net for net in self.ip_set(negative)):
            return False
        me = (address, flow.protocol, port)
        if side.ports and not (
            any(isinstance(p, PortRange) and port is not None and p.first <= port <= p.last for p in side.ports)
            or any(me in self.port_set(p, positive or "all()") for p in side.ports if isinstance(p, str))
        ):
            return False
        if any(isinstance(p, PortRange) and port is not None and p.first <= port <= p.last for p in side.not_ports):
            return False
        return not any(me in self.port_set(p, "all()") for p in side.not_ports if isinstance(p, str))

    def ip_set(self, text: str) -> list[Any]:
        return [net for thing in self.things if parse_selector(text).matches(thing.labels) for net in thing.nets]

    def port_set(self, name: str, text: str) -> list[tuple[object, int, int]]:
        return [
            (net.network_address, protocol, port)
            for thing in self.things
            if parse_selector(text).matches(thing.labels)
            for net in thing.nets
            for port_name, protocol, port in thing.ports
            if port_name == name
        ]


def is_staged(policy: Any) -> bool:
    return getattr(policy, "staged", None) is not None


def pretended(resources: Resources) -> Resources:
    """The resources with everything staged enforced."""
    kept = [policy for policy in resources.policies if not is_staged(policy)]
    for policy in filter(is_staged, resources.policies):
        kind = policy.kind[len("Staged") :]
        if policy.staged in (StagedAction.SET, StagedAction.DELETE):
            kept = [p for p in kept if (p.kind, p.namespace, p.name) != (kind, policy.namespace, policy.name)]
        if policy.staged is StagedAction.SET:
            more = {"kind": kind} if isinstance(policy, CalicoPolicy) else {}
            kept.append(replace(policy, staged=None, **more))
    return replace(resources, policies=tuple(kept))


def is_invalid(flow: Flow) -> bool:
    """Of the few kinds of ICMP that the worlds send."""
    unasked = flow.icmp is not None and flow.icmp.type == 0
    return (flow.protocol == 1 and (flow.family == 6 or unasked)) or (flow.protocol == 58 and flow.family == 4)


def same_icmp(header: tuple[int, int] | None, match: Any) -> bool:
    return header is not None and header[0] == match.type and (match.code is None or header[1] == match.code)


def flattened(rule: Rule, family: int) -> Rule | None:
    """The rule as one family sees it, or None where it is absent there."""
    if rule.ip_version is not None:
        versions = {rule.ip_version}
    else:
        by_name = rule.protocol is not None and rule.protocol.by_name
        versions = {1: {4}, 58: {6}}.get(rule.protocol.number, {4, 6}) if by_name and rule.protocol else {4, 6}
    if family not in versions:
        return None
    sides = {}
    for name in ("source", "destination"):
        side = getattr(rule, name)
        for key in ("nets", "not_nets"):
            kept = tuple(net for net in getattr(side, key) if net.version == family)
            if getattr(side, key) and not kept:
                return None
            side = replace(side, **{key: kept})
        sides[name] = side
    return replace(rule, **sides)


def prefixed(text: str, prefix: str) -> str:
    def change(found: re.Match[str]) -> str:
        label = found[4]
        return prefix + label if label is not None and label not in WORDS else found[0]

    return TOKEN.sub(change, text)


def policy_text(policy: CalicoPolicy) -> str:
    text = policy.selector.text
    for selector, prefix, label in (
        (policy.namespace_selector, "pcns.", NAMESPACE),
        (policy.service_account_selector, "pcsa.", ACCOUNT),
    ):
        if selector is not None:
            added = prefixed(selector.text, prefix)
            text = f"({text}) && ({added})" if text.strip() else added
            if policy.namespace is None:
                text = text.replace("all()", f"has({label})")
    if policy.namespace is not None:
        own = f"{NAMESPACE} == '{policy.namespace}'"
        text = f"({text}) && {own}" if text.strip() else own
    return text


def side_text(side: EntityRule, namespace: str | None) -> tuple[str | None, str | None]:
    """The positive and the negative selector of a side, as rewritten text."""
    parts = []
    accounts = side.service_accounts
    if side.namespace_selector is not None:
        text = prefixed(side.namespace_selector.text, "pcns.")
        parts.append(text.replace("all()", f"has({NAMESPACE})").replace("global()", f"!has({NAMESPACE})"))
    elif namespace is not None and (side.selector or side.not_selector or accounts):
        parts.append(f"{NAMESPACE} == '{namespace}'")
    if accounts is not None and accounts.names:
        parts.append(f"{ACCOUNT} in {{{', '.join(map(repr, accounts.names))}}}")
    if accounts is not None and accounts.selector is not None:
        parts.append(prefixed(accounts.selector.text, "pcsa."))
    if side.selector is not None:
        parts.append(side.selector.text)
    positive = " && ".join(f"({part})" for part in parts) if parts else None
    return positive, side.not_selector.text if side.not_selector else None


def implied_profiles(topology: Topology) -> dict[str, Profile]:
    allow = (Rule(Action.ALLOW, HERE),)
    found = {}
    for name, namespace in topology.namespaces.items():
        labels = {f"pcns.{k}": v for k, v in namespace.labels.items()} | {"pcns.projectcalico.org/name": name}
        found[f"kns.{name}"] = Profile(f"kns.{name}", allow, allow, labels)
        for account, own in namespace.service_accounts.items():
            labels = {f"pcsa.{k}": v for k, v in own.items()} | {"pcsa.projectcalico.org/name": account}
            found[f"ksa.{name}.{account}"] = Profile(f"ksa.{name}.{account}", (), (), labels)
    return found


def converted(policy: KubernetesNetworkPolicy) -> tuple[CalicoPolicy, dict[Direction, list[int]]]:
    """The policy as Calico's, and for each of its rules the index of the one that it came from."""
    rules: dict[Direction, list[Rule]] = {direction: [] for direction in Direction}
    index_of: dict[Direction, list[int]] = {direction: [] for direction in Direction}
    for direction in Direction:
        for index, rule in enumerate(getattr(policy, direction.value)):
            for made in converted_rule(rule, direction, policy.namespace):
                rules[direction].append(made)
                index_of[direction].append(index)
    calico = CalicoPolicy(
        kind="KubernetesNetworkPolicy",  # type: ignore[arg-type]  # a CalicoPolicy in all but its kind
        name=policy.name,
        namespace=policy.namespace,
        tier="default",
        order=1000.0,
        selector=parse_selector(f"projectcalico.org/orchestrator == 'k8s' && ({label_text(policy.pod_selector)})"),
        namespace_selector=None,
        service_account_selector=None,
        types=policy.types,
        ingress=tuple(rules[Direction.INGRESS]),
        egress=tuple(rules[Direction.EGRESS]),
        place=policy.place,
    )
    return calico, index_of


def converted_rule(rule: Any, direction: Direction, namespace: str) -> list[Rule]:
    peers = [converted_peer(peer, namespace) for peer in rule.peers] or [EntityRule()]
    made = []
    for peer in peers:
        for port in rule.ports or [None]:
            protocol = None if port is None else ProtocolMatch(port.protocol, by_name=False)
            ports: tuple[Any, ...] = ()
            if port is not None and port.port is not None:
                ports = (port.port if isinstance(port.port, str) else PortRange(port.port, port.end_port or port.port),)
            if direction is Direction.INGRESS:
                sides = {"source": peer, "destination": EntityRule(ports=ports)}
            else:
                sides = {"destination": replace(peer, ports=ports)}
            made.append(Rule(Action.ALLOW, rule.place, protocol=protocol, **sides))
    return made


def converted_peer(peer: KubernetesPeer, namespace: str) -> EntityRule:
    if peer.ip_block is not None:
        return EntityRule(nets=(peer.ip_block.cidr,), not_nets=peer.ip_block.except_)
    text = "projectcalico.org/orchestrator == 'k8s'"
    if peer.pod_selector is not None:
        text = f"{text} && ({label_text(peer.pod_selector)})"
    if peer.namespace_selector is None:
        return EntityRule(selector=parse_selector(f"{NAMESPACE} == '{namespace}' && {text}"))
    return EntityRule(
        selector=parse_selector(text), namespace_selector=parse_selector(label_text(peer.namespace_selector))
    )


def label_text(selector: LabelSelector) -> str:
    parts = [f"{key} == '{value}'" for key, value in sorted(selector.match_labels.items())]
    for requirement in selector.match_expressions:
        values = ", ".join(map(repr, requirement.values))
        key = requirement.key
        parts.append(
            {
                "In": f"{key} in {{{values}}}",
                "NotIn": f"{key} not in {{{values}}}",
                "Exists": f"has({key})",
                "DoesNotExist": f"! has({key})",
            }[requirement.operator]
        )
    return " && ".join(parts) or "all()"


def converted_admin(policy: AdminPolicy, topology: Topology) -> tuple[CalicoPolicy, dict[Direction, list[int]]]:
    """The policy as Calico's in the tier of its place, and for each rule the index of the one that it came from."""
    rules: dict[Direction, list[Rule]] = {direction: [] for direction in Direction}
    index_of: dict[Direction, list[int]] = {direction: [] for direction in Direction}
    for direction in Direction:
        for index, rule in enumerate(getattr(policy, direction.value)):
            for made in converted_admin_rule(rule, direction, topology):
                rules[direction].append(made)
                index_of[direction].append(index)
    calico = CalicoPolicy(
        kind=policy.kind,  # type: ignore[arg-type]  # a CalicoPolicy in all but its kind
        name=policy.name,
        namespace=None,
        tier="kube-baseline" if policy.baseline else "kube-admin",
        order=float(policy.priority),
        selector=parse_selector(admin_text(policy.subject)),
        namespace_selector=None,
        service_account_selector=None,
        types=frozenset(direction for direction in Direction if rules[direction]),
        ingress=tuple(rules[Direction.INGRESS]),
        egress=tuple(rules[Direction.EGRESS]),
        place=policy.place,
    )
    return calico, index_of


def admin_text(peer: AdminPeer) -> str:
    namespaces, pods = (peer.namespaces, None) if peer.pods is None else peer.pods
    assert namespaces is not None
    parts = ["projectcalico.org/orchestrator == 'k8s'", prefixed(label_text(namespaces), "pcns.")]
    return " && ".join(f"({part})" for part in [*parts, *([label_text(pods)] if pods else [])])


def converted_admin_rule(rule: Any, direction: Direction, topology: Topology) -> list[Rule]:
    known = all(peer != AdminPeer() for peer in rule.peers) and all(port.protocol or port.name for port in rule.ports)
    if not known or (rule.action is not Action.ALLOW and any(peer.domain_names for peer in rule.peers)):
        return [] if rule.action is Action.ALLOW else [Rule(Action.DENY, rule.place)]
    made = []
    for peer in rule.peers:
        for entity in converted_admin_peer(peer, topology):
            for port in rule.ports or [None]:
                protocol, ports = None, ()
                if port is not None and port.name is not None:
                    ports = (port.name,)
                elif port is not None:
                    protocol, ports = ProtocolMatch(port.protocol, by_name=False), (port.ports,) if port.ports else ()
                sides = (entity, EntityRule(ports=ports)) if direction is Direction.INGRESS else (EntityRule(), None)
                source, destination = sides[0], sides[1] or replace(entity, ports=ports)
                made.append(Rule(rule.action, rule.place, protocol=protocol, source=source, destination=destination))
    return made


def converted_admin_peer(peer: AdminPeer, topology: Topology) -> list[EntityRule]:
    """One side for each family that there is: a Calico rule does not mix them."""
    if peer.domain_names is not None:
        return []
    if peer.namespaces is not None or peer.pods is not None:
        return [EntityRule(selector=parse_selector(admin_text(peer)))]
    nets = list(peer.networks or ())
    if peer.nodes is not None:
        matches = parse_selector(label_text(peer.nodes)).matches
        nets = [ip_network(a) for node in topology.nodes.values() if matches(node.labels) for a in node.addresses]
    return [EntityRule(nets=(net,)) for net in nets]
