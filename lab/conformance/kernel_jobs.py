# SPDX-License-Identifier: Apache-2.0
"""What is run in one machine of the kernel matrix: the suite, accelerators by themselves, and files of tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol
from xml.etree import ElementTree

from dataplanes.api import OLDEST_KERNEL
from lab.conformance.apart import CALL_SECONDS
from lab.conformance.case import load_cases
from lab.conformance.judged import combinations
from lab.conformance.kernel_version import version_of
from lab.conformance.outcomes import column_of
from lab.conformance.record import Column, Record, Word
from lab.conformance.run import JUNIT, REPORT, Request

__all__ = ["FilesRun", "Job", "SuiteRun", "requests_of"]

_PROMISES: Final = (
    *("plugin.stop.leaves-nothing", "plugin.apply.touches-nothing-foreign", "plugin.evidence.makes-sense"),
    *("plugin.start.takes-over", "plugin.acceleration"),
)
"""Those that accelerators can break; the others are about the dataplane beneath."""
_REHEARSED: Final = "control.no-policy"


class Job(Protocol):
    """A command that is run in a machine and leaves a report in a directory."""

    @property
    def name(self) -> str:
        """What its directory is called."""
        ...

    def columns(self) -> list[Column]:
        """What it judges."""
        ...

    def command(self, report: str) -> list[str]:
        """Its words; ``report`` is the directory there."""
        ...

    def rehearsal(self, report: str) -> list[str] | None:
        """The words of a run on this host that fills the caches which machines see; None where there is none."""
        ...

    def records(self, report: Path) -> Iterator[Record]:
        """What has come of it; raises OSError, ValueError or KeyError where ``report``, a directory here, has none."""
        ...

    @property
    def min_kernel(self) -> str:
        """The oldest kernel on which it can be asked for."""
        ...


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """``policylab conformance``; with an ``accelerator``, only that one before its dataplane counts."""

    request: Request
    accelerator: str | None = None

    @property
    def name(self) -> str:
        """What its directory is called."""
        return self.accelerator or "suite"

    def columns(self) -> list[Column]:
        """What it judges."""
        judged = combinations(self.request.dataplanes, self.request.accelerators)
        return [column_of(each) for each in judged if bool(each.accelerators) == bool(self.accelerator)]

    def command(self, report: str) -> list[str]:
        """Its words."""
        request = self.request
        return [
            *(sys.executable, "-m", "lab.cli", "conformance", "--report", report, "--profile", request.profile),
            *("--jobs", str(request.jobs)),
            # Where nobody says how long, a machine knows better.
            *([] if request.call_seconds == CALL_SECONDS else ["--call-seconds", str(request.call_seconds)]),
            *(word for name in request.dataplanes for word in ("--dataplane", name)),
            *(word for name in request.accelerators for word in ("--accelerator", name)),
            *([] if request.level is None else ["--level", request.level]),
            *([] if request.only is None else ["--only", request.only]),
            *([] if request.topology is None else ["--topology", str(request.topology.resolve())]),
        ]

    def rehearsal(self, report: str) -> list[str] | None:
        """One short expectation: then Python has kept all modules, and BPF for any kernel is compiled.

        In an emulated machine both take half a minute and more.
        """
        return replace(self, request=replace(self.request, level=None, only=_REHEARSED, topology=None)).command(report)

    def records(self, report: Path) -> Iterator[Record]:
        """What a report.json tells of its columns."""
        told: dict[str, Any] = json.loads((report / REPORT).read_text(encoding="utf-8"))
        for judged in (column.name for column in self.columns()):
            for each in told["dataplanes"][judged]["expectations"]:
                title, level, detail = each["title"], each["level"], each.get("detail", "")
                yield Record(each["id"], title, level, judged, each["outcome"], each["seconds"], detail)

    @property
    def min_kernel(self) -> str:
        """The oldest kernel on which all that is judged works."""
        return max((each.min_kernel for each in self.columns()), key=version_of)


@dataclass(frozen=True, slots=True)
class FilesRun:
    """A file of tests, run by pytest in the checkout that it belongs to."""

    path: Path

    @property
    def name(self) -> str:
        """What its directory and its column are called."""
        return self.path.stem

    def columns(self) -> list[Column]:
        """One, which declares nothing."""
        return [Column(self.name, (), ())]

    def command(self, report: str) -> list[str]:
        """Its words."""
        file = self.path.resolve()
        words = (sys.executable, "-m", "pytest", "-v", "-n", "0", "-p", "no:cacheprovider", "--timeout", "0", str(file))
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(file.parent), *words, f"--junitxml={report}/{JUNIT}"]

    def rehearsal(self, report: str) -> list[str] | None:  # noqa: ARG002 - the signature of a Job
        """Nothing: it is about what this host lacks."""
        return None

    def records(self, report: Path) -> Iterator[Record]:
        """One for each test, by its outcome in the JUnit file."""
        for each in ElementTree.parse(report / JUNIT).iter("testcase"):  # noqa: S314 - of a machine of ours
            word, detail = _outcome(each)
            name, seconds = each.attrib["name"], float(each.attrib["time"])
            yield Record(f"{self.name}.{name}", name, "extended", self.name, word, seconds, detail)

    @property
    def min_kernel(self) -> str:
        """Any: tests say by themselves what they need."""
        return OLDEST_KERNEL


def _outcome(case: ElementTree.Element) -> tuple[Word, str]:
    words: Sequence[tuple[str, Word]] = (("failure", "failed"), ("error", "failed"), ("skipped", "skipped"))
    for tag, word in words:
        if (found := case.find(tag)) is not None:
            return word, found.text or found.attrib.get("message", "")
    return "passed", ""


def requests_of(request: Request) -> list[SuiteRun]:
    """The dataplanes alone, then each accelerator before the last of them, with what proves that it was at work.

    That are the expectations that demand its evidence, and what it promises by its contract: the verdicts of all others
    with it are the business of the host's own kernel.
    """
    dataplane = request.dataplanes[-1]
    runs = [SuiteRun(replace(request, accelerators=()))]
    for judged in combinations([dataplane], request.accelerators)[1:]:
        for accelerator in judged.accelerators:
            proven = (case.id for case in load_cases() if case.capabilities <= accelerator.capabilities)
            asked = {case.id for case in load_cases() if any(step.evidence for step in case.steps)}
            only = _any_of(f"{dataplane}+{accelerator.name}", [*_PROMISES, *(each for each in proven if each in asked)])
            chosen = replace(request, dataplanes=(dataplane,), accelerators=(accelerator.name,), level=None, only=only)
            runs.append(SuiteRun(chosen, accelerator.name))
    return runs


def _any_of(judged: str, names: Iterable[str]) -> str:
    return f"{judged} and ({' or '.join(names)})"
