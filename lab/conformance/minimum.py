# SPDX-License-Identifier: Apache-2.0
"""Since which kernel a capability is to be had: on older ones its absence is explained, on newer ones a fault."""

from __future__ import annotations

from dataclasses import replace

from dataplanes.api import OLDEST_KERNEL, TRAITS
from lab.conformance.case import load_cases
from lab.conformance.kernel_version import version_of
from lab.conformance.record import Record

__all__ = ["held_to_minimum"]


def held_to_minimum(record: Record, release: str) -> Record:
    """The outcome on a kernel: what was skipped because the host lacks something has failed, unless it is too old."""
    if record.word != "skipped":
        return record
    capabilities = next((case.capabilities for case in load_cases() if case.id == record.expectation), frozenset())
    needed = (TRAITS[each].min_kernel or OLDEST_KERNEL for each in capabilities)
    since = max(needed, key=version_of, default=OLDEST_KERNEL)
    if version_of(release) < version_of(since):
        return record
    told = f"kernel {release} has to be able to do this, as every one since {since}; skipped: {record.detail}"
    return replace(record, word="failed", detail=told)
