# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of the conformance kit: options, the judge that tests ask, and a record of each outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from dataplanes.api import Accelerator, Dataplane
from dataplanes.registry import dataplane_names, load_accelerator, load_dataplane
from lab.conformance.case import Case
from lab.conformance.judge import Judge
from lab.conformance.judged import combinations, combined_name
from lab.conformance.pool import Pool
from lab.conformance.record import Record, Word
from lab.errors import LabError

__all__ = ["NOT_SUPPORTED", "PROFILES", "Listener"]

PROFILES = ("dev", "ci", "nightly")
NOT_SUPPORTED = "not supported"
"""How the reason of a skip begins when the plugin lacks something; any other reason means that the host does."""

Listener = Callable[[Record], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a conformance run."""
    group = parser.getgroup("policylab", "policylab conformance")
    group.addoption("--dataplane", action="append", metavar="NAME", help="dataplane to judge (repeatable)")
    group.addoption(
        "--accelerator",
        action="append",
        default=[],
        metavar="NAME",
        help="accelerator before each dataplane (repeatable); each dataplane is judged alone and with all of them",
    )
    group.addoption("--lab-report", type=Path, default=Path("policylab-report"), metavar="DIR", help="where bundles go")
    group.addoption("--lab-profile", choices=PROFILES, default="dev", help="how much to generate")
    group.addoption("--topology", type=Path, metavar="FILE", help="generate policy and flows in this topology only")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run that would judge nothing: no dataplane, or one that nobody installed."""
    config.addinivalue_line("markers", "expectation(id, title): what a test holds a dataplane to")
    names = config.getoption("--dataplane")
    if not names:
        raise pytest.UsageError(f"--dataplane NAME is needed; installed: {', '.join(dataplane_names())}")
    try:
        for name in names:
            load_dataplane(name)
        for name in config.getoption("--accelerator"):
            load_accelerator(name)
    except LabError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> str:
    """The effective values of a run."""
    names = ", ".join(combined_name(*each) for each in _judged(config))
    return f"policylab: dataplanes {names}; profile {config.getoption('--lab-profile')}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a dataplane runs once for each one named, and once more with the accelerators."""
    if "dataplane" in metafunc.fixturenames:
        judged = _judged(metafunc.config)
        metafunc.parametrize(
            ("dataplane", "accelerators"),
            [(load_dataplane(name), tuple(map(load_accelerator, before))) for name, before in judged],
            ids=[combined_name(*each) for each in judged],
            scope="session",
        )


def _judged(config: pytest.Config) -> list[tuple[str, tuple[str, ...]]]:
    return combinations(config.getoption("--dataplane"), config.getoption("--accelerator"))


@pytest.fixture(scope="session")
def accelerators() -> tuple[type[Accelerator], ...]:
    """What takes work off the dataplane in this test; nothing, unless it is told otherwise."""
    return ()


@pytest.fixture(scope="session")
def pool(accelerators: tuple[type[Accelerator], ...]) -> Iterator[Pool]:
    """The labs of the run."""
    with Pool(accelerators) as opened:
        yield opened


@pytest.fixture
def judge(pool: Pool, request: pytest.FixtureRequest) -> Judge:
    """What holds scenarios against a dataplane and tells of the failures."""
    return Judge(pool, request.config.getoption("--lab-report"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell an error that is meant for users in its own words, without the way through this package."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy sends the inner hooks' result
    if report.failed and call.excinfo is not None and isinstance(call.excinfo.value, LabError):
        report.longrepr = str(call.excinfo.value)
    return report  # type: ignore[return-value]  # and takes it from what a wrapper returns


class Recorder:
    """Hands a Record of every expectation that was judged to a listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> Iterator[None]:
        """Record the call of a test, and also its set-up or tear-down when that went wrong."""
        report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy sends the inner hooks' result
        if call.when == "call" or not report.passed:
            self._listener(_record(item, report))
        return report  # type: ignore[return-value]  # and takes it from what a wrapper returns


def _record(item: pytest.Function, report: pytest.TestReport) -> Record:
    parameters = item.callspec.params
    case, dataplane = parameters.get("case"), cast("type[Dataplane]", parameters["dataplane"])
    before = cast("tuple[type[Accelerator], ...]", parameters["accelerators"])
    judged = combined_name(dataplane.name, [each.name for each in before])
    if isinstance(case, Case):
        expectation, title, level = case.id, case.title, case.level
    else:
        marker = item.get_closest_marker("expectation")
        expectation, title = marker.args if marker is not None else (item.name, item.name)
        level = "core"
    return Record(expectation, title, level, judged, _word(report), report.duration, _detail(report))


def _word(report: pytest.TestReport) -> Word:
    if report.passed:
        return "passed"
    if report.failed:
        return "failed"
    return "not-supported" if NOT_SUPPORTED in report.longreprtext else "skipped"


def _detail(report: pytest.TestReport) -> str:
    """Why it did not pass; for what passed, what it covered."""
    if report.passed:
        return "; ".join(str(value) for name, value in report.user_properties if name == "covered")
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext
