# SPDX-License-Identifier: Apache-2.0
"""From snapshots to what Felix would send: whole values, in the order in which each refers to what came before it.

Felix knows no http rules, service accounts or tunnel peers in what a dataplane for packets needs; they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from dataplanes.api import (
    Action,
    HostPolicy,
    IcmpMatch,
    IpSet,
    NodeSettings,
    PolicyId,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)
from dataplanes.external.felix.names import failsafe_text, member_text, policy_message, policy_name
from dataplanes.external.felix.schema import Form
from dataplanes.external.felix.wire import Message

__all__ = ["IP_AND_PORT", "NET", "updates"]

IP_AND_PORT, NET = 1, 2
_ACTIONS: Final = {Action.ALLOW: "allow", Action.DENY: "deny", Action.PASS: "pass", Action.LOG: "log"}

_Parts = dict[tuple[str, Any], Message]
"""Updates by their message and what they are about, in the order in which they are sent."""


def updates(before: Snapshot | None, after: Snapshot, form: Form) -> Sequence[Message]:
    """The ToDataplane messages that lead from one snapshot to the next, the last being ``in_sync``.

    What is new or other comes first, sets before the rules that name them; then what is gone, the other way round.
    """
    old: _Parts = {} if before is None else _parts(before, form)
    new = _parts(after, form)
    changed = [_update(key, message) for key, message in new.items() if old.get(key) != message]
    gone = [_removal(key, message) for key, message in reversed(old.items()) if key not in new]
    return [*changed, *gone, {"in_sync": {}}]


def _update(key: tuple[str, Any], message: Message) -> Message:
    return {f"{key[0]}_update": message}


def _removal(key: tuple[str, Any], message: Message) -> Message:
    return {f"{key[0]}_remove": {"id": message["id"]}}


def _parts(snapshot: Snapshot, form: Form) -> _Parts:
    tier_of = {policy_id: policy.tier for policy_id, policy in snapshot.policies.items()}
    hosts = snapshot.host_endpoints.values()
    untracked = _named_in(tier for host in hosts for tier in host.untracked_tiers)
    pre_dnat = _named_in(tier for host in hosts for tier in host.pre_dnat_tiers)
    parts: dict[tuple[str, Any], Message] = {("config", None): {"config": _config(snapshot.settings)}}
    for pool in snapshot.settings.pools:
        parts["ipam_pool", pool] = _pool(str(pool), pool in snapshot.settings.masquerade)
    for set_id, ip_set in snapshot.ip_sets.items():
        parts["ipset", set_id] = _set(ip_set)
    for policy_id, policy in snapshot.policies.items():
        parts["active_policy", policy_id] = {
            "id": policy_message(policy_id, policy.tier, form),
            "policy": _policy(policy, untracked=policy_id in untracked, pre_dnat=policy_id in pre_dnat),
        }
    for name, profile in snapshot.profiles.items():
        parts["active_profile", name] = {"id": {"name": name}, "profile": _rules(profile)}
    for interface, endpoint in snapshot.endpoints.items():
        parts["workload_endpoint", interface] = {
            "id": {"orchestrator_id": "k8s", "workload_id": endpoint.workload, "endpoint_id": "eth0"},
            "endpoint": {
                "state": "active",
                "name": interface,
                "profile_ids": endpoint.profiles,
                "ipv4_nets": [f"{each}/32" for each in endpoint.addresses if each.version == 4],
                "ipv6_nets": [f"{each}/128" for each in endpoint.addresses if each.version == 6],
                "tiers": _tiers(endpoint.tiers, tier_of, form),
            },
        }
    for interface, host in snapshot.host_endpoints.items():
        parts["host_endpoint", interface] = _host(host, tier_of, form)
    return parts


def _named_in(tiers: Iterable[TierPolicies]) -> frozenset[PolicyId]:
    return frozenset(policy for tier in tiers for policy in (*tier.ingress, *tier.egress))


def _config(settings: NodeSettings) -> Mapping[str, str]:
    def word(*, value: bool) -> str:
        return "true" if value else "false"

    return {
        "DefaultEndpointToHostAction": settings.endpoint_to_host_action.upper(),
        "FailsafeInboundHostPorts": ",".join(map(failsafe_text, settings.failsafe_inbound)) or "none",
        "FailsafeOutboundHostPorts": ",".join(map(failsafe_text, settings.failsafe_outbound)) or "none",
        "AllowVXLANPacketsFromWorkloads": word(value=settings.allow_vxlan_from_workloads),
        "AllowIPIPPacketsFromWorkloads": word(value=settings.allow_ipip_from_workloads),
        "VXLANPort": str(settings.vxlan_port),
        "DisableConntrackInvalidCheck": word(value=not settings.drop_invalid),
        "Ipv6Support": word(value=settings.ipv6),
    }


def _pool(net: str, masquerade: bool) -> Message:
    return {"id": net.replace("/", "-"), "pool": {"cidr": net, "masquerade": masquerade}}


def _set(ip_set: IpSet) -> Message:
    members = ip_set.nets if ip_set.kind == "net" else ip_set.ports
    kind = NET if ip_set.kind == "net" else IP_AND_PORT
    return {"id": ip_set.set_id, "members": sorted(map(member_text, members)), "type": kind}


def _policy(policy: SnapshotPolicy, *, untracked: bool, pre_dnat: bool) -> Message:
    flags = {"untracked": untracked, "pre_dnat": pre_dnat, "namespace": policy.policy_id.namespace}
    return _rules(policy) | {name: value for name, value in flags.items() if value} | {"tier": policy.tier}


def _rules(owner: SnapshotPolicy | SnapshotProfile) -> dict[str, Any]:
    return {"inbound_rules": [*map(_rule, owner.ingress)], "outbound_rules": [*map(_rule, owner.egress)]}


def _tiers(tiers: Sequence[TierPolicies], tier_of: Mapping[PolicyId, str], form: Form) -> Sequence[Message]:
    def listed(policies: Sequence[PolicyId]) -> Sequence[Message | str]:
        if form == "3.32":
            return [policy_message(each, tier_of[each], form) for each in policies]
        return [policy_name(each) for each in policies]

    return [
        {
            "name": tier.name,
            "ingress_policies": listed(tier.ingress),
            "egress_policies": listed(tier.egress),
            "default_action": "Pass" if tier.pass_by_default else "Deny",
        }
        for tier in tiers
    ]


def _host(host: HostPolicy, tier_of: Mapping[PolicyId, str], form: Form) -> Message:
    stages = ("tiers", "untracked_tiers", "pre_dnat_tiers", "forward_tiers")
    lists = {stage: _tiers(getattr(host, stage), tier_of, form) for stage in stages}
    # Two host endpoints may cover one interface each and bear one name; the interface makes the id unique.
    identity = {"endpoint_id": f"{host.name}@{host.interface}"}
    return {"id": identity, "endpoint": {"name": host.interface, "profile_ids": host.profiles, **lists}}


def _rule(rule: SnapshotRule) -> Message:
    message: dict[str, Any] = {"action": _ACTIONS[rule.action]}
    if rule.ip_version is not None:
        message["ip_version"] = rule.ip_version
    for name, protocol in (("protocol", rule.protocol), ("not_protocol", rule.not_protocol)):
        if protocol is not None:
            message[name] = {"number": protocol}
    message |= _icmp("icmp_type", rule.icmp) | _icmp("not_icmp_type", rule.not_icmp)
    return message | dict(_side("src", rule.source)) | dict(_side("dst", rule.destination))


def _icmp(name: str, match: IcmpMatch | None) -> dict[str, Any]:
    if match is None:
        return {}
    if match.code is None:
        return {name: match.type}
    return {f"{name}_code": {"type": match.type, "code": match.code}}


def _side(end: str, side: SnapshotSide) -> Iterator[tuple[str, Any]]:
    for prefix, nets, sets, ports, port_sets in (
        ("", side.nets, side.sets, side.ports, side.port_sets),
        ("not_", side.not_nets, side.not_sets, side.not_ports, side.not_port_sets),
    ):
        yield f"{prefix}{end}_net", [*map(str, nets)]
        yield f"{prefix}{end}_ip_set_ids", sets
        yield f"{prefix}{end}_ports", [{"first": each.first, "last": each.last} for each in ports]
        yield f"{prefix}{end}_named_port_ip_set_ids", port_sets
