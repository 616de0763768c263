# SPDX-License-Identifier: Apache-2.0
"""From a flow to the packet that it sends first, and the way of that packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from lab.errors import TopologyError
from lab.oracle.host_path import Paths
from lab.oracle.host_stages import Step
from lab.oracle.packet import Packet, packet_of
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.oracle.world import Location, World
from lab.topology import Flow, Topology, address_of
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

        Raises TopologyError when an end does not exist or has no address in the flow's family, and for an HTTP
        request, which is judged by a sidecar.
        """
        if flow.http is not None:
            raise TopologyError(
                "HTTP flows are not judged by the oracle of layer 4",
                place=flow.place,
                value=f"{flow.http.method} {flow.http.path}",
                allowed="flows without 'http'",
                next_step="leave 'http' out to judge the connection itself",
            )
        source, source_at = self._located(flow, flow.source)
        destination, destination_at = self._located(flow, flow.destination)
        packet = packet_of(flow, source_at, destination_at)
        if source is destination and source.name not in self._topology.nodes:
            return Question(packet, (), _SELF if source.name in self._world.pods else _NO_POLICY)
        return Question(packet, self._paths.steps(source, destination, packet), _NO_POLICY)

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
