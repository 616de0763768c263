# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of the conformance kit: options, what is judged, the judge that tests ask, and the report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy
import pytest
from _pytest.junitxml import xml_key

from dataplanes.api import Accelerator, Dataplane
from dataplanes.registry import dataplane_names
from lab.conformance.apart import CALL_SECONDS
from lab.conformance.apart_judge import ApartJudge
from lab.conformance.case import Case
from lab.conformance.choice import Choice
from lab.conformance.host import too_old_for
from lab.conformance.judged import Judged, combinations
from lab.conformance.outcomes import About, Outcomes, about, column_of
from lab.errors import HostError, LabError

if TYPE_CHECKING:
    from lab.conformance.record import Record, Report

__all__ = ["PROFILES"]

PROFILES = ("dev", "ci", "nightly")

FIXTURES = "lab.conformance.fixtures"
_JUDGED = pytest.StashKey[list[Judged]]()
_CHOICE = pytest.StashKey[Choice | None]()
_MARKERS = (
    "expectation(id, title): what a test holds a dataplane to",
    "requires(*capabilities): what a dataplane must declare to be held to it",
    "core: a dataplane that lacks what it needs is partial",
    "extended: many a dataplane lacks what it needs",
    "experimental: what it demands may change from one release to the next",
    "slow: takes many seconds, and comes last, or first where several processes share the work",
    "unconfirmed: derived from upstream's sources, never seen in a run of it",
)


class Hooks:
    """What listeners may implement."""

    def pytest_policylab_record(self, record: Record) -> None:
        """An expectation was judged."""

    def pytest_policylab_report(self, report: Report) -> None:
        """All of them were."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make the hooks known."""
    pluginmanager.add_hookspecs(Hooks)


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
    group.addoption("--lab-only", metavar="WORDS", help="only expectations whose ids hold these words (and, or, not)")
    group.addoption("--lab-profile", choices=PROFILES, default="dev", help="how much to generate")
    group.addoption(
        "--lab-call-seconds",
        type=float,
        default=CALL_SECONDS,
        metavar="N",
        help="a plugin that takes longer for one call hangs (default: %(default)g)",
    )
    group.addoption("--topology", type=Path, metavar="FILE", help="generate policy and flows in this topology only")


@pytest.hookimpl(trylast=True)  # behind that of JUnit
def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run that would judge nothing: no dataplane, or one that nobody installed."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    names = config.getoption("--dataplane")
    if not names:
        raise pytest.UsageError(f"--dataplane NAME is needed; installed: {', '.join(dataplane_names())}")
    try:
        judged = combinations(names, config.getoption("--accelerator"))
        choice = _choice(config.getoption("--lab-only"), judged)
    except LabError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_JUDGED] = judged
    config.stash[_CHOICE] = choice
    config.pluginmanager.register(About())
    config.pluginmanager.import_plugin(FIXTURES)  # late: the last of a name counts, and testinfra has a host
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist only sends its reports
        # When the main process was killed there is nobody to send them to, and nobody who wants to read of it.
        warnings.filterwarnings("ignore", category=pluggy.PluggyTeardownRaisedWarning)
    else:
        _put_together(config, judged)


def _choice(words: str | None, judged: list[Judged]) -> Choice | None:
    if words is None:
        return None
    choice = Choice(words)
    choice.check([each.name for each in judged])
    return choice


def _put_together(config: pytest.Config, judged: list[Judged]) -> None:
    columns = tuple(map(column_of, judged))
    directory = config.getoption("--lab-report")
    config.pluginmanager.register(Outcomes(config, columns, config.getoption("--lab-profile"), directory))
    junit = config.stash.get(xml_key, None)
    if junit is not None and junit.suite_name == "pytest":  # nobody chose another name
        junit.suite_name = ", ".join(each.name for each in judged)


def pytest_report_header(config: pytest.Config) -> str:
    """The effective values of a run."""
    names = ", ".join(each.name for each in config.stash[_JUDGED])
    return f"policylab: dataplanes {names}; profile {config.getoption('--lab-profile')}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for it runs once for everything that is judged, and once for every case of its class."""
    if "judged" in metafunc.fixturenames:
        judged = metafunc.config.stash[_JUDGED]
        metafunc.parametrize("judged", judged, ids=[each.name for each in judged], scope="session")
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", [pytest.param(case, marks=_marks(case), id=case.id) for case in _cases(metafunc)])


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Let pytest's own ``-k`` know each test by the id of its expectation, too."""
    if (words := about(item)) is not None:
        item.extra_keyword_matches.add(words["id"])


@pytest.hookimpl(trylast=True)  # pytest itself has put together what shares a judge
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long comes last with each that is judged: most failures are told before.

    Where several processes share the work it comes first, and the others tell: nobody is to wait for it at the end.
    """
    if (choice := config.stash[_CHOICE]) is not None:
        chosen: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            is_chosen = (words := about(item)) and choice.holds(words["id"], words["dataplane"])
            (chosen if is_chosen else others).append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
    shared = hasattr(config, "workerinput")
    judged = [getattr(item, "callspec", None) and item.callspec.params.get("judged") for item in items]  # type: ignore[attr-defined]  # only functions have it
    first = {each: number for number, each in reversed(list(enumerate(judged)))}
    late = [
        each is not None and (item.get_closest_marker("slow") is None) is shared
        for item, each in zip(items, judged, strict=True)
    ]
    items[:] = [items[number] for number in sorted(range(len(items)), key=lambda at: (first[judged[at]], late[at], at))]


def _cases(metafunc: pytest.Metafunc) -> list[Case]:
    return list(getattr(metafunc.cls, "cases", ()))


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    marks = [
        getattr(pytest.mark, case.level),
        pytest.mark.requires(*sorted(each.value for each in case.capabilities)),
    ]
    return [*marks, pytest.mark.unconfirmed] if case.unconfirmed else marks


@pytest.fixture(scope="session")
def dataplane(judged: Judged) -> type[Dataplane]:
    """The dataplane that is judged."""
    return judged.dataplane


@pytest.fixture(scope="session")
def accelerators(judged: Judged) -> tuple[type[Accelerator], ...]:
    """What takes work off it."""
    return judged.accelerators


@pytest.fixture(scope="session")
def judge(judged: Judged, request: pytest.FixtureRequest) -> Iterator[ApartJudge]:
    """What holds expectations against it and tells of failures; skips all of them where this host cannot run it."""
    options = request.config.option
    if (reason := too_old_for(judged)) is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(ApartJudge(judged, options.lab_report, options.lab_call_seconds))
        except HostError as error:
            pytest.skip(f"this host cannot run {judged.name}: {error}")
        yield opened


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell an error that is meant for users in its own words, without the way through this package."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy sends the inner hooks' result
    if report.failed and call.excinfo is not None and isinstance(call.excinfo.value, LabError):
        report.longrepr = str(call.excinfo.value)
    return report  # type: ignore[return-value]  # and takes it from what a wrapper returns
