# SPDX-License-Identifier: Apache-2.0
"""What became of each expectation with each dataplane, and the report made of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

from dataplanes.api import OLDEST_KERNEL, Level

__all__ = ["REPORT_VERSION", "WORDS", "Column", "Record", "Report", "Result", "Word", "worst"]

REPORT_VERSION = 1

Word = Literal["passed", "failed", "known-broken", "not-supported", "skipped"]
WORDS: Sequence[Word] = ("passed", "failed", "known-broken", "not-supported", "skipped")
Result = Literal["success", "partial", "failure"]


@dataclass(frozen=True, slots=True)
class Record:
    """One expectation held against one dataplane.

    ``not-supported``: the dataplane does not declare what the expectation needs; ``skipped``: this host lacks
    it; ``known-broken``: it fails, as the plugin says itself. ``detail`` tells why, or is the whole failure.
    """

    expectation: str
    title: str
    level: Level
    dataplane: str
    word: Word
    seconds: float
    detail: str = ""
    regions: Mapping[str, float] | None = None
    """What generated flows saw of the policies' regions; None where nothing was generated."""


@dataclass(frozen=True, slots=True)
class Column:
    """What is judged, by name, with what it declares."""

    name: str
    capabilities: tuple[str, ...]
    core_lacking: tuple[str, ...]
    min_kernel: str = OLDEST_KERNEL


@dataclass(frozen=True, slots=True)
class Report:
    """All records of a run; ``profile`` says how much was generated."""

    columns: tuple[Column, ...]
    profile: str
    records: tuple[Record, ...] = field(default=())

    @property
    def dataplanes(self) -> tuple[str, ...]:
        """The names of all that was judged."""
        return tuple(column.name for column in self.columns)

    def of(self, dataplane: str) -> tuple[Record, ...]:
        """The records of one dataplane."""
        return tuple(record for record in self.records if record.dataplane == dataplane)

    def result(self, dataplane: str) -> Result:
        """Failure beats partial; a run that executed nothing for a dataplane is a failure.

        Partial: a core capability is not declared, or a core expectation is known to be broken.
        """
        records = self.of(dataplane)
        words = {record.word for record in records}
        if "failed" in words or "passed" not in words:
            return "failure"
        lacking = any(column.core_lacking for column in self.columns if column.name == dataplane)
        broken = any(record.word == "known-broken" and record.level == "core" for record in records)
        return "partial" if lacking or broken else "success"

    def count(self, dataplane: str, word: Word) -> int:
        """How many expectations of a dataplane ended so."""
        return sum(record.word == word for record in self.of(dataplane))

    def executed(self, dataplane: str) -> bool:
        """Whether anything at all was held against a dataplane."""
        return any(self.count(dataplane, word) for word in ("passed", "failed", "known-broken"))

    def counts(self, dataplane: str) -> str:
        """How many ended how, in a few words."""
        told = [f"{count} {word}" for word in WORDS if (count := self.count(dataplane, word))]
        return ", ".join(told if self.executed(dataplane) else [*told, "nothing was executed"])

    def to_dict(self) -> Mapping[str, object]:
        """The report as ``report.json`` holds it."""
        return {
            "report_version": REPORT_VERSION,
            "policylab": version("policylab"),
            "host": {"kernel": platform.release(), "machine": platform.machine()},
            "profile": self.profile,
            "dataplanes": {column.name: self._column(column) for column in self.columns},
        }

    def _column(self, column: Column) -> Mapping[str, object]:
        return {
            "result": self.result(column.name),
            "capabilities": list(column.capabilities),
            "core_lacking": list(column.core_lacking),
            "min_kernel": column.min_kernel,
            "expectations": [_record(record) for record in self.of(column.name)],
        }


def _record(record: Record) -> Mapping[str, object]:
    told: dict[str, object] = {
        "id": record.expectation,
        "title": record.title,
        "level": record.level,
        "outcome": record.word,
        "seconds": round(record.seconds, 3),
    }
    regions = {} if record.regions is None else {"regions": record.regions}
    return told | ({"detail": record.detail} if record.detail else {}) | regions


def worst(results: Sequence[Result]) -> Result:
    """The result of several dataplanes together."""
    order: Sequence[Result] = ("success", "partial", "failure")
    return max(results, key=order.index, default="failure")
