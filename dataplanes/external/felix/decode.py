# SPDX-License-Identifier: Apache-2.0
"""From what Felix sends to snapshots: a driver's view, which keeps what it is told and knows when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, Final, Literal, cast

from dataplanes.api import (
    Action,
    DataplaneError,
    EndpointPolicy,
    HostPolicy,
    IcmpMatch,
    IpSet,
    Net,
    NodeSettings,
    PolicyId,
    PortMember,
    PortRange,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)
from dataplanes.external.felix.encode import IP_AND_PORT
from dataplanes.external.felix.names import failsafe, member, policy_id, policy_of_name, protocol_number
from dataplanes.external.felix.schema import SCHEMAS, TO_DATAPLANE, Form
from dataplanes.external.felix.wire import Message, decode

__all__ = ["FelixState"]

_ACTIONS: Final = {
    "allow": Action.ALLOW,
    "deny": Action.DENY,
    "pass": Action.PASS,
    "next-tier": Action.PASS,
    "log": Action.LOG,
}


class FelixState:
    """All that Felix has told so far.

    A removal of what is not there is passed over, and so is a message that a dataplane has no use for.
    """

    def __init__(self, node: str, form: Form) -> None:
        self.in_sync = False
        self._node = node
        self._form = form
        self._config: Mapping[str, str] = {}
        self._sets: dict[str, tuple[int, frozenset[str]]] = {}
        self._policies: dict[PolicyId, SnapshotPolicy] = {}
        self._profiles: dict[str, SnapshotProfile] = {}
        self._workloads: dict[str, EndpointPolicy] = {}
        self._hosts: dict[str, HostPolicy] = {}
        self._pools: dict[str, tuple[Net, bool]] = {}

    def take(self, data: bytes) -> None:
        """Take in a ToDataplane message; raises DataplaneError when it is none, or refers to what is not there."""
        message = decode(SCHEMAS[self._form], TO_DATAPLANE, data)
        handlers: Mapping[str, Callable[[Message], None]] = {
            "in_sync": self._synchronised,
            "config_update": self._configured,
            "ipset_update": self._set,
            "ipset_delta_update": self._set_changed,
            "ipset_remove": lambda gone: _drop(self._sets, gone.get("id", "")),
            "active_policy_update": self._policy,
            "active_policy_remove": lambda gone: _drop(self._policies, policy_id(gone.get("id", {}), self._form)),
            "active_profile_update": self._profile,
            "active_profile_remove": lambda gone: _drop(self._profiles, gone.get("id", {}).get("name", "")),
            "workload_endpoint_update": self._workload,
            "workload_endpoint_remove": lambda gone: _drop(self._workloads, _key(gone)),
            "host_endpoint_update": self._host,
            "host_endpoint_remove": lambda gone: _drop(self._hosts, _key(gone)),
            "ipam_pool_update": self._pool,
            "ipam_pool_remove": lambda gone: _drop(self._pools, gone.get("id", "")),
        }
        for name, body in message.items():
            if name in handlers:
                try:
                    handlers[name](body)
                except (ValueError, KeyError) as error:
                    raise DataplaneError(f"this makes no sense in {name}", value=str(error)) from error

    def snapshot(self) -> Snapshot:
        """What is to be in force now."""
        return Snapshot(
            self._node,
            {each.interface: each for each in self._workloads.values()},
            dict(self._policies),
            dict(self._profiles),
            {set_id: _ip_set(set_id, kind, members) for set_id, (kind, members) in self._sets.items()},
            {each.interface: each for each in self._hosts.values()},
            self._settings(),
        )

    def _synchronised(self, _body: Message) -> None:
        self.in_sync = True

    def _configured(self, body: Message) -> None:
        self._config = body.get("config", {})

    def _set(self, body: Message) -> None:
        self._sets[body.get("id", "")] = body.get("type", 0), frozenset(body.get("members", ()))

    def _set_changed(self, body: Message) -> None:
        set_id = body.get("id", "")
        if set_id not in self._sets:
            raise DataplaneError("members change of a set that is not there", value=set_id)
        kind, members = self._sets[set_id]
        added, removed = body.get("added_members", ()), body.get("removed_members", ())
        self._sets[set_id] = kind, members.difference(removed).union(added)

    def _policy(self, body: Message) -> None:
        identity, policy = body.get("id", {}), body.get("policy", {})
        found = policy_id(identity, self._form)
        tier = policy.get("tier") or identity.get("tier", "default")
        self._policies[found] = SnapshotPolicy(found, tier, *_both(policy))

    def _profile(self, body: Message) -> None:
        name = body.get("id", {}).get("name", "")
        self._profiles[name] = SnapshotProfile(name, *_both(body.get("profile", {})))

    def _workload(self, body: Message) -> None:
        told = body.get("endpoint", {})
        nets = [ip_network(net) for net in (*told.get("ipv4_nets", ()), *told.get("ipv6_nets", ()))]
        self._workloads[_key(body)] = EndpointPolicy(
            told.get("name", ""),
            body.get("id", {}).get("workload_id", ""),
            tuple(net.network_address for net in nets),
            self._tiers(told.get("tiers", ())),
            tuple(told.get("profile_ids", ())),
        )

    def _host(self, body: Message) -> None:
        told = body.get("endpoint", {})
        name, _, _ = body.get("id", {}).get("endpoint_id", "").partition("@")
        normal, forward, pre_dnat, untracked = (
            self._tiers(told.get(stage, ()))
            for stage in ("tiers", "forward_tiers", "pre_dnat_tiers", "untracked_tiers")
        )
        profiles = tuple(told.get("profile_ids", ()))
        self._hosts[_key(body)] = HostPolicy(told.get("name", ""), name, normal, profiles, forward, pre_dnat, untracked)

    def _pool(self, body: Message) -> None:
        pool = body.get("pool", {})
        self._pools[body.get("id", "")] = ip_network(pool.get("cidr", "")), bool(pool.get("masquerade"))

    def _tiers(self, tiers: Any) -> tuple[TierPolicies, ...]:
        return tuple(
            TierPolicies(
                tier.get("name", ""),
                tuple(map(self._listed, tier.get("ingress_policies", ()))),
                tuple(map(self._listed, tier.get("egress_policies", ()))),
                tier.get("default_action") == "Pass",
            )
            for tier in tiers
        )

    def _listed(self, policy: Any) -> PolicyId:
        return policy_of_name(policy) if isinstance(policy, str) else policy_id(policy, self._form)

    def _settings(self) -> NodeSettings:
        config = self._config

        def is_on(key: str, *, default: bool) -> bool:
            return config.get(key, str(default)).lower() == "true"

        def failsafes(key: str) -> Any:
            text = config.get(key, "none")
            return () if text == "none" else tuple(map(failsafe, text.split(",")))

        action = config.get("DefaultEndpointToHostAction", "DROP").lower()
        return NodeSettings(
            cast('Literal["drop", "return", "accept"]', action),
            failsafes("FailsafeInboundHostPorts"),
            failsafes("FailsafeOutboundHostPorts"),
            allow_vxlan_from_workloads=is_on("AllowVXLANPacketsFromWorkloads", default=False),
            allow_ipip_from_workloads=is_on("AllowIPIPPacketsFromWorkloads", default=False),
            vxlan_port=int(config.get("VXLANPort", "4789")),
            drop_invalid=not is_on("DisableConntrackInvalidCheck", default=False),
            ipv6=is_on("Ipv6Support", default=True),
            masquerade=tuple(net for net, masquerade in self._pools.values() if masquerade),
            pools=tuple(net for net, _ in self._pools.values()),
        )


def _drop(kept: dict[Any, Any], key: object) -> None:
    kept.pop(key, None)


def _key(body: Message) -> str:
    """What makes an endpoint's id unique."""
    return "/".join(str(value) for _, value in sorted(body.get("id", {}).items()))


