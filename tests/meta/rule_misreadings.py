# SPDX-License-Identifier: Apache-2.0
"""Misreadings of the rules of Calico's policies, and of selectors."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from misread import (
    Change,
    Misreading,
    calico,
    rules,
    selectors,
    sides,
)

from lab.policy.resources import (
    Action,
    CalicoPolicy,
    EntityRule,
    IcmpMatch,
    PortMatch,
    PortRange,
    ProtocolMatch,
    Rule,
)
from lab.policy.selector import parse_selector
from lab.protocols import TCP, UDP
from lab.topology import Net

__all__ = ["RULE_MISREADINGS"]

ALL = parse_selector("all()")
ANYWHERE: tuple[Net, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
HTTP = PortRange(80, 80)


def _cluster_wide(policy: CalicoPolicy) -> CalicoPolicy:
    """The same subjects, and rules that see every namespace."""
    if policy.namespace is None:
        return policy
    home = f"projectcalico.org/namespace == '{policy.namespace}'"
    selector = parse_selector(f"({policy.selector.text}) && {home}" if policy.selector.text else home)
    return replace(policy, kind="GlobalNetworkPolicy", namespace=None, selector=selector)


def _code_zero(match: IcmpMatch | None) -> IcmpMatch | None:
    return None if match is None else replace(match, code=match.code or 0)


def _named_as_eighty(ports: tuple[PortMatch, ...]) -> tuple[PortMatch, ...]:
    return tuple(HTTP if isinstance(port, str) else port for port in ports)


def _named_are_tcp(rule: Rule) -> Rule:
    named = any(isinstance(port, str) for side in (rule.source, rule.destination) for port in side.ports)
    return replace(rule, protocol=ProtocolMatch(TCP, by_name=True)) if named and rule.protocol is None else rule


def _names_of_everybody(rule: Rule) -> tuple[Rule, ...]:
    """What notPorts names is refused first, wherever it is."""
    side = rule.destination
    names = tuple(port for port in side.not_ports if isinstance(port, str))
    if not names or rule.action is not Action.ALLOW:
        return (rule,)
    refused = Rule(Action.DENY, rule.place, protocol=rule.protocol, destination=EntityRule(ports=names))
    numbers = tuple(port for port in side.not_ports if isinstance(port, PortRange))
    return refused, replace(rule, destination=replace(side, not_ports=numbers))


def _portless(number: int) -> Change:
    def changed(rule: Rule) -> Rule:
        if rule.protocol is None or rule.protocol.number != number:
            return rule
        bare = replace(rule.destination, ports=(), not_ports=())
        return replace(rule, destination=bare, source=replace(rule.source, ports=(), not_ports=()))

    return rules(changed)


def _protocol_named(by_name: bool) -> Change:
    return rules(
        lambda rule: rule if rule.protocol is None else replace(rule, protocol=replace(rule.protocol, by_name=by_name))
    )


def _any_in_the_other_family(side: EntityRule) -> EntityRule:
    families = {net.version for net in side.nets}
    return replace(side, nets=(*side.nets, *(net for net in ANYWHERE if families and net.version not in families)))


def _peer_at_home(side: EntityRule) -> EntityRule:
    return replace(side, selector=ALL) if side == EntityRule() else side


def _without_misspelled(rule: Rule) -> Rule | None:
    texts = [side.selector.text for side in (rule.source, rule.destination) if side.selector is not None]
    odd = any(" not in " not in text and "in {" in text.replace("not", "") and "not" in text for text in texts)
    return None if odd or any("startswith" in text or "endswith" in text for text in texts) else rule


def _grouped_from_the_left(side: EntityRule) -> EntityRule:
    if side.selector is None or "||" not in side.selector.text:
        return side
    first, rest = side.selector.text.split("||", 1)
    second, *others = rest.split("&&")
    text = " && ".join([f"({first} || {second})", *others])
    return replace(side, selector=parse_selector(text))


def _accounts_labels_on_pods(side: EntityRule) -> EntityRule:
    accounts = side.service_accounts
    if accounts is None or accounts.selector is None:
        return side
    return replace(side, selector=accounts.selector, service_accounts=None)


RULE_MISREADINGS = (
    Misreading(
        "rules-see-everybody",
        "A rule of a namespaced policy sees every namespace.",
        ("rule.selector.own-namespace", "rule.not-selector.namespaced", "rule.service-accounts.names"),
        calico(_cluster_wide),
    ),
    Misreading(
        "nobody-is-at-home",
        "A rule of a namespaced policy that names no peer is about its own namespace.",
        ("rule.peer.none-means-anyone",),
        sides(_peer_at_home),
    ),
    Misreading(
        "forgets-ports",
        "The ports of a rule are not looked at.",
        ("rule.criteria.all-must-hold", "service.ingress.with-ports", "named-port.number.per-pod"),
        sides(lambda side: replace(side, ports=())),
    ),
    Misreading("forgets-tcp-ports", "Ports of TCP do not matter.", ("protocol.tcp.ports-enforced",), _portless(TCP)),
    Misreading("forgets-udp-ports", "Ports of UDP do not matter.", ("protocol.udp.ports-enforced",), _portless(UDP)),
    Misreading(
        "first-not-port-only",
        "Of several notPorts the first counts.",
        ("rule.not-ports.none-of-several",),
        sides(lambda side: replace(side, not_ports=side.not_ports[:1])),
    ),
    Misreading(
        "names-are-eighty",
        "A port's name is looked up once, for all: it is 80.",
        ("named-port.external.never-matches", "named-port.number.per-pod"),
        sides(lambda s: replace(s, ports=_named_as_eighty(s.ports), not_ports=_named_as_eighty(s.not_ports))),
    ),
    Misreading(
        "names-of-everybody",
        "What notPorts names is excepted for everybody who has such a port, selected or not.",
        ("named-port.negated.of-whom-selectors-allow",),
        rules(_names_of_everybody),
    ),
    Misreading(
        "names-are-tcp",
        "A port's name without a protocol is that of TCP.",
        ("named-port.protocol.absent-takes-any",),
        rules(_named_are_tcp),
    ),
    Misreading(
        "icmp-code-is-zero",
        "An ICMP type without a code is the one with code 0.",
        ("icmp.type.any-code", "icmp.negated.type"),
        rules(lambda rule: replace(rule, icmp=_code_zero(rule.icmp), not_icmp=_code_zero(rule.not_icmp))),
    ),
    Misreading(
        "names-are-numbers",
        "A protocol's name says nothing of the family.",
        ("protocol.icmp.name-is-ipv4-only",),
        _protocol_named(by_name=False),
    ),
    Misreading(
        "numbers-are-names",
        "A protocol's number implies the family as its name does.",
        ("protocol.icmp.number-is-both-families",),
        _protocol_named(by_name=True),
    ),
    Misreading(
        "forgets-nets-of-destination",
        "Only the source's networks are looked at.",
        ("rule.nets.of-destination",),
        rules(lambda rule: replace(rule, destination=replace(rule.destination, nets=()))),
    ),
    Misreading(
        "nets-bind-one-family",
        "Networks of one family leave the other one open.",
        ("rule.nets.other-family-absent",),
        sides(_any_in_the_other_family),
    ),
    Misreading(
        "annotated-rules-go",
        "A rule with more than one line of annotations is lost.",
        ("rule.annotations.any-text",),
        rules(lambda rule: None if any("\n" in text for text in (rule.annotations or {}).values()) else rule),
    ),
    Misreading(
        "http-rules-go",
        "A rule that matches HTTP is left to a proxy.",
        ("rule.http.ignored-by-layer-four",),
        rules(lambda rule: None if rule.http else rule),
    ),
    Misreading(
        "negative-selectors-stay-inside",
        "A namespaceSelector is about what lives in a namespace, whatever it says.",
        ("rule.namespace-selector.negative-covers-hosts",),
        sides(
            lambda side: replace(
                side,
                namespace_selector=side.namespace_selector
                and parse_selector(f"({side.namespace_selector.text}) && has(projectcalico.org/name)"),
            )
        ),
    ),
    Misreading(
        "all-namespaces-are-everybody",
        "The namespaceSelector all() is no condition.",
        ("rule.namespace-selector.all-stays-inside",),
        sides(
            lambda side: replace(
                side,
                namespace_selector=None
                if side.namespace_selector and side.namespace_selector.text == "all()"
                else side.namespace_selector,
            )
        ),
    ),
    Misreading(
        "namespace-selector-alone",
        "Beside a namespaceSelector no selector is looked at.",
        ("rule.namespace-selector.with-selector",),
        sides(lambda side: replace(side, selector=None if side.namespace_selector else side.selector)),
    ),
    Misreading(
        "positive-sign-only",
        "Beside a selector no notSelector is looked at.",
        ("rule.selector.both-signs",),
        sides(lambda side: replace(side, not_selector=None if side.selector else side.not_selector)),
    ),
    Misreading(
        "accounts-labels-on-pods",
        "A selector of service accounts is asked of the pod's labels.",
        ("rule.service-accounts.selector",),
        sides(_accounts_labels_on_pods),
    ),
    Misreading(
        "absent-is-not-unequal",
        "Only a label that is there can be unequal.",
        ("selector.not-equal.absent-label", "rule.namespace-selector.absent-label"),
        selectors(r"([\w./-]+)\s*!=\s*(\"[^\"]*\"|'[^']*')", r"(has(\1) && \1 != \2)"),
    ),
    Misreading(
        "absent-is-not-outside",
        "Only a label that is there can be outside a set.",
        ("selector.not-in.absent-label", "selector.in.empty-set"),
        selectors(r"([\w./-]+)\s*not\s*in\s*(\{[^}]*\})", r"(has(\1) && \1 not in \2)"),
    ),
    Misreading(
        "not-of-a-label",
        "An exclamation mark needs the label to be there.",
        ("selector.not.covers-whole-test",),
        selectors(r"!\s*([\w./-]+)\s*==\s*(\"[^\"]*\"|'[^']*')", r"(has(\1) && \1 != \2)"),
    ),
    Misreading(
        "absent-is-empty",
        "A label that is not there is the empty text.",
        ("selector.equals.empty-value",),
        selectors(r"([\w./-]+)\s*==\s*(\"\"|'')", r"(!has(\1) || \1 == \2)"),
    ),
    Misreading(
        "absent-contains-nothing",
        "Whatever is asked to contain the empty text does.",
        ("selector.contains.empty-text",),
        selectors(r"([\w./-]+)\s*contains\s*(\"\"|'')", "all()"),
    ),
    Misreading(
        "begins-anywhere",
        "Begin, middle and end of a value are all one.",
        ("selector.text.begin-end-middle",),
        selectors(r"(starts|ends)\s*with", "contains"),
    ),
    Misreading(
        "or-binds-tighter",
        "Selectors are grouped from the left.",
        ("selector.precedence.and-before-or",),
        sides(_grouped_from_the_left),
    ),
    Misreading(
        "one-spelling",
        "A rule whose selector spells an operator with one word or three blanks is lost.",
        ("selector.spelling.blanks-between-words",),
        rules(_without_misspelled),
    ),
)
