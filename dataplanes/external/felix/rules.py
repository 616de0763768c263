# SPDX-License-Identifier: Apache-2.0
"""Rules as Felix sends them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Final, Literal

from dataplanes.api import Action, DataplaneError, IcmpMatch, Net, PortRange, SnapshotRule, SnapshotSide
from dataplanes.external.felix.names import protocol_number
from dataplanes.external.felix.wire import Message

__all__ = ["rules_of"]

_ACTIONS: Final = {
    "": Action.ALLOW,
    "allow": Action.ALLOW,
    "deny": Action.DENY,
    "pass": Action.PASS,
    "next-tier": Action.PASS,
    "log": Action.LOG,
}
_FAMILY_OF_ICMP: Final[Mapping[str, Literal[4, 6]]] = {"icmp": 4, "icmpv6": 6}


def rules_of(owner: Message) -> tuple[tuple[SnapshotRule, ...], tuple[SnapshotRule, ...]]:
    """The inbound and the outbound rules of a Policy or Profile."""
    inbound, outbound = (tuple(map(_rule, owner.get(f"{way}_rules", ()))) for way in ("inbound", "outbound"))
    return inbound, outbound


def _rule(message: Message) -> SnapshotRule:
    action = message.get("action", "")
    if action not in _ACTIONS:
        raise DataplaneError("a rule with an action that nobody knows", value=action, allowed=", ".join(_ACTIONS))
    protocols = (message.get(name) for name in ("protocol", "not_protocol"))
    protocol, not_protocol = (None if each is None else protocol_number(each) for each in protocols)
    # A name is that of one family; numbers are bound to none, nor is what shall not be.
    implied = _FAMILY_OF_ICMP.get(message.get("protocol", {}).get("name", "").lower())
    return SnapshotRule(
        _ACTIONS[action],
        message.get("ip_version") or implied,
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
        return tuple(ip_network(each, strict=False) for each in message.get(name, ()))

    return SnapshotSide(
        nets(f"{end}_net"),
        nets(f"not_{end}_net"),
        tuple(message.get(f"{end}_ip_set_ids", ())),
        tuple(message.get(f"not_{end}_ip_set_ids", ())),
        ranges(f"{end}_ports"),
        _port_sets(message, end),
        ranges(f"not_{end}_ports"),
        tuple(message.get(f"not_{end}_named_port_ip_set_ids", ())),
    )


def _port_sets(message: Message, end: str) -> tuple[str, ...]:
    """Sets of address, protocol and port: those of named ports, or that of a service, which comes without ports."""
    named = tuple(message.get(f"{end}_named_port_ip_set_ids", ()))
    bound = tuple(message.get(f"{end}_ip_port_set_ids", ()))
    if bound and (len(bound) > 1 or named or message.get(f"{end}_ports")):
        raise DataplaneError("a rule with a service's set and something beside it", value=", ".join((*bound, *named)))
    return (*named, *bound)
