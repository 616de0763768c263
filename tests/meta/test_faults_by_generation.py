# SPDX-License-Identifier: Apache-2.0
"""Faults that the generator finds without any hand-written case, and cuts down to one policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import Fault, lay
from snapshot_faults import SNAPSHOT_FAULTS
from step_faults import STEP_FAULTS

from dataplanes.iptables import IptablesDataplane
from lab.conformance.bundle import read_bundle
from lab.conformance.generated import POLICIES, Generated
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.scenario import Scenario
from lab.topology.load import load_topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# Drawn without chance, so that a test that passed once passes again; in one small lab, so that it is quick.
PROFILE, TOPOLOGY = "ci", "one-node"
# Those of which every other scenario tells; what is rarer takes more examples than a test should.
FOUND = ("forgets-ipv6", "tier-default-always-pass", "allow-rules-first", "local-egress-open", "never-updates")
BY_NAME = {fault.name: fault for fault in (*SNAPSHOT_FAULTS, *STEP_FAULTS)}


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    with Pool() as pool:
        yield Judge(pool, tmp_path, Patience(each=60, altogether=600))


def found_by_generation(fault: Fault, judge: Judge) -> Scenario:
    """What the generator finds; the broken dataplane fails it in a fresh lab, and the sound one does not."""
    broken = lay(fault, IptablesDataplane)
    failure = Generated(judge, broken).hold(PROFILE, load_topology(TOPOLOGY))
    assert failure is not None, fault.wrong
    assert f"FAILED {POLICIES.id}" in failure
    assert "failed 5 of 5 times when repeated" in failure
    found = read_bundle(judge.report / "bundles" / f"{broken.name}-{POLICIES.id}").scenario
    with Pool() as fresh:
        assert not fresh.run(found, broken).conformant
        assert fresh.run(found, IptablesDataplane).conformant
    return found


@pytest.mark.parametrize("name", FOUND)
def test_fault_is_found_without_a_case_and_shrunk_to_one_policy_and_one_flow(name: str, judge: Judge) -> None:
    found = found_by_generation(BY_NAME[name], judge)
    assert [str(document["kind"]).endswith("NetworkPolicy") for document in found.resources] == [True]
    assert len(found.flows) == 1
    assert found.before == ()


def test_without_patience_the_first_that_fails_is_told_as_it_is(tmp_path: Path) -> None:
    """Hypothesis by itself looks for a smaller one for up to five minutes."""
    with Pool() as pool:
        judge = Judge(pool, tmp_path, Patience(altogether=0))
        generated = Generated(judge, lay(BY_NAME["forgets-ipv6"], IptablesDataplane))
        failure = generated.hold(PROFILE, load_topology(TOPOLOGY))
    assert failure is not None
    assert "failed 1 of 1 times when repeated\nneither made smaller nor repeated more often" in failure
    assert len(generated.failing) == 1


def test_fault_that_needs_a_past_is_told_with_it(judge: Judge) -> None:
    found = found_by_generation(BY_NAME["removed-policy-stays"], judge)
    assert any(documents for documents in found.before)
