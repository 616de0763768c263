# SPDX-License-Identifier: Apache-2.0
"""The expectations: one YAML file each in ``cases/``, named by its id, with verdicts written by hand.

A case has one or more steps. Each puts its ``resources`` in force (none: no policy), in place of those of the
step before, and says of its ``flows`` whether they are allowed. A flow is spelled as in a flows file, with one
convenience: without ``family`` it stands for two flows, one a family (ICMP and ICMPv6 by name have but one).
``cluster`` says what the cluster knows of the topology's namespaces and workloads meanwhile that is otherwise (see
``states``). ``evidence`` says how the verdicts of a step must have come about, where an accelerator takes part.

``conversations`` are played packet by packet through all steps. Each is spelled as its first packet's flow is, and has
``packets``: what is said (``send`` or ``answer``), under which ``step``'s policy, and whether it comes through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field

from dataplanes.api import Accelerator, Capability, Level
from lab.conformance.evidence import ACCELERATOR, DATAPLANE, EvidenceModel, ExpectedEvidence
from lab.conformance.needs import FAMILIES, families_of, needed_by_flow
from lab.conformance.scenario import Entry, Scenario
from lab.document import Document, parse_documents
from lab.errors import LabError, Place
from lab.schema import StrictModel, validate

__all__ = ["Case", "ExpectedFlow", "Step", "cheapest_first", "load_cases", "parse_case"]

_CASES, _TOPOLOGIES = "cases", "topologies"
_OF_SIDECARS = frozenset({Capability.L7_HTTP})
"""What the lab's sidecars do whichever dataplane is below them."""


@dataclass(frozen=True, slots=True)
class ExpectedFlow:
    """A flow as a flows file spells it, family included, and the verdict that the rule demands."""

    entry: Entry
    allowed: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Step:
    """Resource documents as users write them, and what must hold while they are in force.

    Ahead of them there may be a document of what the cluster knows meanwhile.
    """

    title: str | None
    resources: tuple[Entry, ...]
    flows: tuple[ExpectedFlow, ...]
    evidence: tuple[ExpectedEvidence, ...] = ()
    watched: tuple[ExpectedFlow, ...] = ()
    """Flows that are sent without a pause while this step's policy takes the place of the one before."""


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation.

    ``provable``: without any policy all of its flows are allowed, so that a denial is the policy's doing; the
    runner checks that first (``control`` gives the scenario). ``unconfirmed``: derived from upstream's sources,
    never seen in a run of it.
    """

    id: str
    title: str
    source: str
    capabilities: frozenset[Capability]
    level: Level
    unconfirmed: bool
    topology: Entry
    provable: bool
    steps: tuple[Step, ...]
    place: Place
    conversations: tuple[Entry, ...] = ()
    """Played through all steps, once their flows have been sent; each names its family."""

    def scenario(self, number: int, accelerators: Iterable[type[Accelerator]] = ()) -> Scenario:
        """Step ``number``, counted from 0, after all steps before it.

        Its evidence is asked of those ``accelerators`` that declare the case's capabilities; there being none, the
        dataplane is free in how it comes to its verdicts.
        """
        before = tuple(step.resources for step in self.steps[:number])
        step = self.steps[number]
        asked = [each.name for each in accelerators if self.capabilities <= each.capabilities]
        evidence = tuple(entry for each in step.evidence if asked for entry in each.asked_of(asked))
        return Scenario(self.topology, step.resources, tuple(flow.entry for flow in step.flows), before, evidence)

    def control(self) -> Scenario | None:
        """Every flow of the case once, without policy: all must be allowed. None where that proves nothing."""
        if not self.provable or not self.has_flows:
            return None
        entries = [flow.entry for step in self.steps for flow in (*step.flows, *step.watched)]
        distinct = tuple(entry for number, entry in enumerate(entries) if entry not in entries[:number])
        return Scenario(self.topology, (), distinct)

    @property
    def has_flows(self) -> bool:
        """Whether there is anything beside conversations."""
        return any(step.flows or step.watched for step in self.steps)

    def watching(self, number: int) -> Scenario | None:
        """The change to step ``number`` from the one before, watched; None where nothing is."""
        watched = tuple(flow.entry for flow in self.steps[number].watched)
        before = tuple(step.resources for step in self.steps[:number])
        return Scenario(self.topology, self.steps[number].resources, (), before, watched=watched) if watched else None

    def conversing(self) -> Scenario | None:
        """The case's conversations, through all of its steps; None where it has none."""
        *before, last = (step.resources for step in self.steps)
        found = Scenario(self.topology, last, (), tuple(before), conversations=self.conversations)
        return found if self.conversations else None

    def conversing_control(self) -> Scenario | None:
        """The same without policy, where every packet must come through; None where that proves nothing."""
        if not self.provable or not self.conversations:
            return None
        return Scenario(self.topology, (), (), conversations=tuple(map(_unopposed, self.conversations)))

    def within(self, declared: Iterable[Capability]) -> Case | None:
        """The case as a dataplane with these capabilities meets it, or None when it does not meet it at all.

        ``capabilities`` are those that the claim itself needs. Flows of another family or protocol that is not
        declared are left out, so that a dataplane for IPv4 or for TCP alone is still held to the rest.
        """
        declared = frozenset(declared) | _OF_SIDECARS
        if not self.capabilities <= declared:
            return None
        steps = tuple(
            replace(step, flows=_met(step.flows, declared), watched=_met(step.watched, declared)) for step in self.steps
        )
        conversations = tuple(each for each in self.conversations if needed_by_flow(each) <= declared)
        kept = replace(self, steps=steps, conversations=conversations)
        return kept if kept.has_flows or conversations else None


