# SPDX-License-Identifier: Apache-2.0
"""What is judged in a run, and what it is called: dataplanes, alone and with accelerators before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dataplanes.api import OLDEST_KERNEL, TRAITS, Accelerator, Capability, Dataplane
from dataplanes.registry import load_accelerator, load_dataplane
from lab.conformance.kernel_version import version_of

__all__ = ["Judged", "combinations", "combined_name"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A dataplane with the accelerators before it: one column of the matrix."""

    dataplane: type[Dataplane]
    accelerators: tuple[type[Accelerator], ...] = ()

    @property
    def name(self) -> str:
        """As reports show it: ``iptables``, ``iptables+xdp``."""
        return combined_name(self.dataplane.name, [each.name for each in self.accelerators])

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it is held to: an accelerator adds nothing and takes nothing away."""
        return self.dataplane.capabilities

    @property
    def core_lacking(self) -> tuple[str, ...]:
        """The core capabilities that it does not declare."""
        return tuple(
            each.value for each in Capability if TRAITS[each].level == "core" and each not in self.capabilities
        )

    @property
    def known_broken(self) -> Mapping[str, str]:
        """What its plugins say that they fail: ids of expectations or globs of them, and why."""
        plugins = (self.dataplane, *self.accelerators)
        return {glob: reason for each in plugins for glob, reason in getattr(each, "known_broken", {}).items()}

    @property
    def min_kernel(self) -> str:
        """The oldest kernel on which all of it works."""
        plugins = (self.dataplane, *self.accelerators)
        return max((getattr(each, "min_kernel", OLDEST_KERNEL) for each in plugins), key=version_of)

    def broken(self, expectation: str) -> str | None:
        """Why it is known to fail an expectation; None: it is not."""
        reasons = (reason for glob, reason in self.known_broken.items() if fnmatchcase(expectation, glob))
        return next(reasons, None)


def combinations(dataplanes: Iterable[str], accelerators: Iterable[str]) -> list[Judged]:
    """Each dataplane alone, and then with all accelerators: they may change no verdict.

    Raises LabError, as the registry does, for one that is not installed or not what it should be.
    """
    before = tuple(load_accelerator(name) for name in accelerators)
    sets = dict.fromkeys([(), before])
    return [Judged(load_dataplane(name), chosen) for name in dataplanes for chosen in sets]


def combined_name(dataplane: str, accelerators: Sequence[str]) -> str:
    """The name of a dataplane with the accelerators before it."""
    return "+".join((dataplane, *accelerators))
