# SPDX-License-Identifier: Apache-2.0
"""Conversations of cases and bundles: as they are spelled, and what the reference model says of each packet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from lab.document import Document, document_of
from lab.errors import LabError
from lab.oracle import PartialOracle
from lab.oracle.tracking import Said, Tracker
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.protocols import SCTP, TCP
from lab.schema import StrictModel, validate
from lab.topology import Flow, Topology
from lab.topology.flows_file import read_flow
from lab.traffic.conversation import (
    AGAIN,
    Conversation,
    Line,
    Shape,
    address_named,
    error_of,
    flags_of,
    flow_of,
)

__all__ = ["Spoken", "conversations_of", "judged", "spoken"]

Entry = Mapping[str, Any]
Bytes = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]
_PACKET_KEYS = frozenset({"packets", "untracked"})


class _ShapeModel(StrictModel):
    """What is out of the ordinary about a packet; see ``Shape``."""

    fragments: Annotated[int, Field(gt=0, multiple_of=8)] | None = None
    overlap: bool = False
    first_only: bool = False
    later_only: bool = False
    options: Bytes | None = None
    extensions: list[Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=list)
    payload: Annotated[int, Field(ge=0, le=65527)] | None = None
    wrong_checksum: bool = False
    wrong_header_checksum: bool = False


class _LineModel(StrictModel):
    """A packet: what is said, by whom, and while which step's policy is in force."""

    send: str | None = None
    answer: str | None = None
    step: Annotated[int, Field(ge=0)] = 0
    by: str | None = None
    forged: bool = False
    source: str | None = None
    destination: str | None = None
    expect: Literal["allow", "deny"] | None = None
    shape: _ShapeModel = Field(default_factory=_ShapeModel)


class _ConversationModel(StrictModel):
    """What a conversation has beside the keys of its first packet's flow."""

    packets: Annotated[list[_LineModel], Field(min_length=1)]
    untracked: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One packet as it is played: of which conversation, which line, under which step's policy."""

    number: int
    conversation: Conversation
    line: Line

    @property
    def flow(self) -> Flow:
        """The packet as a flow of its own."""
        return flow_of(self.conversation, self.line)


def conversations_of(document: Document, topology: Topology) -> tuple[Conversation, ...]:
    """Read a list of conversations; raises LabError with the place of what is wrong."""
    if not isinstance(document.value, list):
        raise LabError("no list of conversations", place=document.place())
    return tuple(_conversation(document, index, topology) for index in range(len(document.value)))


def _conversation(document: Document, index: int, topology: Topology) -> Conversation:
    place = document.place((index,))
    entry = document.value[index]
    if not isinstance(entry, dict):
        raise LabError("no conversation", place=place, value=entry)
    parts = {key: value for key, value in entry.items() if key in _PACKET_KEYS}
    model = validate(_ConversationModel, document_of(parts, str(place)), LabError)
    opening = read_flow({key: value for key, value in entry.items() if key not in _PACKET_KEYS}, topology, str(place))
    found = Conversation(opening, tuple(map(_line, model.packets)), tuple(model.untracked), place)
    for line in found.lines:
        flow_of(found, line)
        if line.by is not None and topology.end(line.by) is None:
            raise LabError("no such end", place=place, value=line.by)
        for named in filter(None, (line.source, line.destination)):
            if address_named(named, opening.family, topology) is None:
                family = f"an end of the topology or an address of IPv{opening.family}"
                raise LabError("no address of the conversation's family", place=place, value=named, allowed=family)
    return found


def _line(model: _LineModel) -> Line:
    if (model.send is None) is (model.answer is None):
        raise LabError("a packet is sent or answers", value=model.send, allowed="either send or answer")
    shape = model.shape
    return Line(
        word=str(model.answer if model.send is None else model.send),
        back=model.send is None,
        step=model.step,
        by=model.by,
        forged=model.forged,
        source=model.source,
        destination=model.destination,
        expect=None if model.expect is None else model.expect == "allow",
        shape=Shape(
            fragments=shape.fragments,
            overlap=shape.overlap,
            first_only=shape.first_only,
            later_only=shape.later_only,
            options=bytes.fromhex(shape.options or ""),
            extensions=tuple(shape.extensions),
            payload=shape.payload,
            wrong_checksum=shape.wrong_checksum,
            wrong_header_checksum=shape.wrong_header_checksum,
        ),
    )


def spoken(conversations: Sequence[Conversation], step: int) -> Iterator[Spoken]:
    """What is said while the policy of a step is in force, one conversation after another."""
    for number, conversation in enumerate(conversations):
        yield from (Spoken(number, conversation, line) for line in conversation.lines if line.step == step)


def judged(topology: Topology, played: Sequence[tuple[Spoken, PartialOracle]]) -> list[Verdict]:
    """The verdict on each packet, in the order in which they are played.

    It is the model's, or where the model has no opinion what was written by hand. Raises LabError where there is
    neither.
    """
    tracker = Tracker(topology)
    last: dict[tuple[int, bool], tuple[Flow, Line]] = {}
    verdicts: list[Verdict] = []
    for each, oracle in played:
        flow, line = each.flow, each.line
        if line.word == AGAIN and (each.number, line.back) in last:
            flow, line = last[each.number, line.back]
            line = replace(line, shape=Shape(wrong_checksum=line.shape.wrong_checksum))  # whole, however it was cut
        said = _said(each, flow, line, last.get((each.number, not line.back)))
        if error_of(line, flow.family) is None and line.source is None and line.destination is None:
            last[each.number, line.back] = flow, line
        verdicts.append(tracker.judge(said, oracle) if tracker.knows(said) else _as_written(each))
    return verdicts


def _as_written(each: Spoken) -> Verdict:
    if each.line.expect is None:
        raise LabError("a packet from or to a node without its verdict", place=each.conversation.place)
    return Verdict(each.line.expect, DefaultDecision(None, "as-written"))


def _said(each: Spoken, flow: Flow, line: Line, quoted: tuple[Flow, Line] | None) -> Said:
    about = None
    if error_of(line, flow.family) is not None and quoted is not None:
        about = quoted[0]
        if line.forged:  # of what has neither ports nor a type it says nothing false
            port = 0 if about.icmp is not None else about.port
            about = replace(about, source_port=(about.source_port or 0) ^ 0x0101, port=port)
    shape = line.shape
    flags = flags_of(line) if each.conversation.opening.protocol == TCP and about is None else 0
    return Said(
        flow,
        flags=flags,
        about=about,
        broken=shape.wrong_checksum,
        whole=not (shape.overlap or shape.first_only or shape.later_only or shape.wrong_header_checksum),
        spoofed=line.source not in (None, flow.source),
        elsewhere=line.destination is not None,
        init=flow.protocol != SCTP or line.word == "init",
    )
