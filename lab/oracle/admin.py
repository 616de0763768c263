# SPDX-License-Identifier: Apache-2.0
"""Admin policies by their API's own terms: AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy.

They never isolate: a packet that none of their rules meets goes on to whatever comes next. What a pod and its
namespace are called is as for NetworkPolicies. (Source of the rules: network-policy-api, v1alpha1 and v1alpha2.)
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.kubernetes import selects, spell_location, spell_selector
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.ports import serves, spell_port
from lab.oracle.rules import JudgedRule
from lab.oracle.world import Location, Party
from lab.policy.resources import Action, AdminPeer, AdminPort, AdminRule, Direction
from lab.protocols import protocol_label

__all__ = ["is_subject", "judged_admin_rules", "unknown_field"]


def is_subject(peer: AdminPeer, party: Party) -> bool:
    """Whether a pod is among those that ``namespaces`` or ``pods`` name; nobody but a pod ever is."""
    if not party.is_pod:
        return False
    if peer.namespaces is not None:
        return selects(peer.namespaces, party.namespace_labels)
    if peer.pods is not None:
        namespaces, pods = peer.pods
        return selects(namespaces, party.namespace_labels) and selects(pods, party.labels)
    return False


def judged_admin_rules(rules: tuple[AdminRule, ...], direction: Direction) -> tuple[JudgedRule, ...]:
    """The rules of one direction.

    A rule with a kind of peer or port that nobody knows fails closed as a whole: one that allows matches
    nothing, any other denies everything.
    """
    return tuple(_judged(index, rule, direction) for index, rule in enumerate(rules))


def _judged(index: int, rule: AdminRule, direction: Direction) -> JudgedRule:
    unknown = unknown_field(rule, direction)
    if unknown is None:
        return JudgedRule(index, rule.action, rule.place, tuple(_conditions(rule, direction)))
    if rule.action is Action.ALLOW:
        return JudgedRule(index, rule.action, rule.place, (_never(unknown),))
    return JudgedRule(index, Action.DENY, rule.place, ())


def unknown_field(rule: AdminRule, direction: Direction) -> str | None:
    """The field that holds something unknown, for which the rule fails closed; domain names are for Allow only."""
    for peer in rule.peers:
        named = peer.domain_names is not None
        if peer == AdminPeer() or (named and rule.action is not Action.ALLOW):
            return _peers_field(direction)
    return "ports" if AdminPort() in rule.ports else None


def _never(field: str) -> Condition:
    return Condition(
        Part.FAMILY,
        ("unknown", field),
        lambda _: False,
        lambda _: Mismatch(field, "kinds that this model knows", "an unknown one: the rule allows nothing"),
    )


def _peers_field(direction: Direction) -> str:
    return "from" if direction is Direction.INGRESS else "to"


def _conditions(rule: AdminRule, direction: Direction) -> Iterator[Condition]:
    yield _has_peer(direction, rule.peers)
    if rule.ports:
        yield _to_port(rule.ports)


def _has_peer(direction: Direction, peers: tuple[AdminPeer, ...]) -> Condition:
    """``from`` or ``to``: one of the peers is at the address."""
    side: Side = "source" if direction is Direction.INGRESS else "destination"
    field = _peers_field(direction)
    by_address = any(peer.networks is not None or peer.nodes is not None for peer in peers)

    def holds(packet: Packet) -> bool:
        location = packet.end(side)
        return any(_is_at(peer, location) for peer in peers)

    def mismatch(packet: Packet) -> Mismatch:
        return Mismatch(field, " or ".join(map(_spell_peer, peers)), spell_location(packet.end(side)))

    # Label mappings do not hash, their text does.
    return Condition(_part(side, by_address=by_address), ("admin", field, repr(peers)), holds, mismatch)


def _part(side: Side, *, by_address: bool) -> Part:
    if side == "source":
        return Part.SOURCE_ADDRESS if by_address else Part.SOURCE_LABELS
    return Part.DESTINATION_ADDRESS if by_address else Part.DESTINATION_LABELS


def _is_at(peer: AdminPeer, location: Location) -> bool:
    """Networks hold whatever has such an address, pods too; no domain name leads anywhere in a lab."""
    if peer.networks is not None:
        return any(location.address in net for net in peer.networks)
    if peer.nodes is not None:
        return any(selects(peer.nodes, node.labels) for node in location.nodes)
    return any(is_subject(peer, pod) for pod in location.pods)


def _to_port(ports: tuple[AdminPort, ...]) -> Condition:
    """``ports`` or ``protocols``: one of the entries is the packet's protocol and destination port."""
    return Condition(
        Part.DESTINATION_SERVICE,
        ("admin ports", ports),
        lambda packet: any(_is_port(port, packet) for port in ports),
        lambda packet: Mismatch("ports", " or ".join(map(_spell_port, ports)), spell_port(packet, "destination")),
        tuple((port.ports.first, port.ports.last) for port in ports if port.ports is not None),
    )


def _is_port(port: AdminPort, packet: Packet) -> bool:
    """A name stands for whatever the pod at the destination declares under it, of any protocol."""
    if port.name is not None:
        return any(serves(pod, packet, "destination", (port.name,)) for pod in packet.destination.pods)
    if port.protocol != packet.protocol:
        return False
    return port.ports is None or (packet.port is not None and port.ports.first <= packet.port <= port.ports.last)


def _spell_port(port: AdminPort) -> str:
    if port.name is not None:
        return f"port {port.name} of the pod"
    if port.protocol is None:
        return "an unknown kind of port"
    protocol = protocol_label(port.protocol)
    if port.ports is None:
        return f"any {protocol}"
    first, last = port.ports.first, port.ports.last
    return f"{first}/{protocol}" if first == last else f"{first}-{last}/{protocol}"


def _spell_peer(peer: AdminPeer) -> str:
    if peer.namespaces is not None:
        return f"any pod in namespaces with {spell_selector(peer.namespaces)}"
    if peer.pods is not None:
        return f"pods with {spell_selector(peer.pods[1])} in namespaces with {spell_selector(peer.pods[0])}"
    if peer.networks is not None:
        return f"in {', '.join(map(str, peer.networks))}"
    if peer.nodes is not None:
        return f"nodes with {spell_selector(peer.nodes)}"
    return f"{', '.join(peer.domain_names or ())}, which no address in a lab has"
