# SPDX-License-Identifier: Apache-2.0
"""What nobody wrote down: generated topologies, policies and flows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dataplanes.api import Dataplane
from lab.conformance.generated import EXPECTATION, TITLE, Generated
from lab.conformance.judge import Judge
from lab.topology.load import load_topology


@pytest.mark.expectation(EXPECTATION, TITLE)
def test_generated_scenarios_hold(
    dataplane: type[Dataplane],
    judge: Judge,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """Every drawn flow gets the oracle's verdict."""
    given = request.config.getoption("--topology")
    run = Generated(judge, dataplane)
    failure = run.hold(request.config.getoption("--lab-profile"), None if given is None else load_topology(given))
    record_property("covered", run.summary())
    if failure is not None:
        pytest.fail(failure, pytrace=False)
