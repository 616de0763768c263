# SPDX-License-Identifier: Apache-2.0
"""How a verdict must have come about: counters that must have grown, or stood still, while flows were sent.

Acceleration that is claimed and not used gives the right verdicts too; only evidence tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from dataplanes.api import Evidence
from lab.document import Document
from lab.errors import LabError
from lab.schema import StrictModel, validate

__all__ = [
    "ACCELERATOR",
    "DATAPLANE",
    "INTERFACES",
    "SIDECAR",
    "EvidenceModel",
    "ExpectedEvidence",
    "Growth",
    "Told",
    "growth",
    "read_evidence",
    "unmet",
]

DATAPLANE, ACCELERATOR = "dataplane", "accelerator"
"""Whichever dataplane is judged, and each accelerator that is asked; in a bundle it is named instead."""
SIDECAR = "sidecar"
"""The Envoy of a workload, which stands in the node's place with a dot for its slash."""
INTERFACES = "interfaces"
"""Those of a workload with a sidecar, loopback and all: what went through the sockets' own stack."""

Told = Mapping[tuple[str, str], Evidence]
"""Evidence by node and plugin: DATAPLANE, the name of an accelerator, SIDECAR, or INTERFACES."""

Growth = Mapping[str, Mapping[str, Mapping[str, int]]]
"""By how much counters grew: by who tells it, where, and which."""

Text = Annotated[str, Field(min_length=1)]


class EvidenceModel(StrictModel):
    """An entry under ``evidence``."""

    node: Text
    plugin: Text
    counter: Text
    expect: Literal["grew", "still"]


class _FileModel(StrictModel):
    """The file of a bundle."""

    evidence: list[EvidenceModel]


@dataclass(frozen=True, slots=True)
class ExpectedEvidence:
    """``counter`` is a glob: of the counters that it matches one must have grown, or none may have changed."""

    node: str
    plugin: str
    counter: str
    expect: Literal["grew", "still"]

    @classmethod
    def of(cls, model: EvidenceModel) -> ExpectedEvidence:
        """What was read, as plain data."""
        return cls(model.node, model.plugin, model.counter, model.expect)

    def asked_of(self, accelerators: Iterable[str]) -> Sequence[ExpectedEvidence]:
        """The same of each of these accelerators by its name, if it is about an accelerator at all."""
        if self.plugin != ACCELERATOR:
            return (self,)
        return [replace(self, plugin=name) for name in accelerators]

    def to_dict(self) -> dict[str, object]:
        """The entry as a file spells it."""
        return asdict(self)

    def unmet(self, before: Told, after: Told) -> str | None:
        """Why it does not hold, or None; a counter that is not there proves nothing, and one never goes down."""
        old, new = self._counters(before), self._counters(after)
        moves = {name: (old.get(name, 0), new.get(name, 0)) for name in sorted(old.keys() | new.keys())}
        moves = {name: move for name, move in moves.items() if move[0] != move[1]}
        grew, fell = (
            any(last > first for first, last in moves.values()),
            any(last < first for first, last in moves.values()),
        )
        if new and not fell and grew is (self.expect == "grew"):
            return None
        claim = "must have grown" if self.expect == "grew" else "must have stood still"
        told = ", ".join(f"{name} went from {first} to {last}" for name, (first, last) in moves.items())
        seen = told or ("none changed" if new else "there is no such counter")
        return f"{self.node}: {self.plugin} counter {self.counter} {claim}, but {seen}"

    def _counters(self, told: Told) -> dict[str, int]:
        counters = told.get((self.node, self.plugin), Evidence()).counters
        return {name: value for name, value in counters.items() if fnmatchcase(name, self.counter)}


def read_evidence(document: Document) -> tuple[ExpectedEvidence, ...]:
    """Read the file of a bundle; raises LabError with the place of what is wrong."""
    return tuple(ExpectedEvidence.of(model) for model in validate(_FileModel, document, LabError).evidence)


def unmet(expected: Iterable[ExpectedEvidence], before: Told, after: Told) -> tuple[str, ...]:
    """All that does not hold, a sentence each."""
    return tuple(reason for each in expected if (reason := each.unmet(before, after)) is not None)


def growth(before: Told, after: Told) -> Growth:
    """By how much each counter that is there afterwards has grown."""
    grown: dict[str, dict[str, dict[str, int]]] = {}
    for (place, plugin), told in after.items():
        first = before.get((place, plugin), Evidence()).counters
        moved = {name: value - first.get(name, 0) for name, value in sorted(told.counters.items())}
        grown.setdefault(plugin, {})[place] = moved
    return grown
