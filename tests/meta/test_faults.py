# SPDX-License-Identifier: Apache-2.0
"""Each fault, laid over a sound dataplane, is caught by the expectation that names it, and told as it should be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from all_faults import FAULTS
from faults import Detour, Fault, lay
from path_faults import PATH_FAULTS

from dataplanes.api import Dataplane
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance.case import Case, load_cases
from lab.conformance.harness import Harness
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.topology.load import load_topology
from lab.traffic.pcap import pcapng

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# One of each kind, and those that need the backend's own tables.
ON_LEGACY = (
    "forgets-ipv6",
    "ignores-not-nets",
    "truncates-ports",
    "stale-set-members",
    "half-update-ingress",
    "back-door",
)
THEIRS = ("inet", "theirs")
CASES = {case.id: case for case in load_cases()}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as opened:
        yield opened


@pytest.fixture
def judge(pool: Pool, tmp_path: Path) -> Judge:
    return Judge(pool, tmp_path, patience=Patience(each=0))


def met_by(dataplane: type[Dataplane], expectation: str) -> Case:
    case = CASES[expectation].within(dataplane.capabilities)
    assert case is not None
    return case


def fault_named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def assert_told(failure: str, fault: Fault, dataplane: type[Dataplane], report: Path) -> None:
    """The failure says what a person needs, in order, and the bundle holds the rest."""
    bundle = report / "bundles" / f"{dataplane.name}-{fault.caught_by}"
    told = [
        rf"FAILED {re.escape(fault.caught_by)}: .*{re.escape(CASES[fault.caught_by].title)}",
        rf"dataplane {re.escape(dataplane.name)}",
        r"policy:",
        r"flow:\n  \S+ \S+ -> \S+ \S+",
        r"expected (allow|deny), because of (ingress|egress|path): .+",
        r"observed (allow|deny|inconclusive): .+",
        r"grid:",
        rf"failed {'[1-5]' if fault.during else '5'} of 5 times when repeated",  # a moment is not always seen
        rf"reproduce: policylab replay {re.escape(str(bundle))}",
    ]
    assert re.search("(.|\n)*".join(told), failure), failure
    for file in ("topology.yaml", "resources.yaml", "flows.yaml", "bundle.json", "expected.json", "observed.json"):
        assert (bundle / file).is_file()
    assert (bundle / "capture.pcapng").stat().st_size > len(pcapng([]))
    forwarding = r" -A FORWARD|^\t+type filter hook forward"
    rulesets = [file.read_text() for file in (bundle / "rulesets").glob("*.txt")]
    assert any(re.search(forwarding, text, re.MULTILINE) for text in rulesets)


@pytest.mark.parametrize("dataplane", [IptablesDataplane, NftablesDataplane], ids=lambda found: found.name)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught_by_the_expectation_that_names_it(
    fault: Fault, dataplane: type[Dataplane], judge: Judge, tmp_path: Path
) -> None:
    case = met_by(dataplane, fault.caught_by)
    assert judge.hold_case(case, dataplane) is None

    broken = lay(fault, dataplane)
    failure = judge.hold_case(case, broken)

    assert failure is not None, fault.wrong
    assert_told(failure, fault, broken, tmp_path)


@pytest.mark.parametrize("name", ON_LEGACY)
def test_fault_over_the_other_backend_is_caught_too(name: str, judge: Judge, tmp_path: Path) -> None:
    fault = fault_named(name)
    case = met_by(IptablesLegacyDataplane, fault.caught_by)
    assert judge.hold_case(case, IptablesLegacyDataplane) is None

    broken = lay(fault, IptablesLegacyDataplane)
    failure = judge.hold_case(case, broken)

    assert failure is not None, fault.wrong
    assert_told(failure, fault, broken, tmp_path)


@pytest.mark.parametrize(
    ("name", "expectation"),
    [
        ("range-lacks-last-port", "rule.ports.range-first-included"),
        ("ties-by-creation", "policy.order.lower-first"),
        ("pass-in-last-tier-accepts", "tier.pass.skips-rest-of-tier"),
        ("known-rules-stay", "update.policy.subject-changes"),
        ("stale-set-members", "network-set.members.cover-pods"),
        ("ipv6-black-hole", "icmp.type.zero-is-a-constraint"),
    ],
)
def test_fault_leaves_another_expectation_alone(name: str, expectation: str, judge: Judge) -> None:
    """A fault is one mistake: were it any mess, that an expectation catches it would say little."""
    case = met_by(IptablesDataplane, expectation)
    assert judge.hold_case(case, lay(fault_named(name), IptablesDataplane)) is None


def test_packet_that_arrives_twice_is_inconclusive(judge: Judge) -> None:
    fault = fault_named("duplicator")
    failure = judge.hold_case(met_by(IptablesDataplane, fault.caught_by), lay(fault, IptablesDataplane))
    assert failure is not None
    assert "observed inconclusive: sent, arrived at x/server, it arrived more than once" in failure


def test_policy_that_stays_is_told_with_what_was_in_force_before(pool: Pool, tmp_path: Path) -> None:
    """Shrunk, and still one that fails in a fresh lab: the dataplane keeps what earlier candidates put in force."""
    fault = fault_named("removed-policy-stays")
    judge = Judge(pool, tmp_path)
    failure = judge.hold_case(met_by(IptablesDataplane, fault.caught_by), lay(fault, IptablesDataplane))
    assert failure is not None
    assert re.search(r"policy 1, in force before:\n.*before/01.yaml:1: (.|\n)*policy:\n  \(none\)\nflow:", failure), (
        failure
    )
    assert "failed 5 of 5 times" in failure


@pytest.mark.parametrize("fault", PATH_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_path_is_undone_by_stop(fault: Fault) -> None:
    topology = load_topology("one-node")
    broken = lay(fault, IptablesDataplane)
    commands = {(each.command, each.table, each.chain) for each in fault.path if isinstance(each, Detour)}
    with Harness(topology, IptablesDataplane) as harness:
        (node,) = harness.lab.nodes.values()

        def rules() -> list[str]:
            listed = [node.run((command, "-t", table, "-S", chain)).stdout for command, table, chain in commands]
            listed.append(node.run(("nft", "list", "table", *THEIRS)).stdout)
            return [line for text in listed for line in text.splitlines() if re.search('^-A|comment "door: ', line)]

        hooked = "{ type filter hook forward priority 0; }"
        for command in (("add", "table", *THEIRS), ("add", "chain", *THEIRS, "rules", hooked)):
            assert node.run(("nft", *command)).returncode == 0
        plane = broken(node)
        plane.start()
        assert rules() == []
        plane.stop()
        for detour in fault.path:
            detour.lay(node)
        assert len(rules()) == len(fault.path)
        plane.stop()
        assert rules() == []


def test_faults_have_names_of_their_own_and_expectations_that_exist() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert {fault.caught_by for fault in FAULTS} <= CASES.keys()
