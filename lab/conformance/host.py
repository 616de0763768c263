# SPDX-License-Identifier: Apache-2.0
"""What this host lacks for an expectation; never to be mixed up with what a plugin lacks."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Iterable

from dataplanes.api import TRAITS, Capability, HostError
from lab.sidecar.envoy import envoy_path

__all__ = ["lacking", "too_old"]


def lacking(capabilities: Collection[Capability]) -> str | None:
    """What the host lacks of what is needed, and what would mend it; None when it has all."""
    reason = too_old(capabilities)
    return _without_envoy() if reason is None and Capability.L7_HTTP in capabilities else reason


def _without_envoy() -> str | None:
    try:
        envoy_path()
    except HostError as error:
        return str(error)
    return None


def too_old(capabilities: Iterable[Capability]) -> str | None:
    """Why the running kernel cannot do what is needed, and what would mend it; None when it can."""
    running = platform.release()
    for capability in sorted(capabilities, key=lambda each: each.value):
        needed = TRAITS[capability].min_kernel
        if needed is not None and _version(running) < _version(needed):
            return f"this host's kernel is {running}; {capability.value} needs {needed}: run it on a newer kernel"
    return None


def _version(release: str) -> tuple[int, ...]:
    """The first two numbers of a release: ``6.1.0-18-amd64`` is (6, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])
