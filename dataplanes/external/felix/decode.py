# SPDX-License-Identifier: Apache-2.0
"""From what Felix sends to snapshots: a driver's view, which keeps what it is told and knows when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, Final

from dataplanes.api import (
    Address,
    DataplaneError,
    EndpointPolicy,
    HostPolicy,
    IpSet,
    Net,
    PolicyId,
    PortMember,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    TierPolicies,
)
from dataplanes.external.felix.encode import IP_AND_PORT
from dataplanes.external.felix.hosts import Host, resolved
from dataplanes.external.felix.names import member, policy_id
from dataplanes.external.felix.rules import rules_of
from dataplanes.external.felix.schema import SCHEMAS, TO_DATAPLANE, Form
from dataplanes.external.felix.settings import settings_of
from dataplanes.external.felix.wire import Message, decode

__all__ = ["FelixState"]

_ACTIVE: Final = "active"
_NONE: Final[Mapping[str, Collection[Address]]] = MappingProxyType({})


class FelixState:
    """All that Felix has told so far; ``addresses`` are the node's own by interface, for host endpoints that name none.

    A removal of what is not there is passed over, and so is a message that a dataplane has no use for.
    """

    def __init__(self, node: str, form: Form, addresses: Mapping[str, Collection[Address]] = _NONE) -> None:
        self.in_sync = False
        self._addresses = addresses
        self._node = node
        self._form = form
        self._config: Mapping[str, str] = {}
        self._sets: dict[str, tuple[int, frozenset[str]]] = {}
        self._policies: dict[PolicyId, SnapshotPolicy] = {}
        self._profiles: dict[str, SnapshotProfile] = {}
        self._workloads: dict[str, EndpointPolicy] = {}
        self._hosts: dict[str, Host] = {}
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
            resolved(self._hosts.values(), self._addresses),
            settings_of(self._config, self._pools.values()),
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
        tier = policy.get("tier") or identity.get("tier") or "default"
        self._policies[found] = SnapshotPolicy(found, tier, *rules_of(policy))

    def _profile(self, body: Message) -> None:
        name = body.get("id", {}).get("name", "")
        self._profiles[name] = SnapshotProfile(name, *rules_of(body.get("profile", {})))

    def _workload(self, body: Message) -> None:
        told = body.get("endpoint", {})
        nets = [ip_network(net) for net in (*told.get("ipv4_nets", ()), *told.get("ipv6_nets", ()))]
        is_down = told.get("state", _ACTIVE) != _ACTIVE  # such a one is cut off: no tier and no profile lets it through
        self._workloads[_key(body)] = EndpointPolicy(
            told.get("name", ""),
            body.get("id", {}).get("workload_id", ""),
            tuple(net.network_address for net in nets),
            () if is_down else self._tiers(told.get("tiers", ())),
            () if is_down else tuple(told.get("profile_ids", ())),
        )

    def _host(self, body: Message) -> None:
        told = body.get("endpoint", {})
        name, _, _ = body.get("id", {}).get("endpoint_id", "").partition("@")
        normal, forward = (self._tiers(told.get(stage, ())) for stage in ("tiers", "forward_tiers"))
        # Whoever finds no match there goes on, whatever the tier says of itself.
        pre_dnat, untracked = (
            tuple(replace(tier, pass_by_default=True) for tier in self._tiers(told.get(stage, ())))
            for stage in ("pre_dnat_tiers", "untracked_tiers")
        )
        profiles = tuple(told.get("profile_ids", ()))
        policy = HostPolicy(told.get("name", ""), name, normal, profiles, forward, pre_dnat, untracked)
        expected = (*told.get("expected_ipv4_addrs", ()), *told.get("expected_ipv6_addrs", ()))
        self._hosts[_key(body)] = Host(policy, frozenset(map(ip_address, expected)))

    def _pool(self, body: Message) -> None:
        pool = body.get("pool", {})
        self._pools[body.get("id", "")] = ip_network(pool.get("cidr", "")), bool(pool.get("masquerade"))

    def _tiers(self, tiers: Any) -> tuple[TierPolicies, ...]:
        return tuple(
            TierPolicies(
                tier.get("name", ""),
                tuple(self._listed(each, tier) for each in tier.get("ingress_policies", ())),
                tuple(self._listed(each, tier) for each in tier.get("egress_policies", ())),
                tier.get("default_action") == "Pass",
            )
            for tier in tiers
        )

    def _listed(self, policy: Any, tier: Message) -> PolicyId:
        return policy_id(
            {"tier": tier.get("name", ""), "name": policy} if isinstance(policy, str) else policy, self._form
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
