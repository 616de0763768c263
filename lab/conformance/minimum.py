# SPDX-License-Identifier: Apache-2.0
"""Since which kernel a capability is to be had: on older ones its absence is explained, on newer ones a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dataplanes.api import Capability
from lab.conformance.case import load_cases
from lab.conformance.record import Record

__all__ = ["ACCELERATOR_MINIMUM", "MINIMUM_KERNEL", "OLDEST", "held_to_minimum", "version_of"]

OLDEST: Final = (5, 10)
"""What the suite is held to on every kernel from here on, unless it says otherwise below."""
MINIMUM_KERNEL: Final[Mapping[Capability, tuple[int, int]]] = {}
"""Capabilities that need a newer one."""
ACCELERATOR_MINIMUM: Final[Mapping[str, tuple[int, int]]] = {"sockmap": (5, 14)}
"""Accelerators that need a newer one: sockmap tells workloads apart by the cookies of their network namespaces
(SO_NETNS_COOKIE, Linux 5.14)."""


def version_of(release: str) -> tuple[int, ...]:
    """Major and minor number of a kernel's release."""
    return tuple(int(part) for part in release.split("-", maxsplit=1)[0].split(".")[:2])


def held_to_minimum(record: Record, release: str) -> Record:
    """The outcome on a kernel: what was skipped because the host lacks something has failed, unless it is too old."""
    if record.word != "skipped":
        return record
    capabilities = next((case.capabilities for case in load_cases() if case.id == record.expectation), frozenset())
    since = max((MINIMUM_KERNEL.get(each, OLDEST) for each in capabilities), default=OLDEST)
    if version_of(release) < since:
        return record
    oldest = ".".join(map(str, since))
    told = f"kernel {release} has to be able to do this, as every one since {oldest}; skipped: {record.detail}"
    return replace(record, word="failed", detail=told)
