# SPDX-License-Identifier: Apache-2.0
"""Measures after how much that is drawn each fault is found, with all hand-written cases switched off.

Run as root, from a checkout, when faults or the generator have changed; then write the page anew:

    .venv/bin/python tests/meta/measure_generation.py [--chance] [FAULT...]
    .venv/bin/python tests/meta/write_faults.py

What the profile ci draws is measured, or with ``--chance`` what other seeds draw, of the faults in ``BY_CHANCE``.
Whatever is found the sound dataplane must pass, or it would be a false alarm.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cluster_faults import CLUSTER_FAULTS
from faults import Fault, lay
from flow_faults import FLOW_FAULTS
from hypothesis import settings
from packet_faults import PACKET_FAULTS
from path_faults import PATH_FAULTS, SWITCH_FAULTS
from snapshot_faults import SNAPSHOT_FAULTS
from step_faults import STEP_FAULTS
from window_faults import WINDOW_FAULTS

from dataplanes.api import Snapshot
from dataplanes.nftables import NftablesDataplane
from lab.conformance.changing import CHANGES, COURSES, Changing
from lab.conformance.generate.courses import Course
from lab.conformance.generated import POLICIES, PROFILES, Generated
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.regions import Coverage
from lab.conformance.scenario import Scenario
from lab.conformance.states import State
from lab.conformance.talking import PROFILES as TALK_PROFILES
from lab.conformance.talking import TALKS, Talking
from lab.errors import LabError
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources

SOUND: Final = NftablesDataplane
"""Under all faults: its changes take the least time."""
FILE: Final = Path(__file__).with_name("found_by_generation.json")
BY_CHANCE: Final = (
    "forgets-ipv6",
    "range-lacks-last-port",
    "removed-policy-stays",
    "closed-for-a-moment",
    "wrong-conntrack-zone",
    "answers-need-a-rule",
    "errors-are-cut",
    "sctp-begins-and-ends-there",
    "no-room-for-fragments",
    "extension-headers-pass",
)
"""One of each kind: families, port edges, what stays behind, moments, zones, answers, errors, SCTP, fragments."""
SEEDS: Final = (1, 2, 3, 4, 5)
MOST: Final = 300
"""Scenarios of a seed, at most; of courses as many as have that many steps."""
_STEPS: Final = COURSES["ci"][1]

Seen = tuple[int, Scenario] | None
"""The number of the example that failed, and what it was; None where none did."""
Found = dict[str, dict[str, int | None]]
"""By property and fault the number of the scenario or step that fails first, None where none of them did."""


class _Told:
    """What the dataplanes of all nodes are told in place of what they should be, and whether it ever differs."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.differs = bool(fault.path or fault.during)
        self._in_force: dict[str, Snapshot] = {}

    def apply(self, *states: State) -> None:
        """One state after another comes into force."""
        for state in states:
            for node, wanted in compile_snapshots(state.known, state.resources).items():
                told = self.fault.instead_of(wanted, self._in_force.get(node))
                self.differs |= told != wanted
                self._in_force[node] = told

    def restart(self) -> None:
        """Nobody remembers what was in force."""
        self._in_force.clear()


class _Generated(Generated):
    """Leaves out the kernel where a fault changes nothing of what is told, in a lab that has seen nothing before."""

    fault: Fault
    spared: Scenario | None = None

    def _steered(self, scenario: Scenario, most: int) -> tuple[Scenario, Coverage]:
        loaded, told = scenario.load(), _Told(self.fault)
        told.apply(State(Resources(), loaded.topology), *loaded.states)
        if told.differs or any(each.topology == scenario.topology for each in self.past):
            return Generated._steered(self, scenario, most)
        self.spared = scenario
        return scenario, Coverage()

    def _check(self, scenario: Scenario, coverage: Coverage) -> None:
        if scenario is self.spared:
            self.seen["scenarios"] += 1
        else:
            Generated._check(self, scenario, coverage)


class _Changing(Changing):
    """The same of whole courses; each has a lab of its own."""

    fault: Fault

    def _check(self, course: Course) -> None:
        told, steps = _Told(self.fault), 0
        blank = Scenario(course.topology, (), course.flows)
        nothing = blank.load().state
        told.apply(nothing)
        for edit in course.edits:
            with suppress(LabError):
                state = replace(blank, resources=edit.resources).load().state
                if edit.restart:
                    told.restart()
                told.apply(state)
                steps += 1
        for path in (course.again[-1:], course.again):
            told.apply(nothing)
            for resources in path:
                with suppress(LabError):
                    told.apply(replace(blank, resources=resources).load().state)
        if told.differs:
            Changing._check(self, course)
        else:
            self.seen["steps"] += steps


