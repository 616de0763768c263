# SPDX-License-Identifier: Apache-2.0
"""From a flow to the packet that it sends first, and the way of that packet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from lab.errors import TopologyError
from lab.oracle.host_hooks import Hook
from lab.oracle.host_path import Paths
from lab.oracle.host_stages import Stage, Step
from lab.oracle.packet import Packet, packet_of
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.oracle.world import Location, World
from lab.policy.resources import Direction
from lab.topology import Flow, Topology, Workload, address_of
from lab.topology.model import End

__all__ = ["Question", "Questioner"]

_NO_POLICY = Verdict(True, DefaultDecision(None, "no-policy"))
_SELF = Verdict(True, DefaultDecision(None, "self"))


@dataclass(frozen=True, slots=True)
class Question:
    """A packet as it is sent, and what it meets on its way, in that order.

    ``otherwise`` is the verdict when nothing on the way has a say.
    """

    packet: Packet
    steps: tuple[Step, ...]
    otherwise: Verdict


class Questioner:
    """Finds the ends of flows, once each."""

    def __init__(self, topology: Topology, world: World, paths: Paths) -> None:
        self._topology = topology
        self._world = world
        self._paths = paths
        self._locations: dict[tuple[str, int], tuple[End, Location]] = {}

    def question(self, flow: Flow) -> Question:
        """What a flow asks.

        Raises TopologyError when an end does not exist or has no address in the flow's family.
        """
        source, source_at = self._located(flow, flow.source)
        destination, destination_at = self._located(flow, flow.destination)
        packet = packet_of(flow, source_at, destination_at)
        if source is destination and source.name not in self._topology.nodes:
            return Question(packet, (), _SELF if source.name in self._world.pods else _NO_POLICY)
        steps = self._paths.steps(source, destination, packet)
        return Question(packet, (*steps, *self._request(flow, destination, packet, len(steps))), _NO_POLICY)

    def _request(self, flow: Flow, destination: End, packet: Packet, after: int) -> Iterator[Step]:
        """What an HTTP flow meets once its connection is there: the sidecar of its destination.

        It asks the ingress policy of its workload, of the request (Dikastes: app-policy/checker). That there is a
        proxy in between changes nothing on the way: a sidecar connects from the address of its workload, to the
        address and port that the workload connected to. Only the source port is another.
        """
        if flow.http is not None and isinstance(destination, Workload):
            party = self._world.pods[destination.name]
            asked = replace(packet, http=flow.http)
            yield Stage(Hook.NORMAL, Direction.INGRESS, party, destination.node, asked, hop=after + 1)

    def _located(self, flow: Flow, name: str) -> tuple[End, Location]:
        known = self._locations.get((name, flow.family))
        if known is None:
            known = self._locations[name, flow.family] = self._find(flow, name)
        return known

    def _find(self, flow: Flow, name: str) -> tuple[End, Location]:
        end = self._topology.end(name)
        if end is None:
            _refuse(flow, "no such end in the topology", name)
        address = address_of(end, flow.family)
        if address is None:
            _refuse(flow, f"the end has no IPv{flow.family} address", name)
        return end, self._world.location(address)


def _refuse(flow: Flow, what: str, name: str) -> NoReturn:
    raise TopologyError(
        what,
        place=flow.place,
        value=name,
        allowed="a workload (namespace/name), an external or a node, with an address in the flow's family",
        next_step="correct the flow or the topology",
    )
