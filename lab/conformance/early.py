# SPDX-License-Identifier: Apache-2.0
"""What is promised of accelerators that drop early: the rules beneath them say the same, and drift does not last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from lab.conformance.case import Case, load_cases
from lab.conformance.evidence import DATAPLANE, ExpectedEvidence, Told, unmet
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.scenario import LoadedScenario, Scenario
from lab.fabric.bpf import detach_xdp, empty_maps, resident_xdp

__all__ = ["falls_back", "follows_policy", "survives_tampering"]

_CASE: Final = "host.do-not-track.blocklist-stops-everything"
"""All of its first step's flows are denied, by one source, early."""
_NODE, _INTERFACE = "node-1", "eth0"
_STEPS: Final = (
    ("a denial whose set is empty", "host.do-not-track.sets-that-share-a-net", 3, True),
    ("no policy", "control.no-policy", 0, False),
    ("a denial again", _CASE, 0, True),
)
"""Policies for the same topology, and whether a program is called for."""

_TAMPERING: Final[Mapping[str, Callable[[str], int]]] = {
    "its program was detached": detach_xdp,
    "all entries were taken out of its maps": empty_maps,
}
_OTHER: Final[Mapping[Literal["grew", "still"], Literal["grew", "still"]]] = {"grew": "still", "still": "grew"}


def falls_back(judged: Judged) -> Iterator[str]:
    """What is wrong while accelerators are suspended, and after; raises NotHeldError where none is asked."""
    with _denying(judged) as (harness, loaded, expected):
        yield from _wrong("at first", harness, loaded, expected)
        with harness.unaccelerated():
            yield from _wrong(
                "suspended", harness, loaded, [replace(each, expect=_OTHER[each.expect]) for each in expected]
            )
        yield from _wrong("resumed", harness, loaded, expected)


def follows_policy(judged: Judged) -> Iterator[str]:
    """Programs that are there and should not be, or the reverse; raises NotHeldError where none is ever there."""
    with _denying(judged) as (harness, _, _):
        if not _has_program(harness):
            raise NotHeldError(f"no accelerator has an XDP program on {_INTERFACE}")
        for what, case, step, wanted in _STEPS:
            harness.apply(_scenario(case, step, judged).load().resources)
            if _has_program(harness) is not wanted:
                yield f"with {what} {_INTERFACE} of {_NODE} is to have {'an' if wanted else 'no'} XDP program"


def survives_tampering(judged: Judged) -> Iterator[str]:
    """What is wrong after somebody has tampered with XDP; raises NotHeldError where there is nothing to tamper with."""
    tampered = False
    with _denying(judged) as (harness, loaded, expected):
        node = harness.lab.nodes[_NODE]
        for what, tamper in _TAMPERING.items():
            sound = _facts(harness)
            if not node.inside(partial(tamper, _INTERFACE)):
                continue
            tampered = True
            reported = _facts(harness) != sound
            yield from _wrong(f"after {what}", harness, loaded, ())
            harness.apply(loaded.resources)
            lost = list(_wrong(f"applied again after {what}", harness, loaded, expected))
            if lost and not reported:
                yield from (f"{each}; nor do its facts say anything of it" for each in lost)
    if not tampered:
        raise NotHeldError(f"no accelerator has an XDP program on {_INTERFACE}")


@contextmanager
def _denying(judged: Judged) -> Iterator[tuple[Harness, LoadedScenario, Sequence[ExpectedEvidence]]]:
    """A lab in which one source is denied early, and what accelerators and dataplane are to tell of it."""
    case = _case(_CASE)
    scenario = _scenario(_CASE, 0, judged)
    if not scenario.evidence:
        raise NotHeldError("no accelerator declares that it drops early")
    if lacking := case.capabilities - judged.capabilities:
        raise NotHeldError(f"it does not declare {', '.join(sorted(each.value for each in lacking))}")
    loaded = scenario.load()
    with Harness(loaded.topology, judged.dataplane, judged.accelerators) as harness:
        harness.apply(loaded.resources)
        yield harness, loaded, scenario.evidence


def _case(name: str) -> Case:
    return next(each for each in load_cases() if each.id == name)


def _scenario(name: str, step: int, judged: Judged) -> Scenario:
    return _case(name).scenario(step, judged.accelerators)


def _has_program(harness: Harness) -> bool:
    return harness.lab.nodes[_NODE].inside(partial(resident_xdp, _INTERFACE)) is not None


def _wrong(when: str, harness: Harness, loaded: LoadedScenario, expected: Iterable[ExpectedEvidence]) -> Iterator[str]:
    """Flows that were not denied, and evidence that is not as expected."""
    before = _told(harness)
    for flow, seen in zip(loaded.flows, harness.observe(loaded.flows), strict=True):
        if seen.verdict != "deny":
            yield f"{when}: {flow.source} -> {flow.destination} is expected to be denied, observed {seen}"
    yield from (f"{when}: {reason}" for reason in unmet(expected, before, _told(harness)))


def _told(harness: Harness) -> Told:
    return {(node, DATAPLANE): each for node, each in harness.evidence().items()} | dict(harness.acceleration())


def _facts(harness: Harness) -> dict[tuple[str, str], Mapping[str, str]]:
    return {who: told.facts for who, told in harness.acceleration().items()}