def _met(flows: Iterable[ExpectedFlow], declared: frozenset[Capability]) -> tuple[ExpectedFlow, ...]:
    return tuple(flow for flow in flows if needed_by_flow(flow.entry) <= declared)


def _unopposed(conversation: Entry) -> Entry:
    packets = cast("Sequence[Entry]", conversation["packets"])
    return {**conversation, "packets": [{**packet, "step": 0, "expect": "allow"} for packet in packets]}


class _StepModel(StrictModel):
    """A step; its flows' other keys are checked by the reader of flows files."""

    title: str | None = None
    cluster: dict[str, Any] = Field(default_factory=dict)
    resources: list[dict[str, Any]] = Field(default_factory=list)
    flows: list[dict[str, Any]] = Field(default_factory=list)
    evidence: list[EvidenceModel] = Field(default_factory=list)
    watched: list[dict[str, Any]] = Field(default_factory=list)


class _CaseModel(StrictModel):
    """A whole case file."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*){1,2}$")]
    title: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    capabilities: list[Literal[tuple(each.value for each in Capability)]]  # type: ignore[valid-type]  # the enum's values
    level: Level
    unconfirmed: bool = False
    topology: str = "conformance"
    control: Literal["none"] | None = None
    steps: Annotated[list[_StepModel], Field(min_length=1)]
    conversations: list[dict[str, Any]] = Field(default_factory=list)


@cache
def load_cases() -> tuple[Case, ...]:
    """All expectations, ordered by id; raises LabError with file, line and column for a file that is wrong."""
    directory = files(__package__) / _CASES
    names = sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".yaml"))
    cases = [parse_case((directory / name).read_bytes(), name) for name in names]
    return tuple(sorted(cases, key=lambda case: case.id))


def cheapest_first(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The order in which one that is broken all over is caught soonest: controls, core, the rest, sidecars last."""
    levels = get_args(Level)
    return tuple(
        sorted(
            cases,
            key=lambda case: (
                not case.id.startswith("control."),
                Capability.L7_HTTP in case.capabilities,
                levels.index(case.level),
                case.id,
            ),
        )
    )