def _ip_set(set_id: str, kind: int, members: frozenset[str]) -> IpSet:
    found = frozenset(map(member, members))
    if kind == IP_AND_PORT:
        return IpSet(set_id, "port", ports=frozenset(each for each in found if isinstance(each, PortMember)))
    return IpSet(set_id, "net", nets=frozenset(each for each in found if not isinstance(each, PortMember)))


def _both(owner: Message) -> tuple[tuple[SnapshotRule, ...], tuple[SnapshotRule, ...]]:
    inbound, outbound = (tuple(map(_rule, owner.get(f"{way}_rules", ()))) for way in ("inbound", "outbound"))
    return inbound, outbound


def _rule(message: Message) -> SnapshotRule:
    action = message.get("action", "")
    if action not in _ACTIONS:
        raise DataplaneError("a rule with an action that nobody knows", value=action, allowed=", ".join(_ACTIONS))
    protocols = (message.get(name) for name in ("protocol", "not_protocol"))
    protocol, not_protocol = (None if each is None else protocol_number(each) for each in protocols)
    return SnapshotRule(
        _ACTIONS[action],
        message.get("ip_version") or None,
        protocol,
        not_protocol,
        _icmp(message, "icmp_type"),
        _icmp(message, "not_icmp_type"),
        _side(message, "src"),
        _side(message, "dst"),
    )


def _icmp(message: Message, name: str) -> IcmpMatch | None:
    both = message.get(f"{name}_code")
    if both is not None:
        return IcmpMatch(both.get("type", 0), both.get("code", 0))
    return IcmpMatch(message[name], None) if name in message else None


def _side(message: Message, end: str) -> SnapshotSide:
    def ranges(name: str) -> tuple[PortRange, ...]:
        return tuple(PortRange(each.get("first", 0), each.get("last", 0)) for each in message.get(name, ()))

    def nets(name: str) -> tuple[Net, ...]:
        return tuple(map(ip_network, message.get(name, ())))

    return SnapshotSide(
        nets(f"{end}_net"),
        nets(f"not_{end}_net"),
        tuple(message.get(f"{end}_ip_set_ids", ())),
        tuple(message.get(f"not_{end}_ip_set_ids", ())),
        ranges(f"{end}_ports"),
        tuple(message.get(f"{end}_named_port_ip_set_ids", ())),
        ranges(f"not_{end}_ports"),
        tuple(message.get(f"not_{end}_named_port_ip_set_ids", ())),
    )
