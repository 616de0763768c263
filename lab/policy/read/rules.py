# SPDX-License-Identifier: Apache-2.0
"""The rules of Calico's policies and profiles: each field read, and the combinations that the API refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.policy.read.calico_models import EntityRuleModel, HttpModel, IcmpModel, RuleModel, ServiceAccountsModel
from lab.policy.read.source import Path, Refusal, Source
from lab.policy.read.values import dns_subdomain, port_match, protocol_match, rule_net
from lab.policy.resources import (
    Action,
    Direction,
    EntityRule,
    HttpMatch,
    HttpPath,
    IcmpMatch,
    PortMatch,
    PortRange,
    ProtocolMatch,
    Rule,
    ServiceAccountMatch,
    ServiceMatch,
)
from lab.policy.selector import Selector
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS, TCP
from lab.topology import Net

__all__ = ["read_rules"]

_MAX_RULES = 1024
_MAX_NETS = 256
_MAX_PORTS = 50
_MAX_ICMP_TYPE = 254
_MAX_ICMP_CODE = 255
_ICMP_VERSIONS = {ICMP: 4, ICMPV6: 6}
_SIDES = ("source", "destination")
_NAMESPACED = ("NetworkPolicy", "StagedNetworkPolicy")
_SERVICE_SIDES = "the source of an ingress rule, or the destination of an egress rule"


def read_rules(source: Source, path: Path, models: Sequence[RuleModel], direction: Direction) -> tuple[Rule, ...]:
    """All rules of one direction; those that are wrong are among the source's errors."""
    source.limit(path, models, _MAX_RULES)
    return tuple(_rule(source, (*path, index), model, direction) for index, model in enumerate(models))


def _rule(source: Source, path: Path, model: RuleModel, direction: Direction) -> Rule:
    rule = Rule(
        action=Action(model.action),
        place=source.place(path),
        ip_version=model.ip_version,
        protocol=_protocol(source, (*path, "protocol"), model.protocol),
        not_protocol=_protocol(source, (*path, "notProtocol"), model.not_protocol),
        icmp=_icmp(source, (*path, "icmp"), model.icmp),
        not_icmp=_icmp(source, (*path, "notICMP"), model.not_icmp),
        source=_side(source, (*path, "source"), model.source),
        destination=_side(source, (*path, "destination"), model.destination),
        http=_http(source, (*path, "http"), model.http),
        annotations=model.metadata.annotations if model.metadata else None,
    )
    _check_protocol_version(source, path, rule)
    _check_icmp(source, path, model, rule)
    _check_ports(source, path, model, rule)
    _check_families(source, path, model, rule)
    _check_services(source, (*path, "source"), rule.source, where_allowed=direction is Direction.INGRESS)
    _check_services(source, (*path, "destination"), rule.destination, where_allowed=direction is Direction.EGRESS)
    if rule.http is not None:
        _check_http(source, path, rule, direction)
    return rule


def _protocol(source: Source, path: Path, value: object) -> ProtocolMatch | None:
    return None if value is None else source.read(path, protocol_match, value)


def _icmp(source: Source, path: Path, model: IcmpModel | None) -> IcmpMatch | None:
    """Read ``icmp`` or ``notICMP``; one without a type says nothing."""
    if model is None:
        return None
    for key, value, most in (("type", model.type, _MAX_ICMP_TYPE), ("code", model.code, _MAX_ICMP_CODE)):
        if value is not None and not 0 <= value <= most:
            source.refuse((*path, key), "is out of range", allowed=f"0 to {most}")
    if model.type is None:
        if model.code is not None:
            source.refuse((*path, "code"), "needs a type beside it", key=True)
        return None
    return IcmpMatch(model.type, model.code)


def _side(source: Source, path: Path, model: EntityRuleModel | None) -> EntityRule:
    if model is None:
        return EntityRule()
    return EntityRule(
        nets=_nets(source, (*path, "nets"), model.nets),
        not_nets=_nets(source, (*path, "notNets"), model.not_nets),
        selector=_selector(source, (*path, "selector"), model.selector),
        not_selector=_selector(source, (*path, "notSelector"), model.not_selector),
        namespace_selector=_selector(source, (*path, "namespaceSelector"), model.namespace_selector, global_alone=True),
        service_accounts=_service_accounts(source, (*path, "serviceAccounts"), model.service_accounts),
        services=ServiceMatch(model.services.name, model.services.namespace or None) if model.services else None,
        ports=_ports(source, (*path, "ports"), model.ports),
        not_ports=_ports(source, (*path, "notPorts"), model.not_ports),
    )


def _selector(source: Source, path: Path, text: str, *, global_alone: bool = False) -> Selector | None:
    """Read a selector of a rule, in which the empty text is none."""
    return source.selector(path, text, global_alone=global_alone) if text else None


def _service_accounts(source: Source, path: Path, model: ServiceAccountsModel | None) -> ServiceAccountMatch | None:
    if model is None:
        return None
    selector = _selector(source, (*path, "selector"), model.selector)
    if not model.names and selector is None:
        return None
    source.read_all((*path, "names"), dns_subdomain, model.names)
    return ServiceAccountMatch(tuple(model.names), selector)


def _nets(source: Source, path: Path, values: list[str]) -> tuple[Net, ...]:
    source.limit(path, values, _MAX_NETS)
    return source.read_all(path, rule_net, values)


def _ports(source: Source, path: Path, values: list[Any]) -> tuple[PortMatch, ...]:
    source.limit(path, values, _MAX_PORTS)
    return source.read_all(path, port_match, values)


