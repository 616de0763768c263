# SPDX-License-Identifier: Apache-2.0
"""What became of each expectation with each dataplane, and the report made of it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

__all__ = ["REPORT_VERSION", "Record", "Report"]

REPORT_VERSION = 1

Word = Literal["passed", "failed", "not-supported", "skipped"]


@dataclass(frozen=True, slots=True)
class Record:
    """One expectation held against one dataplane.

    ``not-supported``: the dataplane does not declare what the expectation needs; ``skipped``: this host lacks
    it. ``detail`` tells why, or is the whole failure.
    """

    expectation: str
    title: str
    level: str
    dataplane: str
    word: Word
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All records of a run; ``profile`` says how much was generated."""

    dataplanes: tuple[str, ...]
    profile: str
    records: tuple[Record, ...] = field(default=())

    def of(self, dataplane: str) -> tuple[Record, ...]:
        """The records of one dataplane."""
        return tuple(record for record in self.records if record.dataplane == dataplane)

    def result(self, dataplane: str) -> Literal["success", "partial", "failure"]:
        """Failure beats partial; a run that executed nothing for a dataplane is a failure.

        Partial: a core expectation needs a capability that the dataplane does not declare.
        """
        records = self.of(dataplane)
        words = {record.word for record in records}
        if "failed" in words or "passed" not in words:
            return "failure"
        lacking = any(record.word == "not-supported" and record.level == "core" for record in records)
        return "partial" if lacking else "success"

    def count(self, dataplane: str, word: Word) -> int:
        """How many expectations of a dataplane ended so."""
        return sum(record.word == word for record in self.of(dataplane))

    def to_dict(self) -> dict[str, object]:
        """The report as ``report.json`` holds it."""
        return {
            "report_version": REPORT_VERSION,
            "policylab": version("policylab"),
            "host": {"kernel": platform.release(), "machine": platform.machine()},
            "profile": self.profile,
            "dataplanes": {name: self._dataplane(name) for name in self.dataplanes},
        }

    def _dataplane(self, name: str) -> dict[str, object]:
        return {"result": self.result(name), "expectations": [_record(record) for record in self.of(name)]}


def _record(record: Record) -> dict[str, object]:
    told: dict[str, object] = {
        "id": record.expectation,
        "title": record.title,
        "level": record.level,
        "outcome": record.word,
        "seconds": round(record.seconds, 3),
    }
    return told | ({"detail": record.detail} if record.detail else {})


def worst(results: Sequence[str]) -> str:
    """The result of several dataplanes together."""
    return max(results, key=("success", "partial", "failure").index, default="failure")
