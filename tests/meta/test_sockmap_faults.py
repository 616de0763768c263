# SPDX-License-Identifier: Apache-2.0
"""Each broken accelerator is caught by the check made for it, which the sound one passes in the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import test_sockmap_policy as policy
from sockmap_faults import FAULTS, Fault, broken
from sockmap_world import world
from test_sockmap_policy import policed_by

from dataplanes.api import Snapshot, SnapshotDelta
from dataplanes.sockmap import SockmapAccelerator

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
