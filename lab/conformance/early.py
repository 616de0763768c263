# SPDX-License-Identifier: Apache-2.0
"""What is promised of accelerators that drop early: the rules beneath them say the same, and drift does not last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from lab.conformance.case import load_cases
from lab.conformance.evidence import DATAPLANE, ExpectedEvidence, Told, unmet
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.scenario import LoadedScenario
from lab.fabric.bpf import detach_xdp, empty_maps

__all__ = ["falls_back", "survives_tampering"]

_CASE: Final = "host.do-not-track.blocklist-stops-everything"
"""All of its first step's flows are denied, by one source, early."""
_NODE, _INTERFACE = "node-1", "eth0"

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
    case = next(each for each in load_cases() if each.id == _CASE)
    scenario = case.scenario(0, judged.accelerators)
    if not scenario.evidence:
        raise NotHeldError("no accelerator declares that it drops early")
    if lacking := case.capabilities - judged.capabilities:
        raise NotHeldError(f"it does not declare {', '.join(sorted(each.value for each in lacking))}")
    loaded = scenario.load()
    with Harness(loaded.topology, judged.dataplane, judged.accelerators) as harness:
        harness.apply(loaded.resources)
        yield harness, loaded, scenario.evidence


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
