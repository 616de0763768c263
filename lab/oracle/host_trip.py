# SPDX-License-Identifier: Apache-2.0
"""The way of one packet from end to end: each stage that it meets on each node, in the order of the kernel's hooks.

On every node that it comes to: ahead of connection tracking, ahead of DNAT, then either what is for the node itself
or what passes through it. What a node sends: ahead of connection tracking, then what leaves it. (Source: Felix,
rules/static.go, and the order of netfilter's hooks.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.oracle.host_endpoints import ETH0, LOOPBACK
from lab.oracle.host_hooks import Hook
from lab.oracle.host_stages import Ruling, Stage, Step
from lab.oracle.packet import Packet
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.policy.resources import Direction
from lab.protocols import ICMPV6, UDP
from lab.topology import TUNNEL_INTERFACES, TUNNEL_PORT, External, Node, Workload
from lab.topology.model import End

if TYPE_CHECKING:
    from lab.oracle.host_path import Paths

__all__ = ["Trip"]

_NEIGHBOURS = frozenset({130, 131, 132, 133, 135, 136})
"""The ICMPv6 types without which a workload could not speak to its node at all."""

_OWN_WORKLOAD = Verdict(True, DefaultDecision(None, "host-to-own-workload"))
_DISCOVERY = Verdict(True, DefaultDecision(None, "neighbour-discovery"))
_NO_BACKEND = Verdict(False, DefaultDecision(None, "no-backend"))
_TUNNEL, _NO_TUNNEL = (Verdict(allowed, DefaultDecision(None, "tunnel")) for allowed in (True, False))
_NOT_FORWARDED = Verdict(False, DefaultDecision(None, "not-forwarded"))


class Trip:
    """One packet under way: how it looks, for whom it is, and the steps so far."""

    def __init__(self, paths: Paths, packet: Packet, target: End) -> None:
        self.steps: list[Step] = []
        self._paths = paths
        self._packet = packet
        self._target = target
        self._hop = 0
        self._is_outer = False
        self._translated: set[str] = set()

    def begin(self, source: End) -> None:
        """Go the whole way."""
        match source:
            case Workload():
                self._arrive(source.node, None, source)
            case Node():
                self._originate(source.name)
            case External():
                self._reach_target()

    # -- a node, from the outside in --------------------------------------------------------------------------

    def _arrive(self, node: str, interface: str | None, sender: Workload | None = None) -> None:
        """Come to a node by one of its own interfaces, or (None) by the one behind which a workload sends."""
        self._hop += 1
        self._ask_host(Hook.UNTRACKED, Direction.INGRESS, node, interface)
        self._ask_host(Hook.PRE_DNAT, Direction.INGRESS, node, interface)
        if not self._goes_on_from_node_port(node) or self._comes_back(node, interface):
            return
        if self._is_for(node):
            self._enter(node, interface, sender)
        else:
            self._pass_through(node, interface, sender)

    def _enter(self, node: str, interface: str | None, sender: Workload | None) -> None:
        """End on the node; the policy of a host endpoint has nothing to do with what its own workloads send it."""
        if self._is_tunnelled() and self._is_policed(node):
            from_node = isinstance(self._paths.holder(self._packet.source.address), Node)
            self._rule(f"tunnel of {node}", _TUNNEL if from_node else _NO_TUNNEL)
        elif sender is None:
            self._ask_host(Hook.NORMAL, Direction.INGRESS, node, interface)
        elif not self._is_policed(node):
            return
        elif self._is_neighbours_talk():
            self._rule(f"neighbour discovery on {node}", _DISCOVERY)
        else:
            self._ask_workload(Direction.EGRESS, sender)
            allowed = self._paths.settings[node].endpoint_to_host_action != "Drop"
            decision = DefaultDecision(Direction.EGRESS, "endpoint-to-host")
            self._rule(f"defaultEndpointToHostAction of {node}", Verdict(allowed, decision))

    def _pass_through(self, node: str, interface: str | None, sender: Workload | None) -> None:
        """Go on from a node.

        A direction in which no policy with applyOnForward applies is open. That is unconfirmed where one applies in
        the other: Calico from 3.30 on leaves such packets to the node's own FORWARD rules, as it does with those
        that the last tier passes on, which are let go on here, too.
        """
        target = self._target
        if not self._paths.settings[node].ip_forwarding:
            self._rule(f"{node}, which passes nothing on", _NOT_FORWARDED)
        self._ask_host(Hook.FORWARD, Direction.INGRESS, node, interface)
        if sender is not None:
            self._ask_workload(Direction.EGRESS, sender)
        if isinstance(target, Workload) and target.node == node:
            self._ask_workload(Direction.INGRESS, target)
            self._ask_host(Hook.FORWARD, Direction.EGRESS, node, None)
        else:
            self._ask_host(Hook.FORWARD, Direction.EGRESS, node, self._way_out())
            self._leave(node)

    # -- a node, from the inside out --------------------------------------------------------------------------

    def _originate(self, node: str) -> None:
        """Start on a node. Its policy is asked of the packet as it leaves, after DNAT."""
        to_itself = self._is_for(node)
        if to_itself or not self._is_own_workload(node):
            self._ask_host(Hook.UNTRACKED, Direction.EGRESS, node, LOOPBACK if to_itself else self._way_out())
        if not self._goes_on_from_node_port(node):
            return
        if self._is_own_workload(node):
            self._rule(f"{node} to its own workload", _OWN_WORKLOAD)
        elif self._is_for(node):
            self._ask_way_out(node, LOOPBACK)
            self._arrive(node, LOOPBACK)
        else:
            self._ask_way_out(node, self._way_out())
            self._leave(node)

    def _ask_way_out(self, node: str, interface: str) -> None:
        if self._is_tunnelled() and isinstance(self._target, Node) and self._is_policed(node):
            self._rule(f"tunnel of {node}", _TUNNEL)
        else:
            self._ask_host(Hook.NORMAL, Direction.EGRESS, node, interface)

    def _leave(self, node: str) -> None:
        if self._is_policed(node):
            self._packet = self._paths.translation.leaving(self._packet, node)
        if isinstance(self._target, Workload) and self._way_out() != ETH0:
            self._tunnel(node, self._target.node)
        else:
            self._reach_target()

    def _way_out(self) -> str:
        """The interface by which a packet leaves for another machine: a tunnel's, where one leads to its target."""
        tunnelled = isinstance(self._target, Workload) and self._paths.topology.is_encapsulated
        return TUNNEL_INTERFACES[self._packet.family] if tunnelled else ETH0

    def _tunnel(self, node: str, other: str) -> None:
        """Go to another node within one of the nodes' own packets.

        Ordinary policy of host endpoints never sees that one; what comes ahead of connection tracking and of DNAT does.
        """
        inner = self._packet
        here, there = (self._paths.own_location(name, inner.family) for name in (node, other))
        self._packet, self._is_outer = Packet(inner.family, UDP, here, there, None, TUNNEL_PORT, None), True
        self._ask_host(Hook.UNTRACKED, Direction.EGRESS, node, ETH0)
        self._hop += 1
        self._ask_host(Hook.UNTRACKED, Direction.INGRESS, other, ETH0)
        self._ask_host(Hook.PRE_DNAT, Direction.INGRESS, other, ETH0)
        self._packet, self._is_outer = inner, False
        self._arrive(other, TUNNEL_INTERFACES[inner.family])

    def _is_tunnelled(self) -> bool:
        """Whether a packet is VXLAN where nodes speak that."""
        encapsulated = self._paths.topology.is_encapsulated
        return encapsulated and (self._packet.protocol, self._packet.port) == (UDP, TUNNEL_PORT)

    def _reach_target(self) -> None:
        match self._target:
            case Workload(node=node):
                self._arrive(node, ETH0)
            case Node(name=name):
                self._arrive(name, ETH0)
            case External():
                return

    # -- on the way -------------------------------------------------------------------------------------------

    def _goes_on_from_node_port(self, node: str) -> bool:
        """Translate what is for a node port; tell whether the packet goes on. Once a node: it could go in circles.

        What is not tracked is not translated, so it never gets to a backend (unconfirmed).
        """
        translation = self._paths.translation
        if not self._is_for(node) or not translation.is_node_port(self._packet):
            return True
        backend = translation.to_backend(self._packet)
        target = None if backend is None else self._paths.holder(backend.destination.address)
        if backend is None or target is None or node in self._translated:
            self._rule(f"node port on {node}", _NO_BACKEND)
            return False
        self._rule(f"node port on {node}", _NO_BACKEND, unless_tracked=True)
        self._translated.add(node)
        self._packet, self._target = backend, target
        return True

    def _comes_back(self, node: str, interface: str | None) -> bool:
        """Rule out what another node's port has sent back to where it comes from.

        The kernel takes no IPv4 packet from outside that has a source address of its own (fib_validate_source in
        net/ipv4/fib_frontend.c); of IPv6 it does.
        """
        comes_back = (
            interface not in (None, LOOPBACK)
            and self._packet.family == 4
            and any(own.name == node for own in self._packet.source.nodes)
        )
        if comes_back:
            self._rule(f"{node}, which takes its own address for a forged one", _NO_BACKEND)
        return comes_back

    def _is_for(self, node: str) -> bool:
        return isinstance(self._target, Node) and self._target.name == node

    def _is_own_workload(self, node: str) -> bool:
        return isinstance(self._target, Workload) and self._target.node == node

    def _is_neighbours_talk(self) -> bool:
        icmp = self._packet.icmp
        return self._packet.protocol == ICMPV6 and icmp is not None and icmp.type in _NEIGHBOURS

    def _is_policed(self, node: str) -> bool:
        """Without ipv6Support a node's dataplane has no rule for IPv6, whatever a policy says (unconfirmed)."""
        return self._packet.family == 4 or self._paths.settings[node].ipv6_support

    def _ask_workload(self, direction: Direction, workload: Workload) -> None:
        if not self._is_policed(workload.node):
            return
        party = self._paths.world.pods[workload.name]
        self.steps.append(Stage(Hook.NORMAL, direction, party, workload.node, self._packet, self._hop))

    def _ask_host(self, hook: Hook, direction: Direction, node: str, interface: str | None) -> None:
        """Ask the host endpoint of an interface, that of every other one where it is a workload's (None).

        An endpoint of every other interface is never asked ahead of connection tracking.
        """
        endpoints = self._paths.endpoints
        if node not in endpoints.policed or not self._is_policed(node):
            return
        if hook is Hook.UNTRACKED:
            party = None if interface is None else endpoints.own(node, interface)
        else:
            party = endpoints.every_other(node) if interface is None else endpoints.on(node, interface)
        if party is not None:
            self.steps.append(Stage(hook, direction, party, node, self._packet, self._hop, self._is_outer))

    def _rule(self, title: str, verdict: Verdict, *, unless_tracked: bool = False) -> None:
        self.steps.append(Ruling(title, verdict, self._hop, unless_tracked))
