# SPDX-License-Identifier: Apache-2.0
"""What is wrong for a moment only, or does not follow, is found without a case; so is a start that opens everything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_faults import CLUSTER_FAULTS
from faults import lay
from window_faults import WINDOW_FAULTS

from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance.changing import CHANGES, Changing
from lab.conformance.judge import Judge
from lab.conformance.judged import Judged
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.promises import PROMISES
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# Those that show whatever the change is.
FOUND = ("bare-for-a-moment", "closed-for-a-moment")
# The step during which packets fared otherwise, and when those were sent, counted from its beginning.
STEP, TOOK = r"step \d+ \(.+\)", r"\(apply took \d+\.\d ms\)"
WHAT, TIME = "(got through|cut)", r"[+-]\d+\.\d{3}"
RESTART = next(each for each in PROMISES if each.id == "plugin.restart.no-window")


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    with Pool() as pool:
        yield Judge(pool, tmp_path, Patience(0, 0))


@pytest.mark.parametrize("dataplane", [IptablesDataplane, NftablesDataplane], ids=lambda found: found.name)
@pytest.mark.parametrize("name", FOUND)
def test_fault_of_a_moment_is_found_while_policy_changes_and_told_with_its_times(
    name: str, dataplane: type[IptablesDataplane | NftablesDataplane], judge: Judge
) -> None:
    fault = next(each for each in WINDOW_FAULTS if each.name == name)
    changing = Changing(judge, lay(fault, dataplane))
    failure = changing.hold("ci", load_topology("one-node"))
    assert failure is not None, fault.wrong
    assert f"FAILED {CHANGES}" in failure
    assert changing.failing is not None
    moments = "\n".join(changing.failing[1].moments)
    assert re.match(
        rf"from what was in force to {STEP}, time 1 {TOOK}: of \d+ packets of the flow .+ {WHAT}\n", moments
    )
    assert re.search(rf"\n  {WHAT}: sent between {TIME} and {TIME} ms", moments)
    told = rf"while policy changed:\n  from (what was in force to {STEP}|policy \d+ to the last policy), time \d {TOOK}"
    assert re.search(rf"{told}: of \d+ packets .+\n    {WHAT}: sent between {TIME} and {TIME} ms", failure)


@pytest.mark.parametrize("dataplane", [IptablesDataplane, NftablesDataplane], ids=lambda found: found.name)
def test_sound_dataplanes_pass(dataplane: type[IptablesDataplane | NftablesDataplane], judge: Judge) -> None:
    changing = Changing(judge, dataplane)
    assert changing.hold("ci", load_topology("one-node")) is None
    assert changing.seen["steps"] > 20
    assert RESTART.broken(Judged(dataplane)) is None


@pytest.mark.parametrize("name", ["gone-workload-stays", "late-workload-waits"])
def test_fault_of_a_dataplane_that_does_not_follow_the_cluster_is_found(name: str, judge: Judge) -> None:
    fault = next(each for each in CLUSTER_FAULTS if each.name == name)
    changing = Changing(judge, lay(fault, NftablesDataplane))
    failure = changing.hold("ci", None)
    assert failure is not None, fault.wrong
    assert f"FAILED {CHANGES}" in failure
    assert "grid:" in failure


class Forgetful(NftablesDataplane):
    """Takes away at its start what another run has left in force."""

    name = "forgetful"

    def start(self) -> None:
        self.stop()
        super().start()


def test_start_that_takes_away_what_is_in_force_is_found() -> None:
    told = RESTART.broken(Judged(Forgetful))
    assert told is not None
    assert "was let through in" in told