def parse_case(data: bytes | str, file: str) -> Case:
    """Read the text of a case file; ``file`` must be its id with ``.yaml``."""
    document = _only_document(data, file)
    model = validate(_CaseModel, document, LabError)
    if file != f"{model.id}.yaml":
        raise LabError("the id is not the file's name", place=document.place(("id",)), value=model.id)
    topology = _topology(model.topology, document)
    nodes = tuple(cast("Entry", topology["nodes"]))
    return Case(
        id=model.id,
        title=model.title,
        source=model.source,
        capabilities=frozenset(Capability(value) for value in model.capabilities),
        level=model.level,
        unconfirmed=model.unconfirmed,
        topology=topology,
        provable=model.control is None,
        steps=tuple(_step(step, document, number, nodes) for number, step in enumerate(model.steps)),
        place=document.place(),
        conversations=tuple(_conversations(model, document)),
    )


def _conversations(model: _CaseModel, document: Document) -> Iterator[Entry]:
    """Each in the families that it stands for; a step needs no flows where what happens around it is what counts."""
    watched = any(step.watched for step in model.steps)
    for number, step in enumerate(model.steps):
        if not step.flows and not watched and not model.conversations:
            raise LabError("a step without flows", place=document.place(("steps", number)), allowed="flows")
    for number, spelled in enumerate(model.conversations):
        for packet in spelled.get("packets", ()):
            if packet.get("expect") not in ("allow", "deny") or packet.get("step", 0) >= len(model.steps):
                place = document.place(("conversations", number))
                raise LabError("a packet without its verdict, or in no step", place=place, value=str(packet))
        for family in families_of(spelled):
            yield deepcopy({**spelled, "family": family})


def _only_document(data: bytes | str, file: str) -> Document:
    documents = parse_documents(data, file, LabError)
    if len(documents) != 1:
        raise LabError("not one document but another number of them", place=file, value=len(documents), allowed="one")
    return documents[0]


@cache
def _topologies() -> Mapping[str, Entry]:
    directory = files(__package__) / _TOPOLOGIES
    texts = {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.name.endswith(".yaml")}
    return {name.removesuffix(".yaml"): _only_document(text, name).value for name, text in texts.items()}


def _topology(name: str, case: Document) -> Entry:
    known = _topologies()
    if name not in known:
        place = case.place(("topology",))
        raise LabError("no such topology", place=place, value=name, allowed=", ".join(sorted(known)))
    return known[name]


def _step(step: _StepModel, document: Document, number: int, nodes: Iterable[str]) -> Step:
    flows, watched = (
        [
            expected
            for index, spelled in enumerate(entries)
            for expected in _expected(spelled, document, ("steps", number, key, index))
        ]
        for key, entries in (("flows", step.flows), ("watched", step.watched))
    )
    evidence = [
        _expected_evidence(model, document.place(("steps", number, "evidence", index)), nodes)
        for index, model in enumerate(step.evidence)
    ]
    if watched and not number:
        place = document.place(("steps", number, "watched"))
        raise LabError("nothing changes before the first step", place=place, allowed="watched in later steps")
    known = [step.cluster] if step.cluster else []
    return Step(step.title, (*known, *step.resources), tuple(flows), tuple(evidence), tuple(watched))


def _expected_evidence(model: EvidenceModel, place: Place, nodes: Iterable[str]) -> ExpectedEvidence:
    for key, value, allowed in (("plugin", model.plugin, (ACCELERATOR, DATAPLANE)), ("node", model.node, tuple(nodes))):
        if value not in allowed:
            raise LabError(f"evidence of no such {key}", place=place, value=value, allowed=", ".join(allowed))
    return ExpectedEvidence.of(model)


def _expected(spelled: Entry, document: Document, path: tuple[str | int, ...]) -> Iterator[ExpectedFlow]:
    """The flow, or the two flows, that an entry stands for."""
    word, place = spelled.get("expect"), document.place(path)
    if word not in ("allow", "deny"):
        raise LabError("a flow without its verdict", place=place, value=word, allowed="expect: allow, expect: deny")
    if (family := spelled.get("family", "ipv4")) not in FAMILIES:
        raise LabError("no such family", place=document.place((*path, "family")), value=family, allowed="ipv4, ipv6")
    entry = {key: value for key, value in spelled.items() if key != "expect"}
    for family in families_of(entry):
        yield ExpectedFlow(deepcopy({**entry, "family": family}), word == "allow", place)
