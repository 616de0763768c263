# SPDX-License-Identifier: Apache-2.0
"""Courses: what is in force changes one thing at a time, from one drawn state to the next, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.clusters import Known, cluster_document, clusters
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
"""Kind, namespace and name of what changes as one."""

_NOT_DRAWN: Final = frozenset({Capability.IPV6_SUPPORT})
"""Of workloads that are gone the model knows nothing where IPv6 is not policed."""
_SERVICE: Final = frozenset({"Service", "EndpointSlice"})
_WAYPOINTS: Final = 3
"""Through how many states the other path leads to where a course ends."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """What comes, changes and goes as one: documents, or what the cluster knows of a namespace or workload."""

    documents: tuple[Entry, ...] = ()
    known: Known = field(default_factory=dict)


Things = Mapping[Identity, _Thing]


@dataclass(frozen=True, slots=True)
class Edit:
    """What one change makes of the state in force, and whether all plugins are started anew just before it."""

    what: str
    resources: tuple[Entry, ...]
    restart: bool


@dataclass(frozen=True, slots=True)
class Course:
    """A topology, the edits that follow one another from no policy on, and flows at the borders of all of them.

    ``again`` leads from nothing to where the edits end by another path: the same things in another order.
    """

    topology: Entry
    edits: tuple[Edit, ...]
    flows: tuple[Entry, ...]
    again: tuple[tuple[Entry, ...], ...] = ()


def courses(topology: Topology | None, capabilities: frozenset[Capability], most: int) -> st.SearchStrategy[Course]:
    """Courses of at most so many edits that a dataplane with these capabilities can be held to."""
    drawn_for = capabilities - _NOT_DRAWN
    if topology is not None:
        return _course(Facts(topology_document(topology), drawn_for), most)
    return topologies(tunnels=False).flatmap(lambda document: _course(Facts(document, drawn_for), most))


@st.composite
def _course(draw: st.DrawFn, facts: Facts, most: int) -> Course:
    states = [_drawn(draw, facts) for _ in range(3)]
    met = [document for state in states for document in _documents(state) if "kind" in document]
    drawn = tuple(flow for flow in flows(draw, facts, met) if needed_by_flow(flow) <= facts.capabilities)
    # All of the first state comes at once: a change that meets nothing in force tells little.
    now = dict(states[0])
    edits = [Edit("all of a first state added", _documents(now), chance(draw, 8))]
    for state in states[1:]:
        for identity in draw(st.permutations(sorted({*now, *state}))):
            old, new = now.get(identity), state.get(identity)
            if len(edits) == most or old == new:
                continue
            now.pop(identity, None)
            if new is not None:
                now[identity] = new
            edits.append(Edit(_told(identity, old, new), _documents(now), chance(draw, 8)))
    return Course(facts.document, tuple(edits), drawn, tuple(_other_path(draw, now)))


def _told(identity: Identity, old: _Thing | None, new: _Thing | None) -> str:
    """What a change is called: ``NetworkPolicy x web altered``, ``workload x/a with other labels``."""
    name = " ".join(filter(None, identity))
    if new is not None and new.known:
        (change,) = new.known.values()
        return f"{name} gone" if change is None else f"{name} with other {', '.join(change)}"
    if old is not None and old.known:
        return f"{name} as at first"
    return f"{name} {'added' if old is None else 'removed' if new is None else 'altered'}"


def _drawn(draw: st.DrawFn, facts: Facts) -> dict[Identity, _Thing]:
    """What is in force at one time, as far as a dataplane is held to it; the parts of a service are one thing."""
    things: dict[Identity, _Thing] = {}
    for document in resources(draw, facts):
        if needed_by_document(document) <= facts.capabilities:
            metadata = document["metadata"]
            of_service = document["kind"] in _SERVICE
            kind, name = ("Service", "") if of_service else (document["kind"], metadata["name"])
            identity = kind, metadata.get("namespace", ""), name
            things[identity] = _Thing((*things.get(identity, _Thing()).documents, document))
    for (section, name), change in clusters(draw, facts).items():
        things[section.removesuffix("s"), "", name] = _Thing(known={(section, name): change})
    return things


def _documents(things: Things) -> tuple[Entry, ...]:
    """A state as documents, that of the cluster first."""
    known = {key: change for thing in things.values() for key, change in thing.known.items()}
    return (*cluster_document(known), *(each for thing in things.values() for each in thing.documents))


def _other_path(draw: st.DrawFn, end: Things) -> Iterator[tuple[Entry, ...]]:
    """A few states on the way to the last, in which its things come in a drawn order."""
    order = draw(st.permutations(sorted(end)))
    pace = -(-len(order) // _WAYPOINTS) or 1
    for number in range(pace, len(order) + pace, pace):
        come = order[:number]
        yield _documents({identity: thing for identity, thing in end.items() if identity in come})
