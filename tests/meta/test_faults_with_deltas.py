# SPDX-License-Identifier: Apache-2.0
"""The faults once more, over a dataplane that follows deltas; and faults of deltas alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from deltas import DELTA_FAULTS, DeltaFault, lay_in_delta, lay_with_deltas
from faults import Fault
from test_faults import CASES, FAULTS

from dataplanes.nftables import NftablesDataplane
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SOUND = DeltaFault("sound", "Nothing.", "", lambda _before, delta: delta)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with Pool() as pool:
        yield Judge(pool, tmp_path_factory.mktemp("report"), Patience(altogether=0))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_over_one_that_is_told_deltas_is_caught_too(fault: Fault, judge: Judge) -> None:
    failure = judge.hold_case(CASES[fault.caught_by], lay_with_deltas(fault, NftablesDataplane))
    assert failure is not None, fault.wrong


@pytest.mark.parametrize("fault", DELTA_FAULTS, ids=lambda fault: fault.name)
def test_misread_delta_is_caught(fault: DeltaFault, judge: Judge) -> None:
    case = CASES[fault.caught_by]
    assert judge.hold_case(case, lay_in_delta(SOUND, NftablesDataplane)) is None
    assert judge.hold_case(case, lay_in_delta(fault, NftablesDataplane)) is not None, fault.wrong
