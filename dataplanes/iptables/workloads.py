# SPDX-License-Identifier: Apache-2.0
"""The filter chains of workloads, and those that bring a packet from its interface to them.

An endpoint's chain returns only when its direction accepts the packet, and drops it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, takewhile

from dataplanes.api import (
    ICMPV6,
    Action,
    DataplaneError,
    Direction,
    EndpointPolicy,
    IcmpMatch,
    NodeSettings,
    SnapshotRule,
)
from dataplanes.iptables.chains import ACCEPT, CLEAR_MARK, Chain, conntrack_rules
from dataplanes.iptables.names import CHAIN_PREFIX, chain_name, comment
from dataplanes.iptables.policies import PolicyChains

__all__ = ["FROM", "TO", "TO_HOST", "WORKLOAD_PREFIX", "to_host_chain", "workload_chains"]

WORKLOAD_PREFIX = "cali"
"""How the names of all workload interfaces begin (Calico's InterfacePrefix)."""

# A longer list of interfaces is split by the next letter of their names, so that no packet walks a long one.
_DISPATCH_LENGTH = 20

FROM = f"{CHAIN_PREFIX}from"
TO = f"{CHAIN_PREFIX}to"
TO_HOST = f"{CHAIN_PREFIX}to-host"

# Multicast listener queries, reports and dones, router and neighbour solicitations, neighbour advertisements: without
# them a workload cannot even find its gateway (Felix: rules/static.go, filterWorkloadToHostChain).
_NEIGHBOUR_TYPES = (130, 131, 132, 133, 135, 136)
_TO_HOST_ACTIONS = {"drop": "-j DROP", "return": "-j RETURN", "accept": f"-g {ACCEPT}"}


def workload_chains(policies: PolicyChains) -> Iterator[Chain]:
    """The chains of all workloads of the node, and the way to them; an unknown ``cali*`` interface is cut off."""
    dispatched: dict[Direction, dict[str, str]] = {direction: {} for direction in Direction}
    chains: list[Chain] = []
    for interface, endpoint in sorted(policies.snapshot.endpoints.items()):
        if not interface.startswith(WORKLOAD_PREFIX):
            raise DataplaneError(
                "not the name of a workload's interface", value=interface, allowed=f"{WORKLOAD_PREFIX}*"
            )
        for direction in Direction:
            chain = _endpoint(endpoint, direction, policies)
            dispatched[direction][interface] = chain.name
            chains.append(chain)
    yield from _dispatch(FROM, "-i", dispatched[Direction.EGRESS], WORKLOAD_PREFIX)
    yield from _dispatch(TO, "-o", dispatched[Direction.INGRESS], WORKLOAD_PREFIX)
    yield from chains


def to_host_chain(policies: PolicyChains) -> Chain:
    """From a workload to its own node: its egress policy, then what the node says to all that passed it."""
    action = policies.snapshot.settings.endpoint_to_host_action
    rules: list[str] = []
    for kind in _NEIGHBOUR_TYPES if policies.family == 6 else ():
        message = SnapshotRule(Action.ALLOW, protocol=ICMPV6, icmp=IcmpMatch(kind, None))
        rules += policies.lines(message, f"-g {ACCEPT}", "finding neighbours is no matter of policy")
    rules += [
        f"{comment('egress of the workload that sent it')} -j {FROM}",
        f"-m conntrack --ctstate RELATED,ESTABLISHED {comment('part of a flow that was accepted')} -g {ACCEPT}",
        f"{comment(f'endpoint to host: {action}')} {_TO_HOST_ACTIONS[action]}",
    ]
    return Chain(TO_HOST, "workloads to their own node", tuple(rules))


def _endpoint(endpoint: EndpointPolicy, direction: Direction, policies: PolicyChains) -> Chain:
    settings = policies.snapshot.settings
    rules = (
        *conntrack_rules(settings),
        *(_encapsulation(settings) if direction is Direction.EGRESS else ()),
        CLEAR_MARK,
        *policies.tiers(endpoint.tiers, direction),
        *policies.profiles(endpoint.profiles, direction),
    )
    name = chain_name(direction.value, endpoint.interface)
    return Chain(name, f"workload {endpoint.workload} {direction.value}", rules)


def _encapsulation(settings: NodeSettings) -> Iterator[str]:
    """A workload that could send tunnel packets could speak for others (Felix: allow*PacketsFromWorkloads)."""
    if not settings.allow_vxlan_from_workloads:
        yield f"-p udp -m udp --dport {settings.vxlan_port} {comment('VXLAN from a workload')} -j DROP"
    if not settings.allow_ipip_from_workloads:
        yield f"-p 4 {comment('IPIP from a workload')} -j DROP"


def _dispatch(root: str, option: str, chains: Mapping[str, str], prefix: str) -> Iterator[Chain]:
    name = root if prefix == WORKLOAD_PREFIX else f"{root}-{prefix}"
    rules: list[str] = []
    below: list[Chain] = []
    for start, interfaces in _split(sorted(chains)):
        if len(interfaces) == 1:
            rules.append(f"{option} {interfaces[0]} -g {chains[interfaces[0]]}")
        else:
            rules.append(f"{option} {start}+ -g {root}-{start}")
            below += _dispatch(root, option, {interface: chains[interface] for interface in interfaces}, start)
    rules.append(f"{comment('no workload is known behind this interface')} -j DROP")
    yield Chain(name, f"dispatch {option} {prefix}+", tuple(rules))
    yield from below


def _split(interfaces: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Sorted names one by one when they are few, else by the first letter that differs: jumps go only 16 deep."""
    if len(interfaces) <= _DISPATCH_LENGTH:
        for interface in interfaces:
            yield interface, [interface]
        return
    same = takewhile(lambda letters: letters[0] == letters[1], zip(interfaces[0], interfaces[-1], strict=False))
    letter = len(list(same)) + 1
    for start, group in groupby(interfaces, key=lambda interface: interface[:letter]):
        yield start, list(group)
