# SPDX-License-Identifier: Apache-2.0
"""Each broken accelerator is caught by the check made for it, which the sound one passes in the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import test_sockmap_policy as policy
from sockmap_faults import ACCELERATOR_FAULTS, FAULTS, Fault, broken
from sockmap_world import world
from test_sockmap_policy import policed_by

from dataplanes.api import Snapshot, SnapshotDelta
from dataplanes.iptables import IptablesDataplane
from dataplanes.sockmap import SockmapAccelerator
from lab.conformance.case import load_cases
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_broken_accelerator_is_caught(fault: Fault, tmp_path: Path) -> None:
    with (
        world(tmp_path, broken(fault, tmp_path)) as faulty,
        pytest.raises((AssertionError, OSError, pytest.fail.Exception)),
    ):
        fault.caught_by(faulty)


class Bypassing(SockmapAccelerator):
    """Lets workloads with sidecars through whatever the dataplane says."""

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        super().apply(snapshot, delta)
        self._node.run(("iptables-nft", "-I", "FORWARD", "-j", "ACCEPT"))


def test_an_accelerator_that_goes_round_policy_is_caught(tmp_path: Path) -> None:
    with policed_by(tmp_path, Bypassing) as policed, pytest.raises(AssertionError):
        policy.test_a_policy_that_comes_later_stops_new_connections_and_cuts_none(policed, plain=False)


@pytest.mark.parametrize(
    ("accelerator", "expectation"), ACCELERATOR_FAULTS.items(), ids=lambda each: getattr(each, "name", "")
)
def test_a_broken_accelerator_is_caught_by_the_expectation_that_names_it(
    accelerator: type[SockmapAccelerator], expectation: str, tmp_path: Path
) -> None:
    case = next(each for each in load_cases() if each.id == expectation)
    with Pool([SockmapAccelerator]) as pool:
        assert Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(case, IptablesDataplane) is None
    with Pool([accelerator]) as pool:
        failure = Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(case, IptablesDataplane)
    assert failure is not None
    assert "counter redirected.bytes must have grown" in failure
