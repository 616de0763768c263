# SPDX-License-Identifier: Apache-2.0
"""How Felix spells what a snapshot holds: policy ids in either form, set members, protocols, failsafe ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

from dataplanes.api import DataplaneError, FailsafePort, Net, PolicyId, PortMember
from dataplanes.external.felix.schema import Form
from dataplanes.external.felix.wire import Message

__all__ = [
    "failsafe",
    "failsafe_text",
    "member",
    "member_text",
    "policy_id",
    "policy_message",
    "policy_name",
    "policy_of_name",
    "protocol_number",
]

_PROTOCOLS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}

# How the kinds that are not Calico's own were hidden in names before 3.32.
_PREFIXES: Final = {
    "KubernetesNetworkPolicy": "knp.default.",
    "AdminNetworkPolicy": "kanp.adminnetworkpolicy.",
    "BaselineAdminNetworkPolicy": "kbanp.baselineadminnetworkpolicy.",
    "ClusterNetworkPolicy": "kcnp.clusternetworkpolicy.",
}


def policy_message(policy: PolicyId, tier: str, form: Form) -> Message:
    """A policy's id as a PolicyID of the form."""
    if form == "3.32":
        return {"name": policy.name, "namespace": policy.namespace, "kind": policy.kind}
    return {"tier": tier, "name": policy_name(policy)}


def policy_id(message: Message, form: Form) -> PolicyId:
    """The policy that a PolicyID of the form names."""
    if form == "3.32":
        return PolicyId(message.get("kind", ""), message.get("namespace", ""), message.get("name", ""))
    found, tier = policy_of_name(message.get("name", "")), message.get("tier") or "default"
    own = found.kind in ("GlobalNetworkPolicy", "NetworkPolicy") and tier != "default"
    if own and not found.name.startswith(f"{tier}."):  # two tiers may each have one of that name
        return replace(found, name=f"{tier}.{found.name}")
    return found


def policy_name(policy: PolicyId) -> str:
    """The name that holds everything, as before 3.32."""
    name = f"{_PREFIXES.get(policy.kind, '')}{policy.name}"
    return f"{policy.namespace}/{name}" if policy.namespace else name


def policy_of_name(text: str) -> PolicyId:
    """The policy of a name that holds everything."""
    namespace, slash, name = text.rpartition("/")
    for kind, prefix in _PREFIXES.items():
        if name.startswith(prefix):
            return PolicyId(kind, namespace, name.removeprefix(prefix))
    return PolicyId("NetworkPolicy" if slash else "GlobalNetworkPolicy", namespace, name)


def member_text(member: Net | PortMember) -> str:
    """A member of a set: ``198.18.0.1/32``, or ``198.18.0.1,tcp:80``."""
    if isinstance(member, PortMember):
        return f"{member.address},{_NAMES.get(member.protocol, member.protocol)}:{member.port}"
    return str(member)


def member(text: str) -> Net | PortMember:
    """The member of a set that a text is; raises DataplaneError when it is none."""
    try:
        address, comma, rest = text.partition(",")
        if not comma:
            return ip_network(text)
        protocol, _, port = rest.partition(":")
        return PortMember(ip_address(address), protocol_number({"name": protocol}), int(port))
    except ValueError as error:
        raise DataplaneError("this is no member of a set", value=text) from error


def protocol_number(message: Mapping[str, Any]) -> int:
    """The number of a Protocol, whichever way it is given."""
    name = message.get("name")
    if name is None:
        return int(message.get("number", 0))
    return int(name) if name.isdigit() else _PROTOCOLS[name.lower()]


def failsafe_text(port: FailsafePort) -> str:
    """A failsafe port as FelixConfiguration spells it: ``tcp:22``, ``tcp:10.0.0.0/8:22``, ``tcp:[fd00::/8]:22``."""
    net = "" if port.net is None else f"{port.net}:" if port.net.version == 4 else f"[{port.net}]:"
    return f"{_NAMES.get(port.protocol, port.protocol)}:{net}{port.port}"


def failsafe(text: str) -> FailsafePort:
    """The failsafe port that a text is."""
    protocol, colon, rest = text.strip().partition(":")
    if not colon:  # a number alone, as very old ones are
        protocol, rest = "tcp", protocol
    net, _, port = rest.rpartition(":")
    limit = ip_network(net.strip("[]")) if net else None
    return FailsafePort(protocol_number({"name": protocol}), int(port), limit)