def _check_protocol_version(source: Source, path: Path, rule: Rule) -> None:
    """Refuse the protocol names ICMP and ICMPv6 under the other IP version; the numbers are bound to none."""
    if rule.protocol is None or not rule.protocol.by_name or rule.ip_version is None:
        return
    version = _ICMP_VERSIONS.get(rule.protocol.number, rule.ip_version)
    if version != rule.ip_version:
        source.refuse((*path, "protocol"), f"is of IPv{version} and contradicts ipVersion {rule.ip_version}")


def _check_icmp(source: Source, path: Path, model: RuleModel, rule: Rule) -> None:
    """Refuse ``icmp`` without an ICMP protocol of the rule's IP version; ``notICMP`` may stand alone."""
    if model.icmp is None or (rule.protocol is None and model.protocol is not None):
        return
    version = _ICMP_VERSIONS.get(rule.protocol.number) if rule.protocol else None
    if version is None:
        source.refuse((*path, "icmp"), "needs the protocol ICMP or ICMPv6", key=True)
    elif rule.protocol and not rule.protocol.by_name and rule.ip_version not in (None, version):
        source.refuse((*path, "icmp"), f"is of IPv{version} and contradicts ipVersion {rule.ip_version}", key=True)


def _check_ports(source: Source, path: Path, model: RuleModel, rule: Rule) -> None:
    """Refuse port numbers without a protocol that has ports; a name needs none."""
    if rule.protocol is None and model.protocol is not None:
        return
    if rule.protocol is not None and rule.protocol.number in PORT_PROTOCOLS:
        return
    for name, side in zip(_SIDES, (rule.source, rule.destination), strict=True):
        for key, ports in (("ports", side.ports), ("notPorts", side.not_ports)):
            if any(isinstance(port, PortRange) for port in ports):
                source.refuse(
                    (*path, name, key), "needs a protocol that has ports", key=True, allowed="protocol TCP, UDP or SCTP"
                )


def _check_families(source: Source, path: Path, model: RuleModel, rule: Rule) -> None:
    """Refuse networks of both families in one rule or against its ipVersion, and ``notNets`` of everything."""
    version: int | None = rule.ip_version
    reason = f"contradicts ipVersion {version}"
    for name, side in zip(_SIDES, (model.source, model.destination), strict=True):
        for key, texts in (("nets", side.nets), ("notNets", side.not_nets)) if side else ():
            for index, text in enumerate(texts):
                net = _readable(text)
                if net is None:
                    continue
                at = (*path, name, key, index)
                if version is None:
                    version, reason = net.version, f"is not IPv{net.version} like the networks before it in this rule"
                elif net.version != version:
                    source.refuse(at, reason, next_step="write one rule for IPv4 and one for IPv6")
                if key == "notNets" and net.prefixlen == 0:
                    source.refuse(at, "leaves nothing that the rule could match")


def _check_services(source: Source, path: Path, side: EntityRule, *, where_allowed: bool) -> None:
    """Refuse ``services`` but on the other side of the policy's endpoints, and beside what says the same otherwise."""
    if side.services is None:
        return
    at = (*path, "services")
    if not where_allowed:
        source.refuse(at, "cannot stand here", key=True, allowed=_SERVICE_SIDES)
    if not side.services.name:
        source.refuse(at, "has no 'name', which it needs", key=True)
    if side.services.namespace is None and source.value(("kind",)) not in _NAMESPACED:
        source.refuse(at, "has no 'namespace', which it needs in a cluster-wide resource", key=True)
    beside: dict[str, object] = {
        "selector": side.selector,
        "notSelector": side.not_selector,
        "namespaceSelector": side.namespace_selector,
        "serviceAccounts": side.service_accounts,
        "nets": side.nets,
        "notNets": side.not_nets,
    }
    if path[-1] == "destination":  # the ports are those of the service
        beside |= {"ports": side.ports, "notPorts": side.not_ports}
    for key, given in beside.items():
        if given:
            source.refuse((*path, key), "cannot stand beside services", key=True)


def _readable(text: str) -> Net | None:
    """The network, unless it has been refused already."""
    try:
        return rule_net(text)
    except Refusal:
        return None


def _http(source: Source, path: Path, model: HttpModel | None) -> HttpMatch | None:
    if model is None:
        return None
    paths: list[HttpPath] = []
    for index, given in enumerate(model.paths):
        at = (*path, "paths", index)
        if (given.exact is None) == (given.prefix is None):
            source.refuse(at, "must hold one of the two", allowed="either exact or prefix")
        elif given.exact is not None:
            paths.append(HttpPath("exact", _http_path(source, (*at, "exact"), given.exact)))
        elif given.prefix is not None:
            paths.append(HttpPath("prefix", _http_path(source, (*at, "prefix"), given.prefix)))
    return HttpMatch(tuple(model.methods), tuple(paths))


def _http_path(source: Source, path: Path, text: str) -> str:
    if not text.startswith("/") or any(character in text for character in "?# "):
        source.refuse(path, "is not a path", allowed="a path that begins with / and holds no ?, # or blank")
    return text


def _check_http(source: Source, path: Path, rule: Rule, direction: Direction) -> None:
    """Refuse ``http`` where no proxy could look at requests."""
    at = (*path, "http")
    if direction is Direction.EGRESS:
        source.refuse(at, "cannot stand in an egress rule", key=True, allowed="ingress rules with action Allow")
    if rule.action is not Action.ALLOW:
        source.refuse(at, f"cannot stand in a rule with action {rule.action.value}", key=True, allowed="action Allow")
    if rule.protocol is not None and rule.protocol.number != TCP:
        source.refuse(at, "needs the protocol TCP or none", key=True)
