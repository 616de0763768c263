# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes NetworkPolicy judged by Kubernetes' own terms: pods, namespaces, label selectors, ipBlocks, ports.

Nothing is converted to Calico's rules. Only what a *pod* is comes from Calico: its labels are those that the
policy engine sees, and the labels of its namespace are those that it inherits from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.ports import serves, spell_port
from lab.oracle.rules import JudgedRule
from lab.oracle.world import Location, Party
from lab.policy.resources import (
    Action,
    Direction,
    IpBlock,
    KubernetesPeer,
    KubernetesPort,
    KubernetesRule,
    LabelRequirement,
    LabelSelector,
)
from lab.protocols import protocol_label

__all__ = ["judged_kubernetes_rules", "selects", "spell_location", "spell_selector"]


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects something with these labels; the empty one selects everything."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _satisfies(requirement, labels) for requirement in selector.match_expressions
    )


def _satisfies(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    """NotIn holds for a missing key, as the API documents it."""
    present = requirement.key in labels
    match requirement.operator:
        case "In":
            return present and labels[requirement.key] in requirement.values
        case "NotIn":
            return not present or labels[requirement.key] not in requirement.values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present


def judged_kubernetes_rules(
    rules: tuple[KubernetesRule, ...], namespace: str, direction: Direction
) -> tuple[JudgedRule, ...]:
    """The rules of one direction; every one of them allows."""
    return tuple(
        JudgedRule(index, Action.ALLOW, rule.place, tuple(_conditions(rule, namespace, direction)))
        for index, rule in enumerate(rules)
    )


def _conditions(rule: KubernetesRule, namespace: str, direction: Direction) -> Iterator[Condition]:
    if rule.peers:
        side: Side = "source" if direction is Direction.INGRESS else "destination"
        yield _has_peer(side, namespace, rule.peers)
    if rule.ports:
        yield _to_port(rule.ports)


def _has_peer(side: Side, namespace: str, peers: tuple[KubernetesPeer, ...]) -> Condition:
    """``from`` or ``to``: one of the peers is at the address."""
    name = "from" if side == "source" else "to"
    by_address = any(peer.ip_block is not None for peer in peers)

    def mismatch(packet: Packet) -> Mismatch:
        wanted = " or ".join(_spell_peer(peer, namespace) for peer in peers)
        return Mismatch(name, wanted, spell_location(packet.end(side)))

    return Condition(
        _PEER_PARTS[side, by_address],
        # Label mappings do not hash, their text does.
        (name, namespace, repr(peers)),
        lambda packet: any(_is_at(peer, namespace, packet.end(side)) for peer in peers),
        mismatch,
    )


_PEER_PARTS: Mapping[tuple[Side, bool], Part] = {
    ("source", False): Part.SOURCE_LABELS,
    ("source", True): Part.SOURCE_ADDRESS,
    ("destination", False): Part.DESTINATION_LABELS,
    ("destination", True): Part.DESTINATION_ADDRESS,
}


def _to_port(ports: tuple[KubernetesPort, ...]) -> Condition:
    """``ports``: one of the entries is the packet's protocol and destination port."""
    wanted = " or ".join(map(_spell_port, ports))
    return Condition(
        Part.DESTINATION_SERVICE,
        ("ports", ports),
        lambda packet: any(port.protocol == packet.protocol and _is_port(port, packet) for port in ports),
        lambda packet: Mismatch("ports", wanted, spell_port(packet, "destination")),
        tuple((port.port, port.end_port or port.port) for port in ports if isinstance(port.port, int)),
    )


def _is_at(peer: KubernetesPeer, namespace: str, location: Location) -> bool:
    if peer.ip_block is not None:
        return _in_block(peer.ip_block, location)
    return any(_is_peer(peer, namespace, pod) for pod in location.pods)


def _in_block(block: IpBlock, location: Location) -> bool:
    return location.address in block.cidr and not any(location.address in net for net in block.except_)


def _is_peer(peer: KubernetesPeer, namespace: str, pod: Party) -> bool:
    """Without a namespaceSelector the peer lives in the policy's own namespace; without a podSelector it is any pod."""
    if peer.namespace_selector is None:
        near = pod.namespace == namespace
    else:
        near = selects(peer.namespace_selector, pod.namespace_labels)
    return near and (peer.pod_selector is None or selects(peer.pod_selector, pod.labels))


def _is_port(port: KubernetesPort, packet: Packet) -> bool:
    if port.port is None:
        return True
    if isinstance(port.port, str):
        return any(serves(pod, packet, "destination", (port.port,)) for pod in packet.destination.pods)
    last = port.port if port.end_port is None else port.end_port
    return packet.port is not None and port.port <= packet.port <= last


def _spell_port(port: KubernetesPort) -> str:
    protocol = protocol_label(port.protocol)
    if port.port is None:
        return f"any {protocol}"
    return f"{port.port}/{protocol}" if port.end_port is None else f"{port.port}-{port.end_port}/{protocol}"


def _spell_peer(peer: KubernetesPeer, namespace: str) -> str:
    if peer.ip_block is not None:
        but = f" except {', '.join(map(str, peer.ip_block.except_))}" if peer.ip_block.except_ else ""
        return f"{peer.ip_block.cidr}{but}"
    pods = "any pod" if peer.pod_selector is None else f"pods with {spell_selector(peer.pod_selector)}"
    if peer.namespace_selector is None:
        return f"{pods} in namespace {namespace}"
    return f"{pods} in namespaces with {spell_selector(peer.namespace_selector)}"


def spell_selector(selector: LabelSelector) -> str:
    """A label selector in words, for messages."""
    terms = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for requirement in selector.match_expressions:
        values = f" {{{', '.join(requirement.values)}}}" if requirement.values else ""
        terms.append(f"{requirement.key} {requirement.operator}{values}")
    return ", ".join(terms) or "any labels"


def spell_location(location: Location) -> str:
    """Which pods with which labels, or which nodes, are at an address, for messages."""
    pods = [f"{pod.title} with {_spell_labels(pod.labels)}" for pod in location.pods]
    nodes = [f"node {node.name} with {_spell_labels(node.labels)}" for node in location.nodes]
    return "; ".join(pods + nodes) or f"{location.address}, which is of no pod"


def _spell_labels(labels: Mapping[str, str]) -> str:
    return (
        ", ".join(f"{key}={value}" for key, value in labels.items() if "projectcalico.org/" not in key) or "no labels"
    )
