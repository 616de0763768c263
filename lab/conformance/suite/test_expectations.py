# SPDX-License-Identifier: Apache-2.0
"""Every hand-written expectation, held against every dataplane."""

from __future__ import annotations

import pytest

from dataplanes.api import Dataplane
from lab.conformance.case import Case, load_cases
from lab.conformance.judge import Judge
from lab.conformance.plugin import NOT_SUPPORTED


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.id)
def test_expectation_holds(case: Case, dataplane: type[Dataplane], judge: Judge) -> None:
    """The dataplane gives every flow of the case the verdict that its author wrote down."""
    met = case.within(dataplane.capabilities)
    if met is None:
        lacking = ", ".join(sorted(each.value for each in case.capabilities - dataplane.capabilities))
        pytest.skip(f"{NOT_SUPPORTED}: {dataplane.name} does not declare {lacking}")
    failure = judge.hold_case(met, dataplane)
    if failure is not None:
        pytest.fail(failure, pytrace=False)
