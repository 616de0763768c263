# SPDX-License-Identifier: Apache-2.0
"""What is in force at a time: resources, and what the cluster knows of the topology's namespaces and workloads.

A state is a list of documents. One without a kind says what of the topology is otherwise meanwhile:

    namespaces: {y: {labels: {stage: prod}}}
    workloads:
      x/red: {labels: {color: blue}}  # the keys that are given take the place of the topology's
      x/blue: null                    # it is not there: nobody is behind its interface

The lab itself does not change: nodes, wires and addresses are the topology's for good.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from lab.document import Document, document_of
from lab.errors import TopologyError
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Topology
from lab.topology.load import topology_of

__all__ = ["CHANGEABLE", "State", "is_about_cluster", "state_of", "topology_said"]

Entry = Mapping[str, object]

_SECTIONS: Final = ("namespaces", "workloads")
CHANGEABLE: Final = {
    "namespaces": frozenset({"labels", "serviceAccounts"}),
    "workloads": frozenset({"labels", "serviceAccount", "ports", "profiles"}),
}
"""What may be said of each; the rest is the lab's."""

_KEPT_READ: Final = 8
_READ: Final[OrderedDict[tuple[str, str], Topology]] = OrderedDict()
"""The topologies that were read last, by what was read."""


@dataclass(frozen=True, slots=True)
class State:
    """Resources, and the topology as the cluster knows it while they are in force."""

    resources: Resources
    known: Topology


def is_about_cluster(entry: Mapping[str, Any]) -> bool:
    """Whether a document says what the cluster knows, and is no resource."""
    return "kind" not in entry and bool(entry) and entry.keys() <= set(_SECTIONS)


def state_of(documents: Iterable[Document], entry: Entry, topology: Topology) -> State:
    """The state that documents describe in a topology, which is given as a document too.

    Raises LabError for documents that say what cannot be.
    """
    resources: list[Document] = []
    known = entry
    for document in documents:
        if isinstance(document.value, dict) and is_about_cluster(document.value):
            known = _changed(known, document)
        else:
            resources.append(document)
    seen = topology if known is entry else topology_said(known, topology.file)
    return State(resources_of(resources, seen), seen)


def topology_said(entry: Entry, file: str) -> Topology:
    """The topology of a document as plain data; most scenarios are of one that was read a moment ago.

    Raises what ``topology_of`` raises.
    """
    key = (repr(entry), file)
    topology = _READ.get(key) or topology_of(document_of(entry, file))
    _READ[key] = topology
    _READ.move_to_end(key)
    if len(_READ) > _KEPT_READ:
        _READ.popitem(last=False)
    return topology


def _changed(entry: Entry, document: Document) -> Entry:
    """The topology's document with what the other one says of it."""
    found: dict[str, object] = dict(entry)
    for section in _SECTIONS:
        bodies = dict(cast("Mapping[str, Entry | None]", entry.get(section) or {}))
        for name, change in (document.value.get(section) or {}).items():
            place = document.place((section, name))
            if name not in bodies:
                raise TopologyError(f"no such thing in {section}", place=place, value=name, allowed=_listed(bodies))
            if change is None and section == "workloads":
                del bodies[name]
                continue
            if unknown := sorted(set(change or {}) - CHANGEABLE[section]):
                allowed = _listed(CHANGEABLE[section])
                raise TopologyError("this does not change in a lab", place=place, value=unknown[0], allowed=allowed)
            bodies[name] = {**(bodies[name] or {}), **(change or {})}
        found[section] = bodies
    return found


def _listed(names: Iterable[str]) -> str:
    known: Sequence[str] = sorted(names)
    return ", ".join(known)
