# SPDX-License-Identifier: Apache-2.0
"""Run the shipped suite in this process and put its outcomes together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from lab.conformance.record import Record, Report
from lab.errors import HostError, LabError

__all__ = ["run_conformance"]

SUITE = "lab.conformance.suite"
PLUGIN = "lab.conformance.plugin"


def run_conformance(
    dataplanes: Sequence[str],
    profile: str,
    directory: Path,
    topology: Path | None,
    listener: object,
) -> Report:
    """Hold dataplanes to every expectation; ``listener`` (a ``plugin.Listener``) is told of each outcome.

    ``junit.xml`` and the bundles of what failed are written to ``directory``. Raises LabError when pytest
    itself could not run the suite, KeyboardInterrupt when the user stopped it.
    """
    import pytest

    from lab.conformance.plugin import Recorder

    report = Report(tuple(dataplanes), profile)
    records: list[Record] = []

    def listen(record: Record) -> None:
        records.append(record)
        listener(record)  # type: ignore[operator]

    try:
        status = pytest.main(_arguments(dataplanes, profile, directory, topology), plugins=[Recorder(listen)])
    except OSError as error:  # pytest tells failures of tests in its own way: this is its own junit.xml
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


def _arguments(dataplanes: Sequence[str], profile: str, directory: Path, topology: Path | None) -> list[str]:
    """The command line of pytest: our own settings, nothing of the directory in which the user stands."""
    os.environ.pop("PYTEST_ADDOPTS", None)
    named = [word for name in dataplanes for word in ("--dataplane", name)]
    settings = str(files(__package__) / "suite" / "pytest.ini")
    return [
        *("--pyargs", SUITE, "-c", settings, "-p", PLUGIN, "-p", "no:terminal", "-p", "no:cacheprovider"),
        *named,
        *("--lab-profile", profile, "--lab-report", str(directory), f"--junitxml={directory / 'junit.xml'}"),
        *("-o", f"junit_suite_name={'+'.join(dataplanes)}"),
        *([] if topology is None else ["--topology", str(topology)]),
    ]
