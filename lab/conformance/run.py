# SPDX-License-Identifier: Apache-2.0
"""Run the shipped suite in this process and put its outcomes together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from shutil import rmtree

from lab.conformance.apart import CALL_SECONDS
from lab.conformance.record import Record, Report
from lab.errors import HostError, LabError

__all__ = ["Request", "run_conformance"]

SUITE = "lab.conformance.suite"
PLUGIN = "lab.conformance.plugin"
JUNIT, REPORT = "junit.xml", "report.json"
SCRATCH = ".scratch"
"""A directory that pytest-xdist makes, and that stays empty; it goes at the end."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is about: dataplanes and accelerators by name, and how much is generated, in which topology."""

    dataplanes: tuple[str, ...]
    accelerators: tuple[str, ...]
    profile: str
    topology: Path | None = None
    level: str | None = None
    """Only expectations of this level, ``core`` or ``extended``; None for both."""
    only: str | None = None
    """Only expectations whose ids hold these words; see ``lab.conformance.choice``."""
    call_seconds: float = CALL_SECONDS
    """A plugin that takes longer for one call hangs."""
    jobs: int = 1
    """How many processes hold expectations, each with labs of its own."""


class _Listener:
    """Hears of every outcome, and at last of the report."""

    def __init__(self, tell: Callable[[Record], None]) -> None:
        self._tell = tell
        self.report: Report | None = None

    def pytest_policylab_record(self, record: Record) -> None:
        self._tell(record)

    def pytest_policylab_report(self, report: Report) -> None:
        self.report = report


def run_conformance(request: Request, directory: Path, tell: Callable[[Record], None]) -> Report:
    """Hold dataplanes to every expectation; ``tell`` is told of each outcome.

    ``report.json``, ``junit.xml`` and the bundles of what failed are written to ``directory``. Raises LabError when
    pytest itself could not run the suite, KeyboardInterrupt when the user stopped it.
    """
    import pytest

    listener = _Listener(tell)
    try:
        status = pytest.main(_arguments(request, directory), plugins=[listener])
    except OSError as error:  # pytest tells failures of tests in its own way: these are the files of the report
        for name in (JUNIT, REPORT):
            (directory / name).unlink(missing_ok=True)  # half a report is none
        raise HostError(
            "the report cannot be written",
            place=str(directory),
            value=error.strerror,
            next_step="make room there, or name another directory with --report",
        ) from error
    finally:
        rmtree(directory / SCRATCH, ignore_errors=True)
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if listener.report is None or status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise LabError("the suite could not be run", value=pytest.ExitCode(status).name)
    return listener.report


def _arguments(request: Request, directory: Path) -> list[str]:
    """The command line of pytest: our own settings, nothing of the directory in which the user stands."""
    os.environ.pop("PYTEST_ADDOPTS", None)
    named = [word for name in request.dataplanes for word in ("--dataplane", name)]
    named += [word for name in request.accelerators for word in ("--accelerator", name)]
    settings = str(files(__package__) / "suite" / "pytest.ini")
    return [
        *("--pyargs", SUITE, "-c", settings, "-p", PLUGIN, "-p", "no:terminal", "-p", "no:cacheprovider"),
        "--assert=plain",  # nothing is asserted; else each process would look at, and rewrite, all that it imports
        *named,
        *("--lab-profile", request.profile, "--lab-report", str(directory)),
        *("--lab-call-seconds", str(request.call_seconds)),
        f"--junitxml={directory / JUNIT}",
        *_spread(request.jobs, directory),
        *([] if request.topology is None else ["--topology", str(request.topology)]),
        *([] if request.level is None else ["-m", request.level]),
        *([] if request.only is None else ["--lab-only", request.only]),
    ]


def _spread(jobs: int, directory: Path) -> list[str]:
    """How pytest-xdist shares the work: each has a share, mostly of one dataplane, and then takes from others' ends."""
    if jobs == 1:
        return []
    return ["-n", str(jobs), "--dist", "worksteal", f"--basetemp={directory / SCRATCH}"]
