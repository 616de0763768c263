# SPDX-License-Identifier: Apache-2.0
"""From pytest's reports to records: what each test was about travels with its report, also between processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lab.conformance.case import Case
from lab.conformance.record import Column, Record, Report, Word

if TYPE_CHECKING:
    from pathlib import Path

    from lab.conformance.judged import Judged

__all__ = ["NOT_SUPPORTED", "About", "Outcomes", "about", "column_of"]

NOT_SUPPORTED = "not supported"
"""How the reason of a skip begins when the plugin lacks something; any other reason means that the host does."""
PROPERTY = "dataplane"

_About = dict[str, str]


class About:
    """Notes on every report which expectation and which dataplane it is about; works where the test does."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> Iterator[None]:  # noqa: ARG002 - pytest's signature
        """Add what the test is about, for us and for JUnit."""
        words = about(item)
        if words is not None and (PROPERTY, words["dataplane"]) not in item.user_properties:
            item.user_properties.append((PROPERTY, words["dataplane"]))
        report: Any = yield
        report.policylab = words
        return report  # type: ignore[no-any-return]  # what a wrapper returns is what the hook gives


class Outcomes:
    """Keeps a record of every expectation that was judged, and writes the report; works where reports come together."""

    def __init__(self, config: pytest.Config, columns: tuple[Column, ...], profile: str, directory: Path) -> None:
        self._hook = config.hook
        self._file = directory / "report.json"
        self.report = Report(columns, profile)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the call of a test, and also its set-up or tear-down when that went wrong."""
        if report.when == "call" or not report.passed:
            record = self._record(report)
            if record is not None:
                self.report = replace(self.report, records=(*self.report.records, record))
                self._hook.pytest_policylab_record(record=record)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report; a dataplane for which nothing was executed ends the run as pytest ends an empty one."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.report.to_dict(), indent=1) + "\n")
        self._hook.pytest_policylab_report(report=self.report)
        if session.exitstatus == pytest.ExitCode.OK and not all(map(self.report.executed, self.report.dataplanes)):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what the run means."""
        terminalreporter.section("policylab")
        for name in self.report.dataplanes:
            terminalreporter.write_line(f"{name}: {self.report.result(name)} ({self.report.counts(name)})")
        terminalreporter.write_line(f"report: {self._file}")

    def _record(self, report: Any) -> Record | None:
        words: _About | None = getattr(report, "policylab", None)
        if words is None:
            words = self._of_lost(report.nodeid)
        if words is None:
            return None
        level = cast("Any", words["level"])
        detail = _detail(report)
        return Record(
            words["id"],
            words["title"],
            level,
            words["dataplane"],
            _word(report),
            report.duration,
            detail,
            _regions(report),
        )

    def _of_lost(self, nodeid: str) -> _About | None:
        """What a test was about whose process died, as far as its name tells."""
        inside = nodeid.partition("[")[2].removesuffix("]")
        names = [name for name in self.report.dataplanes if inside == name or inside.startswith(f"{name}-")]
        if not names:
            return None
        name = max(names, key=len)
        expectation = inside.removeprefix(name).removeprefix("-") or nodeid
        return {"id": expectation, "title": expectation, "level": "core", "dataplane": name}


def column_of(judged: Judged) -> Column:
    """What a report says of something that is judged."""
    declared = tuple(sorted(each.value for each in judged.capabilities))
    return Column(judged.name, declared, judged.core_lacking, judged.min_kernel)


def about(item: pytest.Item) -> _About | None:
    """Which expectation a test is about (``id``, ``title``, ``level``) and which ``dataplane``; None where none is."""
    parameters = getattr(item, "callspec", None)
    if parameters is None or "judged" not in parameters.params:
        return None
    case, judged = parameters.params.get("case"), parameters.params["judged"]
    marker = item.get_closest_marker("expectation")
    if isinstance(case, Case):
        words = (case.id, case.title, case.level)
    else:
        words = (*marker.args, "core") if marker is not None else (item.name, item.name, "core")
    return {"id": words[0], "title": words[1], "level": words[2], "dataplane": judged.name}


def _word(report: pytest.TestReport) -> Word:
    if report.passed:
        return "passed"
    if report.failed:
        return "failed"
    if hasattr(report, "wasxfail"):
        return "known-broken"
    return "not-supported" if NOT_SUPPORTED in report.longreprtext else "skipped"


def _regions(report: pytest.TestReport) -> Mapping[str, float] | None:
    """What a test told of regions."""
    told = dict(report.user_properties).get("regions")
    return cast("Mapping[str, float] | None", told)


def _detail(report: pytest.TestReport) -> str:
    """Why it did not pass; for what passed, what it covered."""
    if report.passed:
        return "; ".join(str(value) for name, value in report.user_properties if name == "covered")
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext
