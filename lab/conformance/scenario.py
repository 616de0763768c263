# SPDX-License-Identifier: Apache-2.0
"""A scenario: topology, resources and flows as documents, so that they can be cut down, written and read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import yaml

from dataplanes.api import Capability
from lab.conformance.conversations import conversations_of
from lab.conformance.evidence import ExpectedEvidence, read_evidence
from lab.conformance.needs import needed_by_document, needed_by_flow
from lab.conformance.states import State, state_of, topology_said
from lab.document import Document, document_of, read_documents
from lab.errors import LabError, PolicyError, TopologyError
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.topology.flows_file import flows_of, load_flows
from lab.topology.load import topology_document, topology_of
from lab.traffic.conversation import Conversation

__all__ = [
    "BEFORE",
    "CONVERSATIONS",
    "EVIDENCE",
    "FLOWS",
    "RESOURCES",
    "TOPOLOGY",
    "WATCHED",
    "Entry",
    "LoadedScenario",
    "Scenario",
]

Entry = Mapping[str, object]
"""One YAML document or flow as plain data."""

TOPOLOGY, RESOURCES, FLOWS, BEFORE = "topology.yaml", "resources.yaml", "flows.yaml", "before"
EVIDENCE = "evidence.yaml"
CONVERSATIONS, WATCHED = "conversations.yaml", "watched.yaml"


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario read by the same readers as a user's files; ``before`` is applied first, in order."""

    topology: Topology
    before: tuple[State, ...]
    state: State
    """What is in force when the flows are sent."""
    flows: tuple[Flow, ...]
    conversations: tuple[Conversation, ...] = ()
    watched: tuple[Flow, ...] = ()

    @property
    def resources(self) -> Resources:
        """The resources in force when the flows are sent."""
        return self.state.resources

    @property
    def states(self) -> tuple[State, ...]:
        """All of them, in order."""
        return (*self.before, self.state)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``resources`` are in force when ``flows`` are sent; each of ``before`` was in force earlier, in order.

    Among them may be a document of what the cluster knows of the topology at that time (``states``).

    ``evidence`` must hold of what happened while the flows were sent. ``conversations`` are played instead of flows,
    through all states: step 0 is the first of ``before``, the last one is that of ``resources``.
    """

    topology: Entry
    resources: tuple[Entry, ...]
    flows: tuple[Entry, ...]
    before: tuple[tuple[Entry, ...], ...] = ()
    evidence: tuple[ExpectedEvidence, ...] = ()
    conversations: tuple[Entry, ...] = ()
    watched: tuple[Entry, ...] = ()
    """Flows that are sent without a pause while ``resources`` take the place of the last of ``before``, and back."""

    def within(self, declared: Iterable[Capability]) -> Scenario | None:
        """What a dataplane with these capabilities is held to; None when no flow is left.

        Resources that need more are left out, and so are flows of other families and protocols. Every flow must name
        its family.
        """
        declared = frozenset(declared)
        flows = tuple(flow for flow in self.flows if needed_by_flow(flow) <= declared)
        if not flows:
            return None
        resources, *before = (
            tuple(each for each in documents if needed_by_document(each) <= declared)
            for documents in (self.resources, *self.before)
        )
        topology = self.topology if Capability.PROFILES in declared else _without_profiles(self.topology)
        kept = tuple(before) if Capability.LIVE_UPDATE in declared else ()
        return replace(self, topology=topology, resources=resources, flows=flows, before=kept)

    @classmethod
    def read(cls, directory: Path) -> Scenario:
        """Read what ``write`` wrote; raises LabError naming the file that is missing or broken."""
        _load_files(directory)  # which says what is wrong with them, and where
        (topology,) = read_documents(directory / TOPOLOGY, TopologyError)
        (flows,) = read_documents(directory / FLOWS, TopologyError)
        earlier = sorted((directory / BEFORE).glob("*.yaml"))
        return cls(
            topology.value,
            _documents(directory / RESOURCES),
            tuple(flows.value),
            tuple(_documents(file) for file in earlier),
            _evidence(directory / EVIDENCE),
            _listed(directory / CONVERSATIONS),
            _listed(directory / WATCHED),
        )

    def write(self, directory: Path) -> None:
        """Write the files that ``policylab verify`` and ``replay`` read."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / TOPOLOGY).write_text(_dump([self.topology]))
        (directory / RESOURCES).write_text(_dump(self.resources))
        (directory / FLOWS).write_text(_dump([list(self.flows)]))
        for number, documents in enumerate(self.before, start=1):
            (directory / BEFORE).mkdir(exist_ok=True)
            (directory / BEFORE / f"{number:02}.yaml").write_text(_dump(documents))
        if self.watched:
            (directory / WATCHED).write_text(_dump([list(self.watched)]))
        if self.conversations:
            (directory / CONVERSATIONS).write_text(_dump([list(self.conversations)]))
        if self.evidence:
            (directory / EVIDENCE).write_text(_dump([{"evidence": [each.to_dict() for each in self.evidence]}]))

    def load(self, directory: Path | None = None) -> LoadedScenario:
        """Read the scenario as a user's files are read; written to ``directory`` first, if there is one.

        Places then point into the files; without a directory they have no lines.
        """
        if directory is not None:
            self.write(directory)
            return _load_files(directory)
        topology = topology_said(self.topology, TOPOLOGY)
        return LoadedScenario(
            topology,
            tuple(self._state(documents, topology) for documents in self.before),
            self._state(self.resources, topology),
            flows_of(document_of(list(self.flows), FLOWS), topology),
            conversations_of(document_of(list(self.conversations), CONVERSATIONS), topology),
            flows_of(document_of(list(self.watched), WATCHED), topology),
        )

    def _state(self, entries: Sequence[Entry], topology: Topology) -> State:
        return state_of([document_of(entry, RESOURCES) for entry in entries], self.topology, topology)


def _without_profiles(topology: Entry) -> Entry:
    """The topology with workloads that have the usual profiles of their namespaces."""
    workloads = cast("Mapping[str, Entry]", topology["workloads"])
    plain = {name: {key: value for key, value in each.items() if key != "profiles"} for name, each in workloads.items()}
    return {**topology, "workloads": plain}


def _load_files(directory: Path) -> LoadedScenario:
    """Read the files of a scenario as a user's files are read."""
    entry = topology_document(directory / TOPOLOGY)
    topology = topology_of(entry)

    def state(file: Path) -> State:
        return state_of(read_documents(file, PolicyError), entry.value, topology)

    return LoadedScenario(
        topology,
        tuple(state(file) for file in sorted((directory / BEFORE).glob("*.yaml"))),
        state(directory / RESOURCES),
        load_flows(directory / FLOWS, topology),
        tuple(
            each for document in _if_there(directory / CONVERSATIONS) for each in conversations_of(document, topology)
        ),
        tuple(flow for document in _if_there(directory / WATCHED) for flow in flows_of(document, topology)),
    )


def _if_there(file: Path) -> Sequence[Document]:
    return read_documents(file, LabError) if file.is_file() else ()


def _evidence(file: Path) -> tuple[ExpectedEvidence, ...]:
    return tuple(each for document in _if_there(file) for each in read_evidence(document))


def _listed(file: Path) -> tuple[Entry, ...]:
    return tuple(entry for document in _if_there(file) for entry in document.value)


def _documents(file: Path) -> tuple[Entry, ...]:
    return tuple(document.value for document in read_documents(file, PolicyError))


def _dump(documents: Sequence[object]) -> str:
    text: str = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return text
