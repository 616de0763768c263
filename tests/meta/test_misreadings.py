# SPDX-License-Identifier: Apache-2.0
"""A dataplane that is told what somebody misread is caught by the expectations that say how it should be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest
from admin_misreadings import ADMIN_MISREADINGS
from faults import Fault
from host_misreadings import HOST_MISREADINGS
from kubernetes_misreadings import KUBERNETES_MISREADINGS
from misread import Misreading
from policy_misreadings import POLICY_MISREADINGS
from request_misreadings import REQUEST_MISREADINGS
from rule_misreadings import RULE_MISREADINGS

from dataplanes.api import Dataplane
from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane
from lab.conformance.case import Case, load_cases
from lab.conformance.harness import Harness
from lab.conformance.scenario import LoadedScenario
from lab.oracle import Oracle
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

CASES = {case.id: case for case in load_cases()}
ALL = (
    *POLICY_MISREADINGS,
    *RULE_MISREADINGS,
    *KUBERNETES_MISREADINGS,
    *ADMIN_MISREADINGS,
    *HOST_MISREADINGS,
    *REQUEST_MISREADINGS,
)


class Labs:
    """One open lab a topology: a misread topology is another one."""

    def __init__(self, stack: ExitStack, dataplane: type[Dataplane]) -> None:
        self._stack = stack
        self._dataplane = dataplane
        self._open: list[Harness] = []

    def observe(self, topology: Topology, resources: Resources, flows: tuple[Flow, ...]) -> list[str]:
        harness = next((each for each in self._open if each.topology == topology), None)
        if harness is None:
            harness = self._stack.enter_context(Harness(topology, self._dataplane))
            self._open.append(harness)
        harness.apply(resources)
        return [seen.verdict for seen in harness.observe(flows)]


@pytest.fixture(scope="module", params=[IptablesDataplane, NftablesDataplane], ids=lambda found: found.name)
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    with ExitStack() as stack:
        yield Labs(stack, request.param)


def steps(case: Case) -> Iterator[tuple[LoadedScenario, list[str]]]:
    """Each step with the verdicts that the case expects of its flows."""
    for number, step in enumerate(case.steps):
        yield case.scenario(number).load(), ["allow" if flow.allowed else "deny" for flow in step.flows]


@needs_root
@pytest.mark.parametrize("misreading", ALL, ids=lambda misreading: misreading.name)
def test_misreading_is_caught_by_the_expectations_that_it_names(misreading: Misreading, labs: Labs) -> None:
    for expectation in misreading.caught_by:
        noticed = False
        for loaded, expected in steps(CASES[expectation]):
            topology, resources = misreading.change(loaded.topology, loaded.resources)
            seen = labs.observe(topology, resources, loaded.flows)
            told = ["allow" if each.allowed else "deny" for each in Oracle(topology, resources).verdicts(loaded.flows)]
            assert seen == told, f"{expectation}: the dataplane did something else than what it was told"
            noticed |= seen != expected
        assert noticed, f"{expectation} does not notice: {misreading.wrong}"


def test_misreadings_have_names_of_their_own_and_expectations_that_exist() -> None:
    names = [misreading.name for misreading in ALL]
    assert len(set(names)) == len(names)
    assert {expectation for misreading in ALL for expectation in misreading.caught_by} <= CASES.keys()


def test_every_expectation_catches_something() -> None:
    """Whoever adds an expectation adds a fault or a misreading that it catches, in a module beside this one."""
    modules = [import_module(path.stem) for path in Path(__file__).parent.glob("*.py") if "test_" not in path.name]
    values = [value for module in modules for value in vars(module).values()]
    tuples = [value for value in values if isinstance(value, tuple)]
    faults = {each.caught_by for found in tuples for each in found if isinstance(each, Fault)}
    misread = {name for found in tuples for each in found if isinstance(each, Misreading) for name in each.caught_by}
    # Broken accelerators by the expectation that each names.
    broken = {name for found in values if isinstance(found, dict) for name in found.values() if isinstance(name, str)}
    assert sorted(CASES.keys() - faults - misread - broken) == []
