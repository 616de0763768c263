# SPDX-License-Identifier: Apache-2.0
"""Run the shipped suite in this process and put its outcomes together."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from lab.conformance.judged import combinations, combined_name
from lab.conformance.record import Record, Report
from lab.errors import HostError, LabError

__all__ = ["Request", "run_conformance"]

SUITE = "lab.conformance.suite"
PLUGIN = "lab.conformance.plugin"
JUNIT = "junit.xml"


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is about: dataplanes and accelerators by name, and how much is generated, in which topology."""

    dataplanes: tuple[str, ...]
    accelerators: tuple[str, ...]
    profile: str
    topology: Path | None = None

    @property
    def judged(self) -> tuple[str, ...]:
        """What is judged, by name: each dataplane alone, and with all accelerators before it."""
        return tuple(combined_name(*each) for each in combinations(self.dataplanes, self.accelerators))


def run_conformance(request: Request, directory: Path, listener: object) -> Report:
    """Hold dataplanes to every expectation; ``listener`` (a ``plugin.Listener``) is told of each outcome.

    ``junit.xml`` and the bundles of what failed are written to ``directory``. Raises LabError when pytest
    itself could not run the suite, KeyboardInterrupt when the user stopped it.
    """
    import pytest

    from lab.conformance.plugin import Recorder

    report = Report(request.judged, request.profile)
    records: list[Record] = []

    def listen(record: Record) -> None:
        records.append(record)
        listener(record)  # type: ignore[operator]

    try:
        status = pytest.main(_arguments(request, directory), plugins=[Recorder(listen)])
    except OSError as error:  # pytest tells failures of tests in its own way: this is its own junit.xml
        (directory / JUNIT).unlink(missing_ok=True)
        raise HostError(
            "the report cannot be written",
            place=str(directory),
            value=error.strerror,
            next_step="make room there, or name another directory with --report",
        ) from error
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise LabError("the suite could not be run", value=pytest.ExitCode(status).name)
    return replace(report, records=tuple(records))


def _arguments(request: Request, directory: Path) -> list[str]:
    """The command line of pytest: our own settings, nothing of the directory in which the user stands."""
    os.environ.pop("PYTEST_ADDOPTS", None)
    named = [word for name in request.dataplanes for word in ("--dataplane", name)]
    named += [word for name in request.accelerators for word in ("--accelerator", name)]
    settings = str(files(__package__) / "suite" / "pytest.ini")
    return [
        *("--pyargs", SUITE, "-c", settings, "-p", PLUGIN, "-p", "no:terminal", "-p", "no:cacheprovider"),
        *named,
        *("--lab-profile", request.profile, "--lab-report", str(directory)),
        f"--junitxml={directory / JUNIT}",
        *("-o", f"junit_suite_name={', '.join(request.judged)}"),
        *([] if request.topology is None else ["--topology", str(request.topology)]),
    ]
