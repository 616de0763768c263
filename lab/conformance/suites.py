# SPDX-License-Identifier: Apache-2.0
"""The conformance tests as classes, to be run as they are or subclassed by a plugin's author."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

import pytest

from dataplanes.api import Capability
from lab.conformance.apart_judge import ApartJudge, Drawn
from lab.conformance.case import Case, cheapest_first, load_cases
from lab.conformance.changing import CHANGES, CHANGES_TITLE
from lab.conformance.choice import OF_KNOWN_BROKEN, expectation_ids
from lab.conformance.generated import DRAWS, SHIPPED, Draws
from lab.conformance.host import lacking as host_lacks
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.outcomes import NOT_SUPPORTED
from lab.conformance.promises import PROMISES, Promise
from lab.conformance.talking import TALKS, TALKS_TITLE
from lab.errors import NoLabError
from lab.topology import Topology
from lab.topology.load import load_topology

__all__ = ["Contract", "Expectations", "GeneratedChanges", "GeneratedScenarios", "GeneratedTalks", "conclude"]


class Expectations:
    """Every hand-written expectation, held against everything that is judged; a subclass chooses its ``cases``."""

    cases: ClassVar[Sequence[Case]] = cheapest_first(load_cases())

    def test_expectation_holds(self, case: Case, judged: Judged, judge: ApartJudge) -> None:
        """The dataplane gives every flow of the case the verdict that its author wrote down."""
        met = case.within(judged.capabilities)
        if met is None:
            lacking = ", ".join(sorted(each.value for each in case.capabilities - judged.capabilities))
            # It can also be that what it declares leaves no flow to be sent.
            pytest.skip(f"{NOT_SUPPORTED}: {judged.dataplane.name} does not declare {lacking or 'any of its flows'}")
        if (reason := host_lacks(case.capabilities)) is not None:
            pytest.skip(reason)
        try:
            failure = judge.hold_case(met)
        except NoLabError as error:
            pytest.skip(f"this host cannot have the lab: {error}")
        conclude(judged, case.id, failure)


class GeneratedScenarios:
    """What nobody wrote down: generated topologies, policies and flows."""

    @pytest.mark.parametrize(
        "draws", [pytest.param(each, id=each.id, marks=pytest.mark.expectation(each.id, each.title)) for each in DRAWS]
    )
    @pytest.mark.slow
    def test_generated_scenarios_hold(
        self,
        draws: Draws,
        judged: Judged,
        judge: ApartJudge,
        request: pytest.FixtureRequest,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Every drawn flow gets the oracle's verdict."""
        if (reason := host_lacks(draws.capabilities)) is not None:
            pytest.skip(reason)
        topology = _given_topology(request)
        if draws.sidecars and topology is not None and not any(each.sidecar for each in topology.workloads.values()):
            given = request.config.getoption("--topology")
            pytest.skip(f"no workload of {given} has a sidecar of which requests could be made")
        drawn = judge.hold_generated(draws, request.config.getoption("--lab-profile"), topology)
        _conclude_drawn(judged, draws, drawn, record_property)

    @pytest.mark.expectation(SHIPPED.id, SHIPPED.title)
    @pytest.mark.slow
    def test_shipped_policies_hold(
        self, judged: Judged, judge: ApartJudge, record_property: Callable[[str, object], None]
    ) -> None:
        """A flow in every region of every example gets the oracle's verdict."""
        _conclude_drawn(judged, SHIPPED, judge.hold_shipped(), record_property)


class GeneratedTalks:
    """What nobody wrote down and has more than one packet."""

    @pytest.mark.expectation(TALKS, TALKS_TITLE)
    @pytest.mark.slow
    def test_generated_conversations_hold(
        self,
        judged: Judged,
        judge: ApartJudge,
        request: pytest.FixtureRequest,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Every packet of every conversation fares as the model of connections says."""
        _skip_where_lacking(judged, {Capability.CONNECTIONS, Capability.LIVE_UPDATE})
        topology = _given_topology(request)
        drawn = judge.hold_talks(request.config.getoption("--lab-profile"), topology)
        record_property("covered", drawn.covered)
        conclude(judged, TALKS, drawn.failure)


class GeneratedChanges:
    """What nobody wrote down and happens while policy changes."""

    @pytest.mark.expectation(CHANGES, CHANGES_TITLE)
    @pytest.mark.slow
    def test_generated_changes_hold(
        self,
        judged: Judged,
        judge: ApartJudge,
        request: pytest.FixtureRequest,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Nothing is seen during any step that must not be, and after it every flow gets the oracle's verdict."""
        _skip_where_lacking(judged, {Capability.LIVE_UPDATE})
        topology = _given_topology(request)
        drawn = judge.hold_changes(request.config.getoption("--lab-profile"), topology)
        record_property("covered", drawn.covered)
        conclude(judged, CHANGES, drawn.failure)


def _marks(promise: Promise) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.expectation(promise.id, promise.title)]
    return [*marks, pytest.mark.slow] if promise.slow else marks


class Contract:
    """What plugins promise and say of themselves, whatever policies say."""

    @pytest.mark.parametrize("promise", [pytest.param(each.id, marks=_marks(each)) for each in PROMISES])
    def test_promise_is_kept(self, promise: str, judged: Judged, judge: ApartJudge) -> None:
        """The plugin does what its contract says."""
        try:
            failure = judge.hold_promise(promise)
        except NotHeldError as error:
            pytest.skip(f"{NOT_SUPPORTED}: {error}")
        conclude(judged, promise, failure)

    @pytest.mark.expectation(OF_KNOWN_BROKEN, "What a plugin calls known broken are expectations.")
    def test_known_broken_expectations_exist(self, judged: Judged) -> None:
        """A name with a slip in it would excuse nothing, and nobody would notice."""
        known = expectation_ids()
        unknown = [glob for glob in judged.known_broken if not any(fnmatchcase(each, glob) for each in known)]
        if unknown:
            pytest.fail(f"known_broken of {judged.name} names no expectation: {', '.join(unknown)}", pytrace=False)


def _given_topology(request: pytest.FixtureRequest) -> Topology | None:
    """The only one in which anything is to be drawn, if the command line names one."""
    given = request.config.getoption("--topology")
    return None if given is None else load_topology(given)


def _skip_where_lacking(judged: Judged, needed: set[Capability]) -> None:
    if lacking := ", ".join(sorted(each.value for each in needed - judged.capabilities)):
        pytest.skip(f"{NOT_SUPPORTED}: {judged.dataplane.name} does not declare {lacking}")


def _conclude_drawn(judged: Judged, draws: Draws, drawn: Drawn, record_property: Callable[[str, object], None]) -> None:
    record_property("covered", drawn.covered)
    record_property("regions", drawn.regions)
    if not drawn.scenarios:
        pytest.skip(f"{NOT_SUPPORTED}: {judged.dataplane.name} declares too little for anything to be drawn")
    conclude(judged, draws.id, drawn.failure)


def conclude(judged: Judged, expectation: str, failure: str | None) -> None:
    """End a test: pass, fail, or fail as the plugin says itself that it does. What passes is not known to be broken."""
    reason = judged.broken(expectation)
    if failure is not None and reason is not None:
        pytest.xfail(reason)
    if failure is not None:
        pytest.fail(failure, pytrace=False)
    if reason is not None:
        pytest.fail(
            f"{expectation} is known to be broken with {judged.name} ({reason}), and it holds: "
            "take it off the plugin's known_broken",
            pytrace=False,
        )
