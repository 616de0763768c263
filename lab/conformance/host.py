# SPDX-License-Identifier: Apache-2.0
"""What this host lacks for an expectation; never to be mixed up with what a plugin lacks."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterable, Iterator

from dataplanes.api import OLDEST_KERNEL, TRAITS, Accelerator, Capability, Dataplane, HostError, LabError
from dataplanes.registry import accelerator_names, dataplane_names, load_accelerator, load_dataplane
from lab.conformance.judged import Judged
from lab.conformance.kernel_version import version_of
from lab.fabric.finding import Finding
from lab.sidecar.envoy import envoy_path

__all__ = ["lacking", "plugin_findings", "too_old", "too_old_for"]


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


def too_old_for(judged: Judged) -> str | None:
    """Why the running kernel cannot run what is judged, and what would mend it; None when it can."""
    running = platform.release()
    if version_of(running) >= version_of(judged.min_kernel):
        return None
    return f"this host's kernel is {running}; {judged.name} needs {judged.min_kernel}: run it on a newer kernel"


def plugin_findings() -> Iterator[Finding]:
    """Whether the running kernel is new enough for each plugin that is installed."""
    kinds = (("dataplane", dataplane_names(), load_dataplane), ("accelerator", accelerator_names(), load_accelerator))
    for kind, names, load in kinds:
        for name in names:
            yield _plugin_finding(kind, name, load)


def _plugin_finding(kind: str, name: str, load: Callable[[str], type[Dataplane | Accelerator]]) -> Finding:
    what = f"{kind} {name}"
    try:
        oldest = getattr(load(name), "min_kernel", OLDEST_KERNEL)
    except LabError as error:
        return Finding(what, "no", str(error), f"--{kind} {name}")
    fits = version_of(platform.release()) >= version_of(oldest)
    return Finding(what, "yes" if fits else "no", f"needs kernel {oldest} or newer", f"--{kind} {name}")


def too_old(capabilities: Iterable[Capability]) -> str | None:
    """Why the running kernel cannot do what is needed, and what would mend it; None when it can."""
    running = platform.release()
    for capability in sorted(capabilities, key=lambda each: each.value):
        needed = TRAITS[capability].min_kernel
        if needed is not None and version_of(running) < version_of(needed):
            return f"this host's kernel is {running}; {capability.value} needs {needed}: run it on a newer kernel"
    return None