def scenarios_until(judge: Judge, fault: Fault, profile: str) -> Seen:
    """The first scenario that a dataplane fails, of those of a profile."""
    generated = _Generated(judge, lay(fault, SOUND))
    generated.fault = fault
    generated.hold(profile, None)  # without patience it stops at the first
    return (generated.seen["scenarios"], generated.failing[-1]) if generated.failing else None


def steps_until(judge: Judge, fault: Fault, profile: str) -> Seen:
    """The same of the steps of courses."""
    changing = _Changing(judge, lay(fault, SOUND))
    changing.fault = fault
    changing.hold(profile, None)
    return (changing.seen["steps"], changing.failing[0]) if changing.failing else None


def talks_until(judge: Judge, fault: Fault, profile: str) -> Seen:
    """The same of scenarios of conversations."""
    talking = Talking(judge, lay(fault, SOUND))
    talking.hold(profile, None)
    return (talking.seen["scenarios"], talking.failing[0]) if talking.failing else None


@dataclass(frozen=True, slots=True)
class Looking:
    """What looks for which faults."""

    until: Callable[[Judge, Fault, str], Seen]
    faults: tuple[Fault, ...]


MEASURED: Final[Mapping[str, Looking]] = {
    POLICIES.id: Looking(scenarios_until, (*SNAPSHOT_FAULTS, *STEP_FAULTS, *PATH_FAULTS, *SWITCH_FAULTS)),
    CHANGES: Looking(steps_until, (*STEP_FAULTS, *CLUSTER_FAULTS, *WINDOW_FAULTS)),
    TALKS: Looking(talks_until, (*FLOW_FAULTS, *PACKET_FAULTS)),
}


def number_of(looking: Looking, fault: Fault, profile: str) -> int | None:
    """The number of the first example that fails; the sound dataplane must not fail it, in a fresh lab."""
    with TemporaryDirectory() as directory, Pool() as pool:
        seen = looking.until(Judge(pool, Path(directory), Patience(0, 0)), fault, profile)
        if seen is None:
            return None
        with pool.fresh() as fresh:
            if not fresh.run(seen[1], SOUND).conformant:
                raise RuntimeError(f"a false alarm: {SOUND.name} fails what was found of {fault.name}: {seen[1]}")
        return seen[0]


def in_ci(names: Sequence[str]) -> None:
    """Measure the faults of these names, or what was not measured yet; what is known of others stays."""
    for drawn, looking in MEASURED.items():
        for fault in looking.faults:
            found: Found = json.loads(FILE.read_text())["ci"]
            if fault.name in (names or {each.name for each in looking.faults} - found.get(drawn, {}).keys()):
                number = number_of(looking, fault, "ci")
                sys.stderr.write(f"{drawn} {fault.name}: {number}\n")
                found = json.loads(FILE.read_text())["ci"]  # somebody else may have measured meanwhile
                found.setdefault(drawn, {})[fault.name] = number
                _keep("ci", {key: dict(sorted(each.items())) for key, each in sorted(found.items())})


def by_chance(names: Sequence[str]) -> None:
    """The same with seeds, of faults that each stand for a kind."""
    for profiles in (PROFILES, TALK_PROFILES):  # dev draws as ci does, and by chance
        profiles["dev"] = settings(profiles["dev"], max_examples=MOST)
    COURSES["dev"] = settings(COURSES["dev"][0], max_examples=MOST // _STEPS), _STEPS
    for drawn, looking in MEASURED.items():
        for fault in looking.faults:
            found: dict[str, dict[str, list[int | None]]] = json.loads(FILE.read_text())["by-chance"]
            wanted = names or set(BY_CHANCE) - found.get(drawn, {}).keys()
            if fault.name not in BY_CHANCE or fault.name not in wanted:
                continue
            numbers = []
            for seed in SEEDS:
                random.seed(seed)  # it is what draws the seed of each round
                numbers.append(number_of(looking, fault, "dev"))
            sys.stderr.write(f"{drawn} {fault.name}: {numbers}\n")
            found = json.loads(FILE.read_text())["by-chance"]
            found.setdefault(drawn, {})[fault.name] = numbers
            _keep("by-chance", found)


def _keep(part: str, found: object) -> None:
    kept = json.loads(FILE.read_text()) | {part: found}
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    (by_chance if "--chance" in given else in_ci)([each for each in given if each != "--chance"])
