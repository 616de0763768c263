# SPDX-License-Identifier: Apache-2.0
"""Verdicts on HTTP flows: the connection's first, by packets, then that of a real request through real sidecars.

A connection that policy drops gives its client nothing to see but time that passes. So each HTTP flow is first sent
as what it begins with, a SYN, and that one is observed as any other packet is. Only where it comes through the request
is made, and then there is an answer: of the application, or the 403 of a sidecar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from lab.fabric.lab import Lab
from lab.sidecar.applications import Applications, Asking, Response
from lab.topology import Flow, address_of
from lab.traffic.observation import Observation, Reason

__all__ = ["Requests", "judged"]

_OK: Final = 200
_FORBIDDEN: Final = 403

PacketObserver = Callable[[Sequence[Flow]], list[Observation]]


class Requests:
    """Makes the requests of HTTP flows in a lab whose sidecars are up."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._applications = Applications(lab)

    def observe(self, flows: Sequence[Flow], packets: PacketObserver) -> list[Observation]:
        """One observation for each flow, HTTP or not, in order; ``packets`` observes those of layer 4."""
        connections = [replace(flow, http=None) for flow in flows]
        once = list(dict.fromkeys(connections))
        first = dict(zip(once, packets(once), strict=True))
        seen = [first[connection] for connection in connections]
        asked = [place for place, flow in enumerate(flows) if flow.http and seen[place].verdict == "allow"]
        for place, observation in zip(asked, self._ask([flows[place] for place in asked]), strict=True):
            seen[place] = observation
        return seen

    def _ask(self, flows: Sequence[Flow]) -> list[Observation]:
        if not flows:
            return []
        askings = [self._asking(flow) for flow in flows]
        for flow, asking in zip(flows, askings, strict=True):
            self._applications.serve(flow.destination, asking.port)
        with self._lab.unmuted():
            responses = self._applications.ask(askings)
        return [judged(flow, response) for flow, response in zip(flows, responses, strict=True)]

    def _asking(self, flow: Flow) -> Asking:
        end = self._lab.topology.end(flow.destination)
        address = None if end is None else address_of(end, flow.family)
        assert address is not None  # noqa: S101 - or its SYN could not have been sent
        assert flow.port is not None  # noqa: S101 - TCP has one
        assert flow.http is not None  # noqa: S101 - none else is asked
        return Asking(flow.source, address, flow.port, flow.http)


def judged(flow: Flow, response: Response) -> Observation:
    """Allowed is what the application itself says that it got; denied is what a sidecar forbids, and nothing else."""
    if response.status == _OK and response.by == flow.destination:
        return Observation("allow", arrived=flow.destination)
    if response.status == _FORBIDDEN and response.by is None:
        return Observation("deny", answer="http-403")
    told = f"status {response.status}" if response.error is None else response.error
    answered = "" if response.by is None else f" by {response.by}"
    return Observation("inconclusive", reason=Reason.NO_ANSWER, detail=f"{told}{answered}")
