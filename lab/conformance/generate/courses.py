# SPDX-License-Identifier: Apache-2.0
"""Courses: policy that changes one resource at a time, from one drawn state to the next, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.flows import flows
from lab.conformance.generate.picks import chance
from lab.conformance.generate.policies import resources
from lab.conformance.generate.topologies import topologies, topology_document
from lab.conformance.needs import needed_by_document, needed_by_flow
from lab.conformance.scenario import Entry
from lab.topology import Topology

__all__ = ["Course", "Edit", "courses"]

Identity = tuple[str, str, str]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """What one change makes of the resources in force, and whether all plugins are started anew just before it."""

    what: str
    resources: tuple[Entry, ...]
    restart: bool


@dataclass(frozen=True, slots=True)
class Course:
    """A topology, the edits that follow one another from no policy on, and flows at the borders of all of them."""

    topology: Entry
    edits: tuple[Edit, ...]
    flows: tuple[Entry, ...]


def courses(topology: Topology | None, capabilities: frozenset[Capability], most: int) -> st.SearchStrategy[Course]:
    """Courses of at most so many edits that a dataplane with these capabilities can be held to."""
    if topology is not None:
        return _course(Facts(topology_document(topology), capabilities), most)
    return topologies(tunnels=False).flatmap(lambda document: _course(Facts(document, capabilities), most))


@st.composite
def _course(draw: st.DrawFn, facts: Facts, most: int) -> Course:
    states = [_kept(resources(draw, facts), facts) for _ in range(3)]
    met = [document for state in states for document in state.values()]
    drawn = tuple(flow for flow in flows(draw, facts, met) if needed_by_flow(flow) <= facts.capabilities)
    edits: list[Edit] = []
    now: dict[Identity, Document] = {}
    for state in states:
        for identity in draw(st.permutations(sorted({*now, *state}))):
            old, new = now.get(identity), state.get(identity)
            if old == new:
                continue
            now = {key: document for key, document in {**now, identity: new}.items() if document is not None}
            verb = "added" if old is None else "removed" if new is None else "altered"
            edits.append(Edit(f"{' '.join(filter(None, identity))} {verb}", tuple(now.values()), chance(draw, 8)))
    return Course(facts.document, tuple(edits[:most]), drawn)


def _kept(documents: tuple[Document, ...], facts: Facts) -> dict[Identity, Document]:
    """What a dataplane is held to, by kind, namespace and name; services are left out, of which each has two parts."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for each in documents
        if needed_by_document(each) <= facts.capabilities and each["kind"] not in ("Service", "EndpointSlice")
    }
