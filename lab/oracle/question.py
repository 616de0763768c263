# SPDX-License-Identifier: Apache-2.0
"""From a flow to what has to be asked of which end, and what is settled before any policy is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from lab.errors import TopologyError
from lab.oracle.packet import Packet, packet_of
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.oracle.world import Location, Party, World
from lab.policy.resources import Direction
from lab.topology import Flow, Node, Topology, address_of

__all__ = ["Question", "Questioner", "path_verdict", "settled_verdict"]

_NO_POLICY = Verdict(True, DefaultDecision(None, "no-policy"))
_SELF = Verdict(True, DefaultDecision(None, "self"))


@dataclass(frozen=True, slots=True)
class Question:
    """A packet, and the endpoints whose policy it meets, in the order in which it meets them.

    Empty ``asked`` means that no policy is: nobody policed is involved, or a workload talks to itself.
    """

    packet: Packet
    asked: tuple[tuple[Direction, Party], ...]
    to_itself: bool


def settled_verdict(question: Question) -> Verdict | None:
    """The verdict of a packet that meets no policy; None when policy has to decide."""
    if question.asked:
        return None
    return _SELF if question.to_itself else _NO_POLICY


def path_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Of what was said along the way: the first deny, or else the last word."""
    return next((verdict for verdict in verdicts if not verdict.allowed), verdicts[-1])


class Questioner:
    """Finds the ends of flows, once each."""

    def __init__(self, topology: Topology, world: World) -> None:
        self._topology = topology
        self._world = world
        self._locations: dict[tuple[str, int], Location] = {}

    def question(self, flow: Flow) -> Question:
        """What a flow asks.

        Raises TopologyError when an end does not exist, is a node or has no address in the flow's family, and
        for an HTTP request, which is judged by a sidecar.
        """
        if flow.http is not None:
            raise TopologyError(
                "HTTP flows are not judged by the oracle of layer 4",
                place=flow.place,
                value=f"{flow.http.method} {flow.http.path}",
                allowed="flows without 'http'",
                next_step="leave 'http' out to judge the connection itself",
            )
        packet = packet_of(flow, self._location(flow, flow.source), self._location(flow, flow.destination))
        to_itself = flow.source == flow.destination
        return Question(packet, () if to_itself else self._asked(flow), to_itself and flow.source in self._world.pods)

    def _asked(self, flow: Flow) -> tuple[tuple[Direction, Party], ...]:
        pods = self._world.pods
        ends = ((Direction.EGRESS, pods.get(flow.source)), (Direction.INGRESS, pods.get(flow.destination)))
        return tuple((direction, party) for direction, party in ends if party is not None)

    def _location(self, flow: Flow, name: str) -> Location:
        known = self._locations.get((name, flow.family))
        if known is None:
            known = self._locations[name, flow.family] = self._find(flow, name)
        return known

    def _find(self, flow: Flow, name: str) -> Location:
        end = self._topology.end(name)
        if end is None:
            _refuse(flow, "no such end in the topology", name)
        if isinstance(end, Node):
            _refuse(flow, "a node cannot be the end of a flow yet", name)
        address = address_of(end, flow.family)
        if address is None:
            _refuse(flow, f"the end has no IPv{flow.family} address", name)
        return self._world.location(address)


def _refuse(flow: Flow, what: str, name: str) -> NoReturn:
    raise TopologyError(
        what,
        place=flow.place,
        value=name,
        allowed="a workload (namespace/name) or an external, with an address in the flow's family",
        next_step="correct the flow or the topology",
    )
